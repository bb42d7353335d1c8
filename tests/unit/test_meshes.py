"""Test meshes: no round gives a node too many tests, and the pairs that differ are named."""

from __future__ import annotations

import asyncio
import io
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from rich.console import Console

import netmeasure as nm
from netmeasure.cli import main, mesh as cli_mesh
from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from netmeasure.comparison.mesh import MeshReport, MeshRun, join_mesh
from netmeasure.meshes.mesh import Mesh, _Node
from netmeasure.meshes.rounds import in_rounds, least_rounds
from netmeasure.meshes.worker import MeshNode
from netmeasure.report.mesh import render
from netmeasure.spec import HttpSpec
from support.program import one_line
from support.recorded import recorded

NODES = [f"node{number}" for number in range(1, 9)]


def names(count: int) -> list[str]:
    return [str(number) for number in range(count)]


def most_of_a_node(rounds: list[list[tuple[str, str]]]) -> int:
    busy = (Counter(name for pair in pairs for name in pair) for pairs in rounds)
    return max(max(count.values()) for count in busy)


@pytest.mark.parametrize("count", [2, 3, 4, 7, 20, 31])
@pytest.mark.parametrize("at_once", [1, 2, 5])
def test_every_pair_once_and_no_node_too_often(count: int, at_once: int) -> None:
    rounds = in_rounds(names(count), at_once)
    pairs = [pair for one in rounds for pair in one]
    assert len(pairs) == len(set(pairs)) == count * (count - 1)
    assert most_of_a_node(rounds) <= at_once
    assert least_rounds(count, at_once) <= len(rounds) <= least_rounds(count, at_once) + 1


def test_a_thousand_nodes_stay_within_5_percent_of_the_bound() -> None:
    rounds = in_rounds(names(1000), 4)
    assert sum(map(len, rounds)) == 999_000
    assert most_of_a_node(rounds) == 4
    assert len(rounds) <= 1.05 * least_rounds(1000, 4)


def test_some_pairs_can_be_left_out() -> None:
    nodes = names(6)
    wanted = {("0", "1"), ("1", "0"), ("2", "3")}
    without = frozenset((a, b) for a in nodes for b in nodes if (a, b) not in wanted)
    rounds = in_rounds(nodes, 1, without)
    assert {pair for one in rounds for pair in one} == wanted
    assert len(rounds) == 2
    assert in_rounds(["alone"]) == []
    assert least_rounds(1) == 0


def report(changes: dict[tuple[str, str], float], *, slow_node: str = "") -> MeshReport:
    chance = np.random.default_rng(5)
    runs = []
    for number, pairs in enumerate(in_rounds(NODES), 1):
        for client, server in pairs:
            rate = 1e9 * float(np.exp(chance.normal(0, 0.02)))
            rate *= 0.5 if slow_node in (client, server) else 1
            change = changes.get((client, server), 1.0)
            result = recorded(rate * min(change, 1.0), retransmits=round(max(change - 1, 0)))
            runs.append(
                MeshRun(
                    round=number,
                    client=client,
                    server=server,
                    begun_ns=number,
                    ended_ns=number + 1,
                    result=result,
                )
            )
    return join_mesh(runs, NODES, at_once=1, rounds=14)


def test_the_odd_pair_is_named_and_no_other() -> None:
    assert report({}).odd == ()
    (odd,) = report({("node2", "node5"): 0.6}).odd
    assert (odd.client, odd.server, odd.metric) == ("node2", "node5", "steady_bps")
    assert odd.value == pytest.approx(0.6e9, rel=0.1)
    assert odd.expected == pytest.approx(1e9, rel=0.1)


def test_a_pair_that_loses_is_named_and_a_packet_by_chance_is_not() -> None:
    assert report({("node2", "node5"): 6}).odd == (), "five segments sent again"
    (odd,) = report({("node2", "node5"): 301, ("node4", "node1"): 2}).odd
    assert (odd.client, odd.server, odd.metric) == ("node2", "node5", "retransmits_per_gb")
    assert odd.expected == 0


def test_a_slow_node_makes_no_pair_odd() -> None:
    assert report({}, slow_node="node3").odd == ()
    (odd,) = report({("node2", "node5"): 0.6}, slow_node="node3").odd
    assert (odd.client, odd.server) == ("node2", "node5")


def test_the_report_shows_matrices_and_what_was_not_measured() -> None:
    whole = report({("node2", "node5"): 0.5})
    lost = MeshRun(
        round=15, client="node1", server="node2", begun_ns=1, ended_ns=2, error="the worker is lost"
    )
    runs = [lost]
    found = join_mesh(runs, NODES, at_once=1, rounds=15)
    assert not found.complete
    assert found.matrix("steady_bps")[0][1] is None
    console = Console(width=100, file=io.StringIO(), record=True)
    console.print(render(whole), highlight=False)
    console.print(render(found), highlight=False)
    text = " ".join(console.export_text().split())
    assert "56 pairs of 8 nodes in 14 rounds, 1 at once" in text
    assert "node2 -> node5: steady bitrate 5" in text
    assert "node1 -> node2: the worker is lost" in text


def test_a_worker_that_dask_has_lost_already_costs_its_own_pair() -> None:
    """Dask's actor of a lost worker raises an error as soon as a method of it is named."""
    pytest.importorskip("distributed", reason="the extra `mesh` is not installed here")
    from distributed.actor import Actor

    lost = Actor(MeshNode, "tcp://192.0.2.1:1", "key")
    lost._future = SimpleNamespace(status="error")
    with pytest.raises(RuntimeError, match="was lost"):
        _ = lost.measure
    mesh = Mesh(None)
    mesh._nodes = {name: _Node(lost, "192.0.2.1", 1) for name in ("a", "b")}
    run = asyncio.run(mesh._test(1, "a", "b"))
    assert run.result is None
    assert run.error == "the worker a is lost: Worker holding Actor was lost.  Status: error"
    assert set(mesh._nodes) == {"b"}


@pytest.mark.parametrize(("option", "kept"), [("--rr", True), ("--crr", False)])
def test_round_trips_of_a_mesh_keep_their_connections_or_not(option: str, kept: bool) -> None:
    spec = cli_mesh._spec(parser().parse_args(["mesh", "--scheduler", "tcp://h:1", option]))
    assert spec == nm.RrSpec(timing=nm.Timing(duration_s=2.0), keep_connections=kept)


def test_wrong_values_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ValueError, match="0 tests at once: it must be 1 to 64"):
        Mesh(None, at_once=0)
    with pytest.raises(ValueError, match="not by URL"):
        Mesh(None, HttpSpec(url="http://x/"))  # type: ignore[arg-type]
    assert main(["mesh", "--scheduler", "tcp://127.0.0.1:1", "--address", "x"]) == Exit.USAGE
    assert one_line(capsys.readouterr().err).startswith("netmeasure: 'x' is not NAME=ADDRESS")
