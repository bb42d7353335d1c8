"""The fault matrix: what goes wrong at either end in every state of the protocol.

A bounded part of it, the same in every run: all states, in each of them some of the faults, at each
end, so that every fault has its turn in every conversation. `make faults` runs all of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import product

import pytest

from netmeasure.protocol.states import TRANSITIONS, Side, State
from support.fault_matrix import Trial, processes, run_cells
from support.fault_table import FAULTS, TALKS, Cell, Talk, a_part, cells

AT_A_TIME = 24
#: How many of the ten faults each state has here at each end.
PART = {"tcp": 1, "secret-queue": 1, "to-iperf3": 1}
HERE = [talk for talk in TALKS if talk.name in PART]


def part(*talks: Talk) -> list[Cell]:
    return [cell for talk in talks for cell in a_part(talk, PART[talk.name])]


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
    here = part(*HERE)
    whole = sum(1 for _ in cells())
    record_property("figure", f"fault matrix: {len(here)} of its {whole} cells")
    with processes():
        wrong, _ = asyncio.run(run_cells(here, AT_A_TIME))
    assert wrong == []


def test_data_that_are_taken_on_the_way_and_never_arrive_are_no_complete_test() -> None:
    (cell,) = (
        cell
        for cell in cells(tuple(talk for talk in TALKS if talk.name == "tcp"))
        if (cell.fault, cell.victim, cell.where, cell.state)
        == ("drop", Side.CLIENT, "data", State.RUNNING)
    )
    trial = Trial(cell)
    assert asyncio.run(trial.run()) == []
    assert trial.codes == ["stream"]
