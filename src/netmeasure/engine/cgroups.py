"""Read the memory, process and CPU limits of this process's control group, such as a container's.

Linux, cgroups(7): version 2, or the memory, pids and cpu controllers of version 1. A missing value
(no container, a hidden hierarchy) is None.
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

#: Larger limits of version 1 mean "no limit".
_NO_LIMIT = 2**60


class Usage(NamedTuple):
    memory_bytes: int | None = None
    memory_limit_bytes: int | None = None
    #: how long the CPU quota kept the group from running, since it was created
    throttled_ns: int | None = None
    #: processes and threads
    tasks: int | None = None
    tasks_limit: int | None = None
    #: the part of the memory that the kernel can reclaim at once: the cache of files
    memory_files_bytes: int | None = None


class Cgroup:
    """Read the files of one process's control groups; the paths are looked up once."""

    def __init__(
        self, listing: Path = Path("/proc/self/cgroup"), root: Path = Path("/sys/fs/cgroup")
    ) -> None:
        self._memory: Path | None = None
        self._limit: Path | None = None
        self._cpu: Path | None = None
        self._tasks: Path | None = None
        self._throttled = ("throttled_usec", 1000)
        try:
            lines = [line.split(":", 2) for line in listing.read_text().splitlines()]
        except OSError:
            return
        for _, controllers, path in (line for line in lines if len(line) == 3):
            names = controllers.split(",")
            if controllers == "":
                self._version_2(_first(root, path))
            elif "memory" in names:
                here = _first(root / "memory", path)
                self._memory = here / "memory.usage_in_bytes"
                self._limit = here / "memory.limit_in_bytes"
            elif "pids" in names:
                self._tasks = _first(root / "pids", path)
            elif "cpu" in names:
                self._cpu = _first(root / "cpu", path) / "cpu.stat"
                self._throttled = ("throttled_time", 1)

    def _version_2(self, here: Path) -> None:
        if (here / "memory.current").exists():
            self._memory, self._limit = here / "memory.current", here / "memory.max"
        if (here / "pids.current").exists():
            self._tasks = here
        if (here / "cpu.stat").exists():
            self._cpu = here / "cpu.stat"

    def spent(self) -> tuple[int | None, int | None]:
        """Return `memory_bytes` and `throttled_ns` of the usage, without the files that change
        seldom or take the kernel long (memory.stat)."""
        return _number(self._memory), self._read_throttled()

    def read(self) -> Usage:
        return Usage(
            memory_bytes=_number(self._memory),
            memory_limit_bytes=self.memory_limit_bytes(),
            memory_files_bytes=self._read_files(),
            throttled_ns=self._read_throttled(),
            tasks=_number(self._tasks and self._tasks / "pids.current"),
            tasks_limit=_number(self._tasks and self._tasks / "pids.max"),
        )

    def memory_limit_bytes(self) -> int | None:
        """Return `memory_limit_bytes` of the usage."""
        limit = _number(self._limit)
        return None if limit is None or limit >= _NO_LIMIT else limit

    def cpus(self) -> float | None:
        """Return how many CPUs the group's quota is worth; None: there is none."""
        if self._cpu is None:
            return None
        here = self._cpu.parent
        if words := _text(here / "cpu.max").split():
            quota, period = words[0], (words[1] if len(words) > 1 else "")
        else:
            quota = _text(here / "cpu.cfs_quota_us").strip()
            period = _text(here / "cpu.cfs_period_us").strip()
        if not (quota.isdigit() and period.isdigit() and int(period)):
            return None
        return int(quota) / int(period)

    def _read_files(self) -> int | None:
        """Return the size of the page cache without files that exist only in memory (tmpfs)."""
        if self._memory is None:
            return None
        found = None
        for line in _text(self._memory.parent / "memory.stat").splitlines():
            name, _, value = line.partition(" ")
            if name in ("active_file", "inactive_file") and value.isdigit():
                found = (found or 0) + int(value)
        return found

    def _read_throttled(self) -> int | None:
        word, factor = self._throttled
        for line in _text(self._cpu).splitlines():
            name, _, value = line.partition(" ")
            if name == word and value.isdigit():
                return int(value) * factor
        return None


def _first(root: Path, path: str) -> Path:
    """Return the group's folder: the root within a container that has a namespace of its own."""
    there = root / path.lstrip("/")
    return there if there.is_dir() else root


def _text(path: Path | None) -> str:
    try:
        return path.read_text() if path is not None else ""
    except OSError:
        return ""


def _number(path: Path | None) -> int | None:
    text = _text(path).strip()  # "max" means no limit
    return int(text) if text.isdigit() else None
