"""Arrays in, numbers out: pure functions over recorded series.

Some stand on numpy, which takes longer to load than a server to open its port. Whoever is under way
uses them as attributes of this package, which load them on their first use; `load` does so before a
test, so that it does not happen in one.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netmeasure.analysis import course, limits, sequential, series, steady

_ON_NUMPY = ("course", "limits", "sequential", "series", "steady")
__all__ = ["course", "limits", "load", "sequential", "series", "steady"]


def load() -> None:
    """Load everything now. May be called in any thread."""
    for name in _ON_NUMPY:
        import_module(f"netmeasure.analysis.{name}")


def __getattr__(name: str) -> ModuleType:
    if name in _ON_NUMPY:
        return import_module(f"netmeasure.analysis.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
