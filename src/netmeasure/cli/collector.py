"""Let the garbage collector run when it may find something.

Imports make many objects that stay, and so do the columns of a result. The collector would search
among them again and again: that takes longer than the analysis of a test with many streams.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager

#: New objects of containers, less those that are gone, after which a program that measures searches
#: the new ones. Python's own number is 700.
SELDOM = 50_000


@contextmanager
def without_collector() -> Iterator[None]:
    """Switch the collector off until `collect_again` is called, or the block ends."""
    often = gc.get_threshold()
    gc.disable()
    try:
        yield
    finally:
        gc.set_threshold(*often)
        gc.enable()


def collect_again(*, seldom: bool) -> None:
    """Switch the collector on, when all modules are loaded. `seldom`: the program ends soon and
    holds large results, so that it searches less often than a server."""
    if seldom:
        gc.set_threshold(SELDOM, *gc.get_threshold()[1:])
    gc.enable()
