"""Make a control group with a limit of memory and of tasks, as a container has one; needs root."""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_MIB = 2**20


class Group:
    """Hold the folders of one group: of version 2, or of the two controllers of version 1."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def enter(self, *words: str) -> list[str]:
        """Return a command that runs another command within the group."""
        joins = "".join(f"echo $$ > {here}/cgroup.procs; " for here in {*self._folders.values()})
        return ["sh", "-c", joins + 'exec "$@"', "sh", *words]

    def limit(self, *, memory_mib: int | None = None, tasks: int | None = None) -> None:
        if memory_mib is not None:
            here = self._folders["memory"]
            old = here / "memory.limit_in_bytes"
            (old if old.exists() else here / "memory.max").write_text(str(memory_mib * _MIB))
        if tasks is not None:
            (self._folders["pids"] / "pids.max").write_text(str(tasks))

    def kills(self) -> int:
        """Return how many processes of the group the kernel has killed for lack of memory."""
        here = self._folders["memory"]
        old = here / "memory.oom_control"
        words = (old if old.exists() else here / "memory.events").read_text().split()
        return int(words[words.index("oom_kill") + 1])

    def remove(self) -> None:
        for here in {*self._folders.values()}:
            for _ in range(100):
                with contextlib.suppress(OSError):
                    here.rmdir()
                    break
                time.sleep(0.05)  # a process has only just ended


def _made() -> Group | None:
    name = f"netmeasure-{os.getpid()}"
    controllers = _ROOT / "cgroup.controllers"
    try:
        if controllers.exists():
            if not {"memory", "pids"} <= set(controllers.read_text().split()):
                return None
            (_ROOT / name).mkdir()
            return Group(dict.fromkeys(("memory", "pids"), _ROOT / name))
        folders = {kind: _ROOT / kind / name for kind in ("memory", "pids")}
        for here in folders.values():
            here.mkdir()
    except OSError:
        return None
    return Group(folders)


@contextlib.contextmanager
def group() -> Iterator[Group | None]:
    """Make a group of this process's own; give None if this host does not allow that."""
    found = _made()
    try:
        yield found
    finally:
        if found is not None:
            found.remove()
