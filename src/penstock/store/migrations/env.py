"""What Alembic runs: the steps on the connection that it is handed, or as SQL text without one.

penstock db upgrade → schema → [env] → versions
"""

from __future__ import annotations

from alembic import context

from penstock.store.schema import VERSION_TABLE
from penstock.store.tables import metadata


def run() -> None:
    """All steps in one transaction: a step that fails leaves nothing behind."""
    connection = context.config.attributes.get("connection")
    if connection is None:
        dialect = context.config.get_main_option("dialect")
        context.configure(
            dialect_name=dialect, target_metadata=metadata, version_table=VERSION_TABLE, literal_binds=True
        )
    else:
        # SQLite's tables are made inside a transaction too: it was begun by hand.
        context.configure(
            connection=connection, target_metadata=metadata, version_table=VERSION_TABLE, transactional_ddl=True
        )
    with context.begin_transaction():
        context.run_migrations()


run()
