"""Test exit codes: the page has all of them, and each error ends the program with its code."""

from __future__ import annotations

import inspect
import re
from pathlib import Path

import pytest

from netmeasure import errors
from netmeasure.cli.exits import Exit, exhaustion, exit_code
from support.full_result import FULL

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "exit-codes.md"
#: Errors that have one code, wherever they end a command.
ALWAYS: dict[type[errors.NetmeasureError], Exit] = {
    errors.NetmeasureError: Exit.FAILED,
    errors.SpecError: Exit.USAGE,
    errors.PlanError: Exit.USAGE,
    errors.ResultFormatError: Exit.USAGE,
    errors.CommandError: Exit.FAILED,
    errors.HistoryError: Exit.FAILED,
    errors.ServeError: Exit.CANT_LISTEN,
    errors.BusyOriginError: Exit.CANT_LISTEN,
    errors.UnsatisfiableRangeError: Exit.CANT_LISTEN,
    errors.HostLimitError: Exit.HOST_LIMIT,
    errors.BusyError: Exit.BUSY,
    errors.FileRefusedError: Exit.NOT_A_SERVER,
}
#: Errors of set-up, which have another code once data were measured: by the phase.
IN_SET_UP: dict[type[errors.MeasureError], dict[str, Exit]] = {
    errors.NameNotFoundError: {"resolve": Exit.NO_CONNECTION},
    errors.ConnectError: {"connect": Exit.NO_CONNECTION},
    errors.ConnectRefusedError: {"connect": Exit.NO_CONNECTION},
    errors.ConnectTimeoutError: {"connect": Exit.NO_CONNECTION},
    errors.UnreachableError: {"connect": Exit.NO_CONNECTION},
    errors.TlsError: {"tls": Exit.NO_CONNECTION},
    errors.SocketOptionError: {"connect": Exit.NO_CONNECTION, "start": Exit.NO_CONNECTION},
    errors.PeerTimeoutError: {"connect": Exit.NO_CONNECTION, "control": Exit.NOT_A_SERVER},
    errors.PeerClosedError: {"connect": Exit.NO_CONNECTION, "control": Exit.NOT_A_SERVER},
    errors.PeerTerminatedError: {"start": Exit.NOT_A_SERVER},
    errors.PeerRefusedError: {"control": Exit.NOT_A_SERVER},
    errors.AuthenticationError: {"control": Exit.NOT_A_SERVER},
    errors.StreamError: {"connect": Exit.NO_CONNECTION},
    errors.PathMtuError: {"control": Exit.NOT_A_SERVER},
    errors.ProtocolError: {"control": Exit.NOT_A_SERVER},
    errors.RemoteProtocolError: {"greeting": Exit.NOT_A_SERVER},
    errors.LocalProtocolError: {"control": Exit.NOT_A_SERVER},
}
#: The base class, an error within a server, and errors that end only iperf3's command line.
NEVER = {errors.MeasureError, errors.RefusedTestError, errors.UsageError}


def test_the_page_has_every_code() -> None:
    listed = re.findall(r"^\| (\d+) \|", PAGE.read_text(), flags=re.MULTILINE)
    assert [int(code) for code in listed] == sorted(Exit)


def test_every_error_has_a_code() -> None:
    classes = [one for one in vars(errors).values() if inspect.isclass(one)]
    assert {one for one in classes if issubclass(one, Exception)} == {*ALWAYS, *IN_SET_UP, *NEVER}


@pytest.mark.parametrize("kind", ALWAYS, ids=lambda kind: str(kind.code))
def test_errors_with_one_code(kind: type[errors.NetmeasureError]) -> None:
    error = kind("something is wrong")
    assert exit_code(error) == ALWAYS[kind]
    if isinstance(error, errors.MeasureError):
        error.phase, error.result = "data", FULL
        assert exit_code(error) == ALWAYS[kind]


@pytest.mark.parametrize("kind", IN_SET_UP, ids=lambda kind: str(kind.code))
def test_errors_of_set_up_and_of_the_test(kind: type[errors.MeasureError]) -> None:
    for phase, code in IN_SET_UP[kind].items():
        assert exit_code(kind("it does not work", phase=phase)) == code
    late = kind("it broke off", phase="data")
    late.result = FULL
    assert exit_code(late) == Exit.CUT_SHORT


@pytest.mark.parametrize(
    ("error", "lack"),
    [
        (MemoryError(), True),
        (RuntimeError("can't start new thread"), True),
        (ImportError("x.so: failed to map segment from shared object"), True),
        (SystemError("error return without exception set"), True),
        (SystemError("bad argument to internal function"), False),
        (RuntimeError("another one"), False),
    ],
)
def test_which_errors_are_a_lack_of_memory_or_threads(
    error: MemoryError | RuntimeError | ImportError | SystemError, lack: bool
) -> None:
    found = exhaustion(error)
    assert (found is not None) == lack
    assert found is None or "ulimit -v" in (found.hint or "")
