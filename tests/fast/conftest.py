"""Fixtures of the tests of the native loops."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from support.tcp_rig import Rig


@pytest.fixture
def rig() -> Iterator[Rig]:
    """Sockets and threads that are closed and joined whatever happens."""
    rig = Rig()
    yield rig
    rig.close()
