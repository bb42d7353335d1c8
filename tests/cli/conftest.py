"""What all tests of the command line share."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support import warm


@pytest.fixture(scope="session", autouse=True)
def _imported() -> Iterator[None]:
    """Import the program once for all its processes."""
    with warm.imported():
        yield
