"""Repeat a test marked `rates` that failed while this machine was too busy, and only then.

A thread that other processes keep from running can't fill a link. `support.busy` measures whether
others did so, and a test that fails on a calm machine fails at once. A repeated attempt waits for a
calm machine, and all other workers of this run wait meanwhile. Every retry is printed at the end,
with what was measured.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol

from support.busy import Watch

ATTEMPTS = 3
#: A repeated attempt begins once the machine was calm for so long, but waits no longer than this.
CALM_S, PATIENCE_S = 1.0, 30.0
TIMEOUT_S = ATTEMPTS * (120.0 + PATIENCE_S)
GATE_S = 60.0
RETRY = "retry"
_TESTS = Path(__file__).parents[1]


class Gate:
    """Let many pass at once, or one alone, among the processes that run tests of this folder.

    A process that wants to enter holds the entrance while it waits for the room, so that one which
    wants to be alone gets its turn. Directories are locked because that leaves no file behind.
    """

    def __init__(self) -> None:
        self._entrance, self._room = _TESTS / "support", _TESTS

    @contextlib.contextmanager
    def passed(self, *, alone: bool = False) -> Iterator[None]:
        with _opened(self._entrance) as entrance, _opened(self._room) as room:
            deadline = time.monotonic() + GATE_S
            _lock(entrance, fcntl.LOCK_EX, deadline)
            _lock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH, deadline)
            fcntl.flock(entrance, fcntl.LOCK_UN)
            yield


def _lock(descriptor: int, how: int, deadline: float) -> None:
    """Lock, or continue without the lock after the deadline: a worker that hangs must not stop the
    others."""
    while True:
        try:
            return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return None
            time.sleep(0.01)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.get_closest_marker("rates") and not item.get_closest_marker("timeout"):
            item.add_marker(pytest.mark.timeout(TIMEOUT_S))


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run the phases of one test, several times if necessary; report the last attempt."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    may_repeat = item.get_closest_marker("rates") is not None
    retries: list[str] = []
    while True:
        with Gate().passed(alone=bool(retries)):
            if retries:
                wait_for_calm()
            with Watch() if may_repeat else _nothing() as watch:
                reports = runtestprotocol(item, log=False, nextitem=nextitem)
        reason = _failure(reports)
        if reason is None or watch is None or watch.sign is None or len(retries) + 1 == ATTEMPTS:
            break
        retries.append(f"{reason}\n      {watch.sign}")
        item.user_properties.clear()
    for report in reports:
        if report.when == "call":
            report.user_properties += [(RETRY, retry) for retry in retries]
            if watch is not None:
                report.sections.append(("The machine meanwhile", watch.sign or "was not busy"))
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def wait_for_calm() -> None:
    """Wait until the machine is not too busy, for other work and a hypervisor's come in bursts."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        with Watch() as watch:
            time.sleep(CALM_S)
        if watch.sign is None:
            return


def _nothing() -> contextlib.nullcontext[None]:
    return contextlib.nullcontext()


def _failure(reports: list[pytest.TestReport]) -> str | None:
    """Return why the test itself failed; None if it passed, or if a fixture failed."""
    if any(report.failed and report.when != "call" for report in reports):
        return None
    for report in reports:
        if report.failed:
            crash = getattr(report.longrepr, "reprcrash", None)
            return str(crash.message).splitlines()[0] if crash else "failed"
    return None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print how many tests were repeated, and what was measured in each failed attempt."""
    tried = [
        (report.nodeid, text)
        for outcome in ("passed", "failed", "skipped", "xfailed", "xpassed")
        for report in terminalreporter.getreports(outcome)
        for name, text in getattr(report, "user_properties", [])
        if name == RETRY
    ]
    terminalreporter.write_line(f"attempts repeated because this machine was busy: {len(tried)}")
    for nodeid, text in tried:
        terminalreporter.write_line(f"  {nodeid}: {text}")
