"""Test the check that runs on every result of the tests: what it finds, and in which processes it
runs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from netmeasure.result import Flow, Limits, Loss, Result, Series
from support import held
from support.optional import known
from support.recorded import recorded

#: A program that measures nothing, and keeps the result from its standard input as measured.
MEASURING = """
import sys
import netmeasure as nm
from netmeasure.{module} import {name}

{name}.__new__({name}).result = nm.Result.from_json(sys.stdin.buffer.read())
"""


def _with_flow(change: Callable[[Flow], Flow]) -> Result:
    result = recorded(1e9)
    return replace(result, flows=(change(result.flows[0]),))


def _connected(start_ns: int, duration_ns: int) -> Result:
    result = recorded(1e9)
    phase = replace(
        result.setup[0],
        connection="data 1",
        start_ns=start_ns,
        duration_ns=duration_ns,
        decides=True,
    )
    return replace(result, setup=(phase,))


def _faster_with_set_up(flow: Flow) -> Flow:
    without = known(flow.averages.from_first_byte_bps)
    return replace(flow, averages=replace(flow.averages, from_first_attempt_bps=without + 1))


def _coarse(flow: Flow) -> Flow:
    return replace(flow, series=Series(origin_ns=0, width_ns=10**10, bytes=(1,)))


def _negative(flow: Flow) -> Flow:
    return replace(flow, averages=replace(flow.averages, after_omit_bps=-1.0))


IMPOSSIBLE = {
    "connect begins at 1 ns, the one before it ends at 0 ns": lambda: _connected(1, 999_999),
    "the phases of set-up end at 3000000 ns, set-up at 1000000 ns": lambda: _connected(
        0, 3_000_000
    ),
    "upload: steady for less than a bucket": lambda: _with_flow(_coarse),
    "upload after_omit_bps is -1.0": lambda: _with_flow(_negative),
    "bit/s with set-up": lambda: _with_flow(_faster_with_set_up),
    "upload loss is 2.0": lambda: _with_flow(
        lambda flow: replace(flow, loss=Loss(sent_packets=1, received_packets=1, lost_packets=2))
    ),
    "upload busy_ratio is 1.5": lambda: _with_flow(
        lambda flow: replace(flow, limits=Limits(busy_ratio=1.5))
    ),
}


def test_a_measured_result_holds() -> None:
    assert held.violations(recorded(1e9)) == []


@pytest.mark.parametrize("words", IMPOSSIBLE)
def test_an_impossible_figure_is_found(words: str) -> None:
    (found,) = held.violations(IMPOSSIBLE[words]())
    assert words in found


def test_a_rate_above_the_links_is_found() -> None:
    """A test of 2 s at 1 Gbit/s, on links of 0.98 and 0.9 Gbit/s."""
    result = replace(recorded(1e9), target="192.0.2.1:5201")
    assert held.violations(result, held.Link(0.98e9)) == []
    found = held.violations(result, held.Link(0.9e9))
    assert len(found) >= 3
    assert all("the link carries" in one for one in found)
    assert held.violations(result, held.Link(0.9e9, 200 * 2**20)) == []
    assert held.violations(replace(result, target="127.0.0.1:5201"), held.Link(0.9e9)) == []


def test_programs_know_what_their_link_has_carried() -> None:
    """The most of it since they were started; nothing is known of one that was started before."""
    link = held.LinkFile()
    environment: dict[str, str] = {}
    link.tell(environment)
    assert environment == {}
    link.carries(held.Link(1e6, 5))
    link.tell(environment)
    with pytest.MonkeyPatch.context() as patched:
        for name, value in environment.items():
            patched.setenv(name, value)
        assert held.own_link() == held.Link(1e6, 5)
        link.carries(held.Link(2e6))
        assert held.own_link() == held.Link(2e6, 5)
        link.carries(held.Link(1e5))
        assert held.own_link() == held.Link(2e6, 5)
        link.carries(None)
        assert held.own_link() is None
        link.remove()
        assert held.own_link() is None
    assert held.own_link() is None


@pytest.mark.parametrize(
    ("module", "name"), [("measurement.run", "Run"), ("peer.server.session", "Session")]
)
def test_the_results_of_a_program_are_checked(module: str, name: str) -> None:
    """A client's and a server's result, in a process that any test starts."""
    program = [sys.executable, "-c", MEASURING.format(module=module, name=name)]
    subprocess.run(program, input=recorded(1e9).to_json(), check=True)
    assert held.of_programs() == ""
    subprocess.run(program, input=_connected(0, 3_000_000).to_json(), check=True)
    expected = "-c: the phases of set-up end at 3000000 ns, set-up at 1000000 ns\n"
    assert held.of_programs() == expected
