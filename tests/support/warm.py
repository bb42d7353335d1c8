"""Start the program in processes that do not have to import it first.

Python takes up to half a second of CPU time to import the program. Tests that start it hundreds of
times for its output use forks of a process that has imported it. Everything else is as in a process
that was started by hand: its arguments, environment, folder, standard streams, signals and exit
code.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing import forkserver, process, reduction, resource_tracker
from pathlib import Path
from typing import IO, Any, NoReturn

PROGRAM = (sys.executable, "-m", "netmeasure")

#: What a run of the program imports: the command lines and the modules that a test loads late.
_IMPORTED = (
    *(f"netmeasure.cli.{name}" for name in ("commands", "client", "server", "ceiling", "output")),
    *(f"netmeasure.cli.iperf3.{name}" for name in ("program", "client", "server", "service")),
    "netmeasure.cli.iperf3.specs",
    "netmeasure.measurement.run",
    "netmeasure.peer.server.session",
    "netmeasure.report.text",
    "netmeasure.transfers.http",
    "netmeasure.transfers.ftp",
    "numpy",
    "rich.console",
    "rich.table",
    "uvloop",
    "support.warm",
)
#: numpy's OpenBLAS starts threads, which a fork does not have.
_WITHOUT_THREADS = {"OPENBLAS_NUM_THREADS": "1"}


def is_imported() -> bool:
    """Return whether there is a process that has imported the program."""
    return forkserver._forkserver._forkserver_pid is not None  # type: ignore[attr-defined]


def import_now() -> None:
    """Start the process that imports the program, unless it is running."""
    if not is_imported():
        context = multiprocessing.get_context("forkserver")
        measured = ("coverage",) if data_file() is not None else ()
        context.set_forkserver_preload([*_IMPORTED, *measured])
        # coverage is started only in those forks that are to be measured
        with _environment(_WITHOUT_THREADS, without="COVERAGE_"):
            forkserver.ensure_running()


def stop() -> None:
    """End the process that has imported the program, or another one of its kind
    (`support.fault_matrix.processes`), if it is running."""
    if is_imported():
        forkserver._forkserver._stop()  # type: ignore[attr-defined]
        resource_tracker._resource_tracker._stop()  # type: ignore[attr-defined]


@contextlib.contextmanager
def imported() -> Iterator[None]:
    """Keep a process that has imported the program, unless there is one already."""
    there = is_imported()
    import_now()
    try:
        yield
    finally:
        if not there:
            stop()


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[Any]:
    """Start a process with options of `subprocess.Popen`: a fork if `argv` is our program."""
    ours = tuple(argv[: len(PROGRAM)]) == PROGRAM and is_imported() and _is_here()
    return (_Fork if ours else subprocess.Popen)(argv, **options)


def _is_here() -> bool:
    """Return whether the process that has imported the program is in the network namespace of this
    thread, where a process that starts now has to be."""
    pid = forkserver._forkserver._forkserver_pid  # type: ignore[attr-defined]
    try:
        return os.readlink("/proc/thread-self/ns/net") == os.readlink(f"/proc/{pid}/ns/net")
    except OSError:
        return False  # it has ended


def run(
    argv: Sequence[str],
    *,
    timeout: float = 30,
    capture_output: bool = False,
    check: bool = False,
    input: str | None = None,
    **options: Any,
) -> subprocess.CompletedProcess[Any]:
    """Act as `subprocess.run`, by a fork if `argv` is our program."""
    if input is not None:
        options["stdin"] = subprocess.PIPE
    if capture_output:
        options |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with start(argv, **options) as process:
        try:
            printed, errors = process.communicate(input, timeout=timeout)
        finally:
            process.kill()
    ran = subprocess.CompletedProcess(argv, process.returncode, printed, errors)
    if check:
        ran.check_returncode()
    return ran


class _Fork(subprocess.Popen[Any]):
    """Hold one run of the program by the process that has imported it.

    Of the options of `subprocess.Popen`, it supports those of the standard streams, `env`, `cwd`
    and `start_new_session`.
    """

    _process: process.BaseProcess

    def _execute_child(self, *given: Any) -> None:
        parent = subprocess.Popen._execute_child  # type: ignore[attr-defined]
        named = inspect.signature(parent).bind(self, *given).arguments
        words = list(named["args"][len(PROGRAM) :])
        ours = [named[name] for name in ("p2cread", "c2pwrite", "errwrite")]
        standard = [_Passed(number if ours[number] == -1 else ours[number]) for number in range(3)]
        environment = dict(os.environ if named["env"] is None else named["env"])
        folder = os.fspath(named["cwd"] or os.getcwd())
        context = multiprocessing.get_context("forkserver")
        self._process = context.Process(
            target=_run,
            args=(
                *(words, environment, folder, standard, named["start_new_session"]),
                data_file() if _asks_for_coverage(environment) else None,
            ),
        )
        self._process.start()
        assert self._process.pid is not None
        self.pid = self._process.pid
        self._child_created = True
        pipes = ("p2cread", "p2cwrite", "c2pread", "c2pwrite", "errread", "errwrite")
        self._close_pipe_fds(*(named[name] for name in pipes))  # type: ignore[attr-defined]

    def _internal_poll(self, _deadstate: int | None = None) -> int | None:
        if self.returncode is None and self._process.exitcode is not None:
            self.returncode = self._process.exitcode
            self._process.close()
        return self.returncode

    def _wait(self, timeout: float | None) -> int:
        if self._internal_poll() is None:
            self._process.join(timeout)
            if self._internal_poll() is None:
                raise subprocess.TimeoutExpired(self.args, timeout or 0)
        return self.returncode


class _Passed:
    """Hold a descriptor that becomes a duplicate of its own number where it is unpickled."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __reduce__(self) -> tuple[Callable[[Any], int], tuple[Any]]:
        return _detached, (reduction.DupFd(self.number),)


