"""Test the image as users run it: unprivileged, on a read-only file system, on a bridge network.

It is also tested with the real iperf3.
"""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.cli.exits import Exit
from netmeasure.spec import DEFAULT_PORT
from support import census, containers
from support.containers import Bridge, Container, Images
from support.manifests import FOLDER, documents, playable

pytestmark = [pytest.mark.containers, pytest.mark.timeout(500)]

MAX_BYTES = 150_000_000  # over the base


@pytest.fixture(scope="module")
def images() -> Iterator[Images]:
    containers.sweep()
    with containers.images() as built:
        yield built


@pytest.fixture
def bridge() -> Iterator[Bridge]:
    with containers.bridge() as network:
        yield network


def ready(container: Container, words: str = "listening on") -> Container:
    assert census.settle(lambda: words.lower() in container.output.lower(), 20.0), container.output
    return container


def measured(bridge: Bridge, image: str, *words: str) -> dict[str, Any]:
    """Return what `client ... --json` reports for a complete test."""
    ran = bridge.run(image, "client", *words, "-t", "0.5", "--json")
    assert (ran.returncode, ran.stderr) == (Exit.OK, "")
    result: dict[str, Any] = json.loads(ran.stdout)
    assert result["complete"]
    return result


def gone(pid: int) -> bool:
    return census.settle(lambda: not Path(f"/proc/{pid}").exists(), 10.0)


# ---- what it is ----------------------------------------------------------------------------------


def test_size(images: Images, record_property: Any) -> None:
    over = images.size(images.ours) - images.size(images.base)
    record_property("figure", f"image: {over / 1e6:.0f} MB over its base")
    assert over <= MAX_BYTES


def test_what_the_image_says_of_itself(images: Images) -> None:
    (known,) = json.loads(containers.podman("image", "inspect", images.ours))
    config = known["Config"]
    assert config["User"] == "1000:1000"
    assert (config["Entrypoint"], config["Cmd"]) == (["netmeasure"], ["server"])
    assert set(config["ExposedPorts"]) == {f"{DEFAULT_PORT}/tcp", f"{DEFAULT_PORT}/udp"}
    assert config["StopSignal"] in ("SIGTERM", "15")


def test_nothing_that_builds_is_in_it(images: Images, bridge: Bridge) -> None:
    script = "for t in gcc pip cython; do command -v $t; done; python -c 'import pip'; id -u"
    ran = bridge.run(images.ours, "-c", script, entry="sh")
    assert ran.stdout == "1000\n"
    assert "No module named 'pip'" in ran.stderr


# ---- its life ------------------------------------------------------------------------------------


def test_start_to_listening(images: Images, bridge: Bridge, record_property: Any) -> None:
    """The time is from the start of process 1, by the kernel, to the line "listening", by the
    runtime."""
    server = ready(bridge.start(images.ours))
    lines = containers.podman("logs", "--timestamps", server.name).splitlines()
    stamp = datetime.fromisoformat(next(w for w in lines if "listening" in w).split()[0])
    took_s = stamp.timestamp() - server.started_at()
    record_property("figure", f"image: listens {took_s:.2f} s after its start")
    assert took_s > 0


def test_sigterm_in_the_middle_of_a_test(
    images: Images, bridge: Bridge, record_property: Any
) -> None:
    """The server ends long before the end of the test, and both ends say so."""
    server = ready(bridge.start(images.ours))
    client = bridge.start(images.ours, "client", server.address, "-t", "60", "-i", "0.1")
    ready(client, "bit/s")
    os.kill(server.pid, signal.SIGTERM)
    start = time.monotonic()
    assert gone(server.pid)
    took_s = time.monotonic() - start
    record_property("figure", f"image: ended {took_s:.2f} s after SIGTERM, in the middle of a test")
    assert server.wait() == Exit.OK
    assert "incomplete" in server.output
    assert client.wait() == Exit.CUT_SHORT
    assert "the server was told to terminate" in client.output


def test_probes_and_orphans(images: Images, bridge: Bridge) -> None:
    server = ready(bridge.start(images.ours, "server", "--http", "8080"), "serving HTTP")
    assert server.run("netmeasure", "probe").returncode == Exit.OK
    assert server.run("netmeasure", "probe", "127.0.0.1:9").returncode == Exit.NO_CONNECTION
    get = "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8080/%s').read())"
    for name, answer in (("healthz", b"alive\n"), ("readyz", b"ready\n")):
        assert server.run("python", "-c", get % name).stdout == f"{answer!r}\n"
    assert server.run("sh", "-c", "sleep 60 & echo").returncode == 0
    children = Path(f"/proc/{server.pid}/task/{server.pid}/children")
    (orphan,) = census.settle(lambda: children.read_text().split(), 10.0)
    os.kill(int(orphan), signal.SIGKILL)
    assert census.settle(lambda: not children.read_text(), 10.0)
    assert "probe" not in server.output


