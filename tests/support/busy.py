"""Measure whether this machine was too busy for a test.

`Watch` runs this file as a process of its own beside a test. Every half second it reads from /proc:

- the CPU time of processes that are not the test's own (not this process, its parent, or what the
  parent started), and how long any task of the machine waited for a CPU (/proc/pressure/cpu, Linux
  4.20 with CONFIG_PSI);
- the time that a hypervisor gave to other guests (`steal` of /proc/stat);
- how late the watching process itself woke up.

None of these figures includes the CPU time of the test itself: a test that is slow by its own fault
is not repeated.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

#: The length of the windows of time by which the machine is judged.
WINDOW_S = 0.5
#: The machine was too busy if other processes took so much of one CPU...
OTHERS_RATIO = 0.25
#: ...while some task waited for a CPU for so much of the time.
WAITED_RATIO = 0.1
#: The machine was also too busy if a hypervisor took so much of one CPU.
STEAL_RATIO = 0.05
#: A process that sleeps most of the time gets its CPU within a few milliseconds, unless the host of
#: this virtual machine has no CPU for it, or a quota is used up.
LATE_S = 0.05

_NAP_S = 0.02
#: The kernel counts CPU time in steps of 10 ms, so shorter times are not measured well enough.
_SHORTEST_S = 0.1
_STARTS_WITHIN_S = 30.0
_KTHREADD = 2


class Window(NamedTuple):
    """Hold what the rest of the machine did in a window of time; ratios are of one CPU."""

    others_ratio: float
    waited_ratio: float | None
    steal_ratio: float
    late_s: float
    busiest: str = ""


def sign(window: Window) -> str | None:
    """Return the sign that the machine was too busy in this window, or None."""
    waited = window.waited_ratio
    if window.others_ratio >= OTHERS_RATIO and (waited is None or waited >= WAITED_RATIO):
        meanwhile = "" if waited is None else f" while tasks waited {waited:.0%} of the time"
        most = f" (mostly {window.busiest})" if window.busiest else ""
        return f"other processes took {window.others_ratio:.0%} of a CPU{most}{meanwhile}"
    if window.steal_ratio >= STEAL_RATIO:
        return f"the hypervisor took {window.steal_ratio:.0%} of a CPU"
    if window.late_s >= LATE_S:
        return f"a process that slept woke up {window.late_s * 1e3:.0f} ms late"
    return None


class Watch:
    """Watch the machine during a ``with`` block; then `sign` tells whether it was too busy.

    The CPU time of the process `root` and its descendants belongs to the test. By default `root` is
    this process.
    """

    def __init__(self, root: int | None = None) -> None:
        self.sign: str | None = None
        self._root = os.getpid() if root is None else root

    def __enter__(self) -> Watch:
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", __file__, str(self._root)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self._process.stdout.readline()  # the process has read the first values
        return self

    def __exit__(self, *_: object) -> None:
        said, _nothing = self._process.communicate(timeout=_STARTS_WITHIN_S)
        self.sign = said.strip() or None


# ---- the watching process ------------------------------------------------------------------------


class _Process(NamedTuple):
    parent: int
    name: str
    ticks: int
    """Its CPU time, and that of its children that have ended and that it has waited for."""


class _Counters(NamedTuple):
    at_s: float
    known_ticks: int
    """Those of the test's processes and of the kernel's threads."""
    others: dict[int, _Process]
    all_ticks: int
    """What all processes together used, those included that this one can't see."""
    steal_ticks: int
    waited_us: int | None


def _processes() -> dict[int, _Process]:
    found = {}
    for entry in os.listdir("/proc"):
        if not entry.isdigit():
            continue
        try:
            text = Path("/proc", entry, "stat").read_text(errors="replace")
        except OSError:  # the process has ended
            continue
        name, rest = text[text.index("(") + 1 : text.rindex(")")], text[text.rindex(")") + 1 :]
        fields = rest.split()
        # of proc(5)'s fields, counted from 1: state is 3, ppid 4, utime to cstime 14 to 17
        own, ended = sum(map(int, fields[11:13])), sum(map(int, fields[13:15]))
        # init inherits the children of all processes, those of the test included
        pid = int(entry)
        found[pid] = _Process(int(fields[1]), name, own + (ended if pid != 1 else 0))
    return found


def _counters(root: int) -> _Counters:
    every = _processes()

    def ancestors(pid: int) -> set[int]:
        line: set[int] = set()
        while pid in every and pid not in line:
            line.add(pid)
            pid = every[pid].parent
        return line

    lines = {pid: ancestors(pid) for pid in every}
    family = {pid for pid, line in lines.items() if root in line}
    kernel = {pid for pid, line in lines.items() if _KTHREADD in line}
    cpu = list(map(int, Path("/proc/stat").read_text().splitlines()[0].split()[1:]))
    known = sum(every[pid].ticks for pid in kernel | family)
    return _Counters(
        at_s=time.monotonic(),
        known_ticks=known,
        others={pid: every[pid] for pid in every if pid not in kernel | family},
        all_ticks=sum(cpu[:3]),
        steal_ticks=cpu[7],
        waited_us=_waited_us(),
    )


def _waited_us() -> int | None:
    """Return how long some task of the machine was ready to run without a CPU, since the start."""
    try:
        some = Path("/proc/pressure/cpu").read_text().splitlines()[0]
    except OSError:
        return None
    return int(some.rpartition("total=")[2])


def _window(before: _Counters, after: _Counters, late_s: float) -> Window:
    took_s = after.at_s - before.at_s
    per_tick = 1 / (os.sysconf("SC_CLK_TCK") * took_s)
    seen = sum(p.ticks for p in after.others.values()) - sum(
        p.ticks for p in before.others.values()
    )
    # in a container, processes outside of it are not visible, but the machine's sum includes them
    unseen = (after.all_ticks - before.all_ticks) - (after.known_ticks - before.known_ticks)
    grown = {
        pid: process.ticks - (before.others[pid].ticks if pid in before.others else 0)
        for pid, process in after.others.items()
    }
    busiest = max(grown, key=lambda pid: grown[pid], default=None)
    waited = None
    if before.waited_us is not None and after.waited_us is not None:
        waited = (after.waited_us - before.waited_us) / 1e6 / took_s
    return Window(
        others_ratio=max(0, seen, unseen) * per_tick,
        waited_ratio=waited,
        steal_ratio=(after.steal_ticks - before.steal_ticks) * per_tick,
        late_s=late_s,
        busiest="" if busiest is None else f"{after.others[busiest].name}, pid {busiest}",
    )


def _watch(root: int) -> str | None:
    """Return the sign of the busiest window until standard input ends; None if no window was
    busy."""
    before, late_s = _counters(root), 0.0
    print(flush=True)
    found: list[Window] = []
    ended = False
    while not ended:
        asleep = time.monotonic()
        ended = bool(select.select([sys.stdin], [], [], _NAP_S)[0])
        now = time.monotonic()
        late_s = max(late_s, now - asleep - _NAP_S)
        if now - before.at_s >= (_SHORTEST_S if ended else WINDOW_S):
            after = _counters(root)
            found.append(_window(before, after, late_s))
            before, late_s = after, 0.0
    busy = [window for window in found if sign(window)]
    return sign(max(busy, key=lambda window: window.others_ratio)) if busy else None


if __name__ == "__main__":
    print(_watch(int(sys.argv[1])) or "")
