"""The mesh on a real Dask cluster: its scheduler and its workers are processes of their own."""

from __future__ import annotations

import contextlib
import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.census import settle
from support.ports import free_port
from support.program import netmeasure

pytest.importorskip("distributed", reason="the extra `mesh` is not installed here")

WORKERS = ("node1", "node2", "node3")


@contextlib.contextmanager
def started(module: str, *words: str) -> Iterator[None]:
    command = (sys.executable, "-m", f"distributed.cli.{module}", *words)
    quiet = subprocess.DEVNULL
    with subprocess.Popen(command, stdout=quiet, stderr=quiet) as process:
        try:
            yield
        finally:
            process.kill()


def test_every_pair_of_a_cluster(tmp_path: Path) -> None:
    file = tmp_path / "json"
    scheduler = f"tcp://127.0.0.1:{free_port()}"
    place = ("--host", "127.0.0.1", "--port", scheduler.rpartition(":")[2], "--no-dashboard")
    worker = (scheduler, "--host", "127.0.0.1", "--no-nanny", "--no-dashboard", "--nthreads", "1")
    words = ("mesh", "--scheduler", scheduler, "-t", "0.1", "-b", "10M", "--json", str(file))

    def measured() -> bool:
        """Whether the cluster was whole: workers come when they come."""
        ran = netmeasure(*words, timeout=100)
        return ran.returncode == 0 and len(json.loads(file.read_text())["nodes"]) == len(WORKERS)

    with contextlib.ExitStack() as cluster:
        cluster.enter_context(started("dask_scheduler", *place))
        for name in WORKERS:
            cluster.enter_context(started("dask_worker", *worker, "--name", name))
        assert settle(measured, 100)
    report = json.loads(file.read_text())
    assert report["nodes"] == list(WORKERS)
    assert report["rounds"] == 6
    pairs = {(pair["client"], pair["server"]): pair for pair in report["pairs"]}
    assert set(pairs) == {(a, b) for a in WORKERS for b in WORKERS if a != b}
    assert all(pair["figures"]["complete"] for pair in pairs.values())
    spans = sorted((pair["begun_ns"], pair["ended_ns"]) for pair in pairs.values())
    assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
