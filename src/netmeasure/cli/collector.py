"""Keep the garbage collector from running while the program is loaded: imports make many objects
that stay, among which it would search again and again, and no garbage."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_collector() -> Iterator[None]:
    """Switch the collector off, until `collect_again` is called or the block ends."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def collect_again() -> None:
    """Switch the collector on. Call this when all modules are loaded."""
    gc.enable()
