"""Compute figures from recorded series: pure functions, arrays in and numbers out.

Some modules need numpy, which takes longer to load than a server takes to open its port. Code that
runs during a test uses them as attributes of this package, which imports them at their first use;
`load` imports them before a test, so that no import delays one.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netmeasure.analysis import bottleneck, course, sequential, series, steady

_ON_NUMPY = ("bottleneck", "course", "sequential", "series", "steady")
__all__ = ["bottleneck", "course", "load", "sequential", "series", "steady"]


def load() -> None:
    """Import the modules that need numpy, now. Any thread may call it."""
    for name in _ON_NUMPY:
        import_module(f"netmeasure.analysis.{name}")


def __getattr__(name: str) -> ModuleType:
    if name in _ON_NUMPY:
        return import_module(f"netmeasure.analysis.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
