"""Check the results that a program measures, in every Python process that a test starts.

Python imports a module of this name when it starts, and `support.held.watch_programs` adds this
folder to the processes' path. Nothing else is loaded until the program loads what measures.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence
    from importlib.machinery import ModuleSpec

#: The modules that measure, and the class in each that holds the result.
_MEASURING = {
    "netmeasure.measurement.run": "Run",
    "netmeasure.peer.server.session": "Session",
}


class _Finder:
    """Find the modules that measure by the other finders, and check their results from the time on
    when they are loaded."""

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: Any = None
    ) -> ModuleSpec | None:
        if name not in _MEASURING:
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(name, path, target) for finder in others)
        spec = next((one for one in found if one is not None), None)
        if spec is not None and spec.loader is not None:
            _check_when_loaded(spec.loader, _MEASURING[name])
        return spec


def _check_when_loaded(loader: Any, name: str) -> None:
    load = loader.exec_module

    def exec_module(module: Any) -> None:
        load(module)
        getattr(module, name).result = _held().Held(_note)

    loader.exec_module = exec_module


def _held() -> Any:
    """Return `support.held`, which is not in the path of a program."""
    import importlib.util

    place = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "held.py")
    spec = importlib.util.spec_from_file_location("netmeasure_tests_held", place)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _note(found: list[str]) -> None:
    with open(_FILE, "a") as file:
        file.write(f"{' '.join(sys.argv)}: {'; '.join(found)}\n")


_FILE = os.environ.get("NETMEASURE_TESTS_IMPOSSIBLE", "")
if _FILE:
    sys.meta_path.insert(0, _Finder())
