"""Compute figures from recorded series by pure functions from arrays to numbers.

Steady state  `steady` finds it in the `series`, cut into `batches`. `truncation` finds the ramp,
              which `departures` and `approach` tell from an outage, a dip or a step. `changes`
              finds levels; `confidence` and `remainder` say how well the rate is known, and
              `sequential` when that is enough.
Bottleneck    `bottleneck` has the figures, `bottleneck_rules` the decision, `course` both for each
              period, and `pauses` when a host kept its threads from running.
Others        `loss`, `ceiling` and `flow_ceiling`; `samples` for a few runs; `columns` for all.

Some modules need numpy, which takes longer to load than a server takes to open its port. Code that
runs during a test uses these modules as attributes of this package, which imports them at their
first use. To keep a first use from delaying a test, `load` imports them before, or a thread imports
MODULES.
"""

from importlib import import_module
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from netmeasure.analysis import bottleneck, course, sequential, series, steady

_ON_NUMPY = ("bottleneck", "course", "sequential", "series", "steady")
#: The full names of the modules that `load` imports.
MODULES = tuple(f"netmeasure.analysis.{name}" for name in _ON_NUMPY)
__all__ = ["MODULES", "bottleneck", "course", "load", "sequential", "series", "steady"]


def load() -> None:
    """Import the modules that need numpy. Any thread may call this function."""
    for name in MODULES:
        import_module(name)


def __getattr__(name: str) -> ModuleType:
    if name in _ON_NUMPY:
        return import_module(f"netmeasure.analysis.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