# ---- what it measures ----------------------------------------------------------------------------


def test_two_containers_measure_each_other(images: Images, bridge: Bridge) -> None:
    server = ready(bridge.start(images.ours))
    both = measured(bridge, images.ours, server.address, "-d", "both")
    for flow in both["flows"]:
        assert flow["sender"]["bytes"] == flow["receiver"]["bytes"] > 0
    datagrams = measured(bridge, images.ours, server.address, "-u", "-b", "20M")
    assert datagrams["flows"][0]["receiver"]["bytes"] > 0
    assert server.output.count("complete") == 2


@pytest.mark.parametrize("direction", ["upload", "download"])
def test_against_a_real_iperf3_server(images: Images, bridge: Bridge, direction: str) -> None:
    server = ready(bridge.start(images.iperf3, "-s", "--forceflush"), "server listening")
    result = measured(bridge, images.ours, server.address, "-d", direction)
    assert result["flows"][0]["steady"]["goodput_bps"] > 0
    assert not result["peer_extended"]


@pytest.mark.parametrize("image", ["iperf3", "ours"])
def test_a_server_for_iperf3(images: Images, bridge: Bridge, image: str) -> None:
    """The clients are the real iperf3, and the image under that name."""
    server = ready(bridge.start(images.ours))
    for words in ((), ("-R",), ("-u",)):
        ran = bridge.run(
            getattr(images, image),
            *("-c", server.address, "-t", "1", "-J", *words),
            entry="iperf3",
        )
        assert ran.returncode == 0, ran.stdout + ran.stderr
        assert json.loads(ran.stdout)["end"]["streams"]
    assert server.output.count("complete") == 3


def test_under_iperf3s_name_it_serves_the_real_one(images: Images, bridge: Bridge) -> None:
    server = ready(bridge.start(images.ours, "-s", entry="iperf3"), "server listening")
    ran = bridge.run(images.iperf3, "-c", server.address, "-t", "1", "-J")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    os.kill(server.pid, signal.SIGTERM)
    assert server.wait() == 0


# ---- what Kubernetes would run of it -------------------------------------------------------------


def test_the_pods_of_a_server_and_of_a_client(images: Images, bridge: Bridge) -> None:
    (deployment, _), (job,) = (documents(FOLDER / f"{n}.yaml") for n in ("server", "client-job"))
    server = ready(bridge.play(playable(deployment, images.ours)))
    words = {"netmeasure": server.address}
    template = playable(job, images.ours, **words)
    template["spec"]["containers"][0]["args"] += ["--time", "0.5"]
    client = bridge.play(template)
    assert client.wait() == Exit.OK, client.output
    assert "upload" in client.output
    assert "complete" in server.output


def test_a_rendered_plan(images: Images, bridge: Bridge) -> None:
    def objects(target: str) -> dict[str, dict[str, Any]]:
        plan = f'targets = ["{target}"]\nruns = 2\n[[test]]\nkind = "tcp"\nduration_s = 0.2\n'
        return {one["kind"]: one for one in nm.render_manifests(plan.encode())["items"]}

    server = ready(bridge.play(playable(objects("x")["Deployment"], images.ours)))
    there = objects(server.address)
    campaign = bridge.play(playable(there["Job"], images.ours), there["ConfigMap"])
    assert campaign.wait() == Exit.OK, campaign.output
    assert campaign.output.count("upload") >= 2


def test_the_pods_of_a_mesh(images: Images, bridge: Bridge) -> None:
    """These are the scheduler, the workers of two nodes and the campaign."""
    files = ("scheduler", "workers", "campaign")
    manifests = [documents(containers.MESH / f"{name}.yaml")[0] for name in files]
    scheduler, worker, campaign = manifests
    words = {"netmeasure_scheduler": bridge.play(playable(scheduler, images.mesh)).address}
    for node in ("node1", "node2"):
        bridge.play(playable(worker, images.mesh, NETMEASURE_NODE=node, **words))
    template = playable(campaign, images.mesh, **words)
    template["spec"]["containers"][0]["args"] += ["--settle", "2"]
    ran = bridge.play(template)
    assert ran.wait() == Exit.OK, ran.output
    report = json.loads(ran.output)
    assert report["nodes"] == ["node1", "node2"]
    assert [pair["figures"]["complete"] for pair in report["pairs"]] == [True, True]
