"""Test the mesh on a real Dask cluster, whose scheduler and workers are separate processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import pytest

from netmeasure.cli.exits import Exit
from support.census import settle
from support.ports import free_port
from support.program import netmeasure

pytest.importorskip("distributed", reason="the extra `mesh` is not installed here")

WORKERS = ("node1", "node2", "node3")
#: A program that measures a mesh, and after the first run stops (SIGSTOP) the process that it is
#: given, whose connections stay open.
VANISHING = """
import asyncio, json, os, signal, sys
from distributed import Client
import netmeasure as nm
from netmeasure.meshes import mesh

mesh._LATE_S, mesh._ANSWER_S = 1, 2
asked = []

class Mesh(nm.Mesh):
    async def _look_at(self, *names):
        asked.extend(name for name in names if name in self._nodes)
        await super()._look_at(*names)

async def main():
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.1))
    async with Client(sys.argv[1], asynchronous=True) as client:
        await client.wait_for_workers(3, timeout=100)
        measured = Mesh(client, spec)
        try:
            async for run in measured.run():
                if len(measured.runs) == 1:
                    os.kill(int(sys.argv[2]), signal.SIGSTOP)
        finally:
            os.kill(int(sys.argv[2]), signal.SIGCONT)
        runs = [(one.client, one.server, one.error) for one in measured.runs]
        print(json.dumps({"runs": runs, "asked": asked}))

asyncio.run(main())
"""


@contextlib.contextmanager
def started(module: str, *words: str) -> Iterator[int]:
    command = (sys.executable, "-m", f"distributed.cli.{module}", *words)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            yield process.pid
        finally:
            process.kill()


class Cluster(NamedTuple):
    """Hold the scheduler's address, and the workers' processes by their names."""

    address: str
    workers: dict[str, int]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    address = f"tcp://127.0.0.1:{free_port()}"
    place = ("--host", "127.0.0.1", "--port", address.rpartition(":")[2], "--no-dashboard")
    worker = (address, "--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--nthreads", "1")
    with contextlib.ExitStack() as all_of_it:
        all_of_it.enter_context(started("dask_scheduler", *place))
        workers = {
            name: all_of_it.enter_context(started("dask_worker", *worker, "--name", name))
            for name in WORKERS
        }
        yield Cluster(address, workers)


@pytest.fixture
def scheduler(cluster: Cluster) -> str:
    return cluster.address


def measured(scheduler: str, file: Path, *words: str) -> tuple[int, dict[str, Any]]:
    """Run the program once all workers have come; return its exit code and document."""
    command = ("mesh", "--scheduler", scheduler, "-t", "0.1", "-b", "10M", "--json", str(file))
    found: list[tuple[int, dict[str, Any]]] = []

    def is_whole() -> bool:
        ran = netmeasure(*command, *words, timeout=100)
        if ran.returncode not in (Exit.OK, Exit.CUT_SHORT):
            return False
        found.append((ran.returncode, json.loads(file.read_text())))
        return len(found[-1][1]["nodes"]) == len(WORKERS)

    assert settle(is_whole, 100)
    return found[-1]


def test_every_pair_of_a_cluster(scheduler: str, tmp_path: Path) -> None:
    junit = tmp_path / "junit.xml"
    words = ("--slo", "setup<100s", "--junit", str(junit))
    code, report = measured(scheduler, tmp_path / "json", *words)
    assert code == Exit.OK
    told = {suite.get("name") for suite in ElementTree.fromstring(junit.read_bytes())}
    assert told == {f"netmeasure {a} to {b}" for a in WORKERS for b in WORKERS if a != b}
    assert report["nodes"] == list(WORKERS)
    assert report["rounds"] == 6
    pairs = {(pair["client"], pair["server"]): pair for pair in report["pairs"]}
    assert set(pairs) == {(a, b) for a in WORKERS for b in WORKERS if a != b}
    assert all(pair["figures"]["complete"] for pair in pairs.values())
    spans = sorted((pair["begun_ns"], pair["ended_ns"]) for pair in pairs.values())
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))


def test_a_worker_that_can_not_serve_costs_only_its_own_pairs(
    scheduler: str, tmp_path: Path
) -> None:
    code, report = measured(scheduler, tmp_path / "json", "--address", "node3=192.0.2.1")
    assert code == Exit.CUT_SHORT
    for pair in report["pairs"]:
        if "node3" in (pair["client"], pair["server"]):
            assert pair["error"].startswith("the worker node3 is lost: can't listen on 192.0.2.1")
        else:
            assert pair["figures"]["complete"]


def test_a_worker_that_stops_answering_costs_its_own_pairs_and_time_only_once(
    cluster: Cluster,
) -> None:
    words = [sys.executable, "-c", VANISHING, cluster.address, str(cluster.workers["node3"])]
    ran = subprocess.run(words, capture_output=True, text=True, timeout=100, check=False)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    pairs = {(client, server): error for client, server, error in found["runs"][1:]}
    for pair, error in pairs.items():
        if "node3" in pair:
            assert error.startswith("the worker node3 is lost: it has not ")
        else:
            assert error is None
    assert found["asked"].count("node3") == 1
