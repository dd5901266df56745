"""The steps from one shape of the tables to the next; Alembic runs them, `penstock db upgrade` calls it."""
