"""List the threads, file descriptors and children of this process, to prove that none was left.

The lists are read from /proc rather than from Python, which knows neither the threads of native
code nor the descriptors that native code opened.
"""

import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.01
_LISTED = Path("/proc/thread-self/children")


@dataclass(frozen=True)
class Census:
    """Hold names: of threads by id, of what descriptors refer to by number, of children by pid."""

    threads: dict[int, str]
    fds: dict[int, str]
    children: dict[int, str]


def take() -> Census:
    """Return everything that exists now."""
    return Census(threads=_threads(), fds=_fds(), children=_children())


def difference(before: Census, after: Census) -> list[str]:
    """Return a line for each entry of `after` that is not in `before`; an empty list if there is
    none."""
    lines = []
    for field in fields(Census):
        old, new = getattr(before, field.name), getattr(after, field.name)
        lines += [f"{field.name}: {key} {new[key]}" for key in new if old.get(key) != new[key]]
    return lines


def leftovers(before: Census, deadline_s: float = 10.0) -> list[str]:
    """Return the `difference` to now, as soon as it is empty or the deadline has passed.

    The wait is necessary because a joined thread is still a task of the kernel for a moment.
    """
    last: list[str] = []

    def nothing_left() -> bool:
        last[:] = difference(before, take())
        return not last

    settle(nothing_left, deadline_s)
    return last


def settle(check: Callable[[], T], deadline_s: float = 20.0) -> T:
    """Call `check` until it returns a true value or the deadline has passed. Return its last
    value."""
    deadline = time.monotonic() + deadline_s
    while True:
        answer = check()
        if answer or time.monotonic() >= deadline:
            return answer
        time.sleep(_POLL_S)


def _threads() -> dict[int, str]:
    """Return every task of the kernel, with Python's name of the thread if Python knows it."""
    known = {thread.native_id: thread.name for thread in threading.enumerate()}
    found = {}
    for task in os.listdir("/proc/self/task"):
        name = known.get(int(task)) or _text(f"/proc/self/task/{task}/comm")
        if name:
            found[int(task)] = name
    return found


def _fds() -> dict[int, str]:
    """Return the open descriptors. The one that lists the directory is closed again, so it has no
    target."""
    targets = {int(fd): _target(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")}
    return {fd: target for fd, target in targets.items() if target}


def _children() -> dict[int, str]:
    """Return the children, including zombies: a child that was not waited for is a leak as well."""
    found = {}
    for pid in _pids_of_children():
        # "pid (name) state ppid ...", where the name may itself hold blanks and brackets
        head, _, tail = _text(f"/proc/{pid}/stat").rpartition(")")
        state, parent = (tail.split() or ["", "0"])[:2]
        if int(parent) == os.getpid():
            # running and sleeping children count as equal; dead ones are different
            name = head.partition("(")[2]
            found[pid] = f"{name} (zombie)" if state == "Z" else name
    return found


def _pids_of_children() -> list[int]:
    """Return the children of each thread, as the kernel lists them.

    Without CONFIG_PROC_CHILDREN the kernel has no such list. Then all processes of the host are
    candidates, which takes a hundred times as long.
    """
    if not _LISTED.exists():
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    tasks = os.listdir("/proc/self/task")
    lists = [_text(f"/proc/self/task/{task}/children") for task in tasks]
    return [int(pid) for pid in " ".join(lists).split()]


def _text(path: str) -> str:
    """Return the text of a file of /proc; nothing if its process has just ended."""
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""


def _target(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""
