"""Test the fault matrix: faults at either end in every state of the protocol.

The tests run a fixed part of it: all states at each end, each with some of the faults, so that
every fault occurs in every dialogue. `make faults` runs the whole matrix.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest

import netmeasure as nm
from netmeasure.protocol.states import TRANSITIONS, Side, State
from support.all_faults import PART, part
from support.fault_matrix import Trial
from support.fault_table import FAULTS, TALKS, cells

TESTS = Path(__file__).parents[1]
HERE = [talk for talk in TALKS if talk.name in PART]


def test_the_matrix_has_every_state_message_fault_and_end() -> None:
    every = list(cells())
    assert len(set(every)) == len(every)
    assert {cell.state for cell in every} == set(State)
    assert {(cell.fault, cell.victim) for cell in every} == set(product(FAULTS, Side))
    messages = {kind for moves in TRANSITIONS.values() for kind in moves}
    assert {kind for talk in TALKS for kind in talk.route()} == messages


def test_the_part_that_runs_here_has_every_state_and_fault() -> None:
    for talk in HERE:
        some, every = part(talk), list(cells((talk,)))
        assert {cell.state for cell in some} == {cell.state for cell in every}
        assert {(c.fault, c.victim) for c in some} == {(c.fault, c.victim) for c in every}


@pytest.mark.interop
@pytest.mark.timeout(400)
def test_every_cell_ends_in_time_with_a_result_or_a_named_error(
    record_property: Callable[[str, object], None],
) -> None:
    """Run in a separate program, whose processes are forks of one with all imports."""
    command = (sys.executable, "-m", "support.all_faults", "--part", "--at-a-time", "24")
    ran = subprocess.run(
        (*command, "--patience", "1"), cwd=TESTS, capture_output=True, text=True, timeout=380
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    said = ran.stdout.splitlines()[-1]
    record_property("figure", f"fault matrix: of its {sum(1 for _ in cells())} cells, {said}")


def test_a_cell_whose_place_is_not_taken_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine the test that is to fill the server may fail: the cell must still end."""
    refusing = nm.ServerLimits(max_duration_s=1)
    monkeypatch.setattr("support.fault_matrix.limits", lambda *_: refusing)
    (cell, *_) = cells(tuple(talk for talk in TALKS if talk.name == "queue"))
    trial = Trial(cell)
    found = asyncio.run(trial.run())
    assert not trial.reached
    assert all("not reached" in line for line in found)


def test_a_test_whose_data_are_dropped_on_the_path_is_not_complete() -> None:
    (cell,) = (
        cell
        for cell in cells(tuple(talk for talk in TALKS if talk.name == "tcp"))
        if (cell.fault, cell.victim, cell.where, cell.state)
        == ("drop", Side.CLIENT, "data", State.RUNNING)
    )
    trial = Trial(cell)
    assert asyncio.run(trial.run()) == []
    assert trial.codes == ["stream"]