def _detached(passed: Any) -> int:
    number: int = passed.detach()
    return number


def data_file() -> str | None:
    """Return the file for coverage's data of this process, if coverage runs."""
    coverage = sys.modules.get("coverage")
    measuring = coverage.Coverage.current() if coverage is not None else None
    return None if measuring is None else str(measuring.get_option("run:data_file"))


def _asks_for_coverage(environment: Mapping[str, str]) -> bool:
    return any(name.startswith("COVERAGE_") for name in environment)


def _start_coverage(file: str) -> None:
    """Measure coverage from here on, into a file beside this one.

    The package is named by the path of its files. By its name, coverage would search for files that
    were not imported, which takes longer than most runs of the program.
    """
    import coverage

    import netmeasure

    measuring = coverage.Coverage(
        data_file=file,
        data_suffix=True,
        branch=True,
        config_file=False,
        include=[str(Path(netmeasure.__file__).parent / "*")],
    )
    measuring.set_option("run:patch", ["fork", "_exit"])
    measuring.start()


def _run(
    words: list[str],
    environment: Mapping[str, str],
    folder: str,
    standard: list[int],
    own_session: bool,
    coverage_file: str | None,
) -> NoReturn:
    """Run the program: do what `python -m netmeasure` does once it has started."""
    if coverage_file is not None:
        _start_coverage(coverage_file)
    from netmeasure.cli import main

    signal.signal(signal.SIGINT, signal.default_int_handler)
    if own_session:
        os.setsid()
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    for number, passed in enumerate(standard):
        os.dup2(passed, number)
        os.close(passed)
    sys.stdin = _opened(0, "r")
    sys.stdout = _opened(1, "w")
    sys.stderr = _opened(2, "w", errors="backslashreplace", line_buffering=True)
    sys.argv = ["netmeasure", *words]
    sys.exit(main())


def _opened(number: int, mode: str, **options: Any) -> IO[str]:
    raw = open(number, f"{mode}b", closefd=False)  # noqa: SIM115
    return io.TextIOWrapper(raw, encoding="utf-8", **options)


@contextlib.contextmanager
def _environment(more: Mapping[str, str], *, without: str) -> Iterator[None]:
    """Change the environment for some time: add variables, and remove those that begin with a
    word."""
    before = dict(os.environ)
    for name in before:
        if name.startswith(without):
            del os.environ[name]
    os.environ.update(more)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
