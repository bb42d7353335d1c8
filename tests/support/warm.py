"""Our iperf3 in a process of its own that need not import anything first.

Python takes half a second of CPU time to import the program. Where it is started hundreds of times
for what it prints, its processes are forks of one that has imported it. All else is as in a process
that was started by hand: its arguments, folder, standard streams, signals and exit code.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from multiprocessing import forkserver, resource_tracker
from pathlib import Path
from typing import NoReturn

#: What a test imports: the command line and, loaded late, all that a test needs.
_IMPORTED = (
    "netmeasure.cli.iperf3.program",
    "netmeasure.cli.iperf3.client",
    "netmeasure.cli.iperf3.server",
    "netmeasure.cli.iperf3.service",
    "netmeasure.cli.iperf3.specs",
    "uvloop",
    "support.warm",
)


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Keep a process that has imported the program."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(list(_IMPORTED))
    forkserver.ensure_running()
    try:
        yield
    finally:
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


class Process:
    """One run of the program, with the methods of `subprocess.Popen` that the tests use."""

    def __init__(self, words: Sequence[str], folder: Path, out: Path, errors: Path) -> None:
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(target=_run, args=(list(words), folder, out, errors))
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        if self.returncode is None:
            self.returncode = self._process.exitcode
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code; raise TimeoutExpired if it runs for longer."""
        if self.returncode is None:
            self._process.join(timeout)
            if self.poll() is None:
                raise subprocess.TimeoutExpired("netmeasure iperf3", timeout or 0)
        assert self.returncode is not None
        return self.returncode

    def kill(self) -> None:
        if self.poll() is None:
            self._process.kill()

    def close(self) -> None:
        """End it if it still runs, and forget it."""
        self.kill()
        self.wait()
        self._process.close()


def _run(words: list[str], folder: Path, out: Path, errors: Path) -> NoReturn:
    """Be the program: what `python -m netmeasure iperf3` does once it has started."""
    from netmeasure.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    os.chdir(folder)
    for number, file in ((0, Path(os.devnull)), (1, out), (2, errors)):
        opened = os.open(file, os.O_RDWR | os.O_CREAT, 0o600)
        os.dup2(opened, number)
        os.close(opened)
    sys.stdin, sys.stdout, sys.stderr = (
        open(number, mode, closefd=False)  # noqa: SIM115
        for number, mode in enumerate("rww")
    )
    sys.argv = ["netmeasure", "iperf3", *words]
    sys.exit(main())
