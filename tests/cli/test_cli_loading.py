"""Test which modules the program has loaded when the first byte is sent or received."""

from __future__ import annotations

import subprocess
import sys

import pytest

from support.program import server

#: These modules take longer to load than all the rest of set-up, and only a result needs them.
HEAVY = (
    "numpy",
    "numpy.ma",
    "rich",
    "aiohttp",
    "aioftp",
    "netmeasure.report.text",
    "netmeasure.peer.server.server",
    "netmeasure.objectives.objective",
    "psutil",
)
_CODE = """
import sys
from netmeasure.workloads.{module} import {kind} as Workload

heavy = {heavy!r}
original = Workload.{method}
def look_first(workload):
    print(*(name for name in heavy if name in sys.modules), file=sys.stderr)
    return original(workload)
Workload.{method} = look_first

from netmeasure.cli import main
try:
    main({words!r})
finally:
    print(*(name for name in heavy if name in sys.modules), file=sys.stderr)
"""


FIRST_BYTE = ("base", "Workload", "start")
LAST_ROUND_TRIP = ("base", "Workload", "stop_senders")
LAST_REQUEST = ("requests", "RequestWorkload", "stop")


def loaded(*words: str, moment: tuple[str, str, str] = FIRST_BYTE) -> tuple[set[str], set[str]]:
    """Run the program. Return the modules that it had loaded at a moment, and at the end."""
    module, kind, method = moment
    code = _CODE.format(heavy=HEAVY, words=list(words), module=module, kind=kind, method=method)
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    before, after = ran.stderr.splitlines()
    return set(before.split()), set(after.split())


def test_what_a_result_needs_is_loaded_after_the_first_byte() -> None:
    with server() as (_, address):
        before, after = loaded("client", address, "-t", "0.1")
        assert before == set()
        assert after == {"numpy", "psutil", "rich", "netmeasure.report.text"}


def test_a_report_is_not_loaded_where_none_is_shown() -> None:
    with server() as (_, address):
        before, after = loaded("client", address, "-t", "0.1", "-d", "download", "--json")
        assert (before, after) == (set(), {"numpy", "psutil"})


@pytest.mark.parametrize("kind", [["--rr"], ["--rr", "-u"], ["--crr"]])
def test_nothing_is_loaded_beside_round_trips(kind: list[str]) -> None:
    """It would take CPU time from the threads whose latencies are measured."""
    with server() as (_, address):
        words = ("client", address, "-t", "0.3", *kind)
        before, after = loaded(*words, moment=LAST_ROUND_TRIP)
        assert before == set()
        assert after == {"numpy", "psutil", "rich", "netmeasure.report.text"}


@pytest.mark.parametrize("kind", [["--rr"], ["--crr"]])
def test_what_looks_need_is_loaded_before_round_trips(kind: list[str]) -> None:
    """A test with looks (`--until`) analyses itself, so it can't load the analysis afterwards."""
    with server() as (_, address):
        before, _ = loaded("client", address, "-t", "1", "--until", "50%", *kind)
        assert before == {"numpy"}


def test_nothing_is_loaded_beside_requests() -> None:
    with server("--http", "0") as (process, _):
        assert process.stdout is not None
        url = f"http://{process.stdout.readline().split()[-1]}/1K.dat"
        before, after = loaded("client", url, "--requests", "-t", "0.3", moment=LAST_REQUEST)
        assert before == set()
        assert after == {"numpy", "psutil", "rich", "netmeasure.report.text"}


def test_no_course_of_a_transfer_needs_masked_arrays() -> None:
    """`unique` loads them, and only the fit of a first level needed it: one run in hundreds."""
    code = (
        "import sys\n"
        "from benchmarks.bench_steady import outcome\n"
        "from benchmarks.steady_cases import CASES\n"
        "assert all(outcome(case, 4, 2).verdicts for case in CASES)\n"
        "sys.exit('numpy.ma' in sys.modules)\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert ran.returncode == 0, ran.stderr
