"""What all tests share."""

# Imported early: pytest's terminal summary would import it deep in its stack, where CPython 3.11's parser gives up.
from collections.abc import Iterator
from typing import Any

import hypothesis
import pytest

hypothesis.settings.register_profile("default", deadline=None, derandomize=True)
hypothesis.settings.load_profile("default")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Any]:
    """One server for all tests that want one."""
    import postgres as server

    with server.running() as one:
        yield one
