"""Test the time when a path becomes usable, and what blocked it until then.

The kernel alone repeats a SYN after 1, 3 and 7 s: a network late by 50 ms looks late by 1 s.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.clock import now_ns
from support.netns import Network, ip
from support.optional import known

pytestmark = [pytest.mark.network, pytest.mark.rates]

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
#: The time between attempts, and how late a thread and a timer of a busy host may be.
GRAIN_NS, LATE_NS = 10_000_000, 10_000_000
PORT = 5300
LISTENER = """
import socket, sys
listener = socket.create_server(("", int(sys.argv[1])), backlog=4096)
print(flush=True)
while True:
    listener.accept()[0].close()
"""


@pytest.fixture
def network() -> Iterator[Network]:
    with Network() as pair:
        yield pair


class Change:
    """Change something after a while, and record the times just before and after the change."""

    def __init__(self, after_s: float, change: Callable[[], None]) -> None:
        self.before_ns = self.after_ns = 0
        self._change = change
        self._timer = threading.Timer(after_s, self._make)

    def __enter__(self) -> Change:
        self.start_ns = now_ns()
        self._timer.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._timer.join()

    def _make(self) -> None:
        self.before_ns = now_ns()
        self._change()
        self.after_ns = now_ns()


@contextmanager
def listening(network: Network) -> Iterator[None]:
    """Accept connections in the server's namespace, in a separate process as on another host."""
    argv = [sys.executable, "-I", "-S", "-c", LISTENER, str(PORT)]
    process = network.popen("server", argv, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        process.stdout.readline()
        yield
    finally:
        process.kill()
        process.communicate()


async def waited(network: Network, change: Change, *targets: str, **more: Any) -> Any:
    """Wait in the client's namespace, while a listener runs in the server's namespace."""
    wait_for = nm.ready  # imported now, not between the two readings of the clock
    with listening(network), network.enter("client"), change:
        began_ns = now_ns()
        return await wait_for(*targets, **more), began_ns


def check_moment(at_ns: int | None, began_ns: int, change: Change) -> None:
    at = known(at_ns) + began_ns
    assert change.before_ns - GRAIN_NS <= at <= change.after_ns + GRAIN_NS + LATE_NS


@pytest.mark.parametrize("outage_s", [0.05, 0.4, 1.5])
def test_the_end_of_an_outage_is_timed(network: Network, run: RunOnce, outage_s: float) -> None:
    network.cut()
    change = Change(outage_s, network.mend)
    target = f"{network.server.address}:{PORT}"
    (found,), began_ns = run(waited(network, change, target, timeout_s=10))
    assert found.reached
    check_moment(found.at_ns, began_ns, change)
    assert [wait.cause for wait in found.waits] == ["no_answer"]
    assert found.waits[0].end_ns == found.at_ns


def test_causes_one_after_the_other(network: Network, run: RunOnce) -> None:
    """There is no route, then the next hop does not answer, then packets get lost, then the port
    refuses the connection."""
    near, far = network.client, network.server
    network_of = ("-n", near.namespace)
    ip(*network_of, "route", "flush", "dev", near.device)
    ip("-n", far.namespace, "link", "set", far.device, "arp", "off")

    def come_about() -> None:
        ip(*network_of, "route", "add", far.address, "dev", near.device, "src", near.address)
        time.sleep(0.4)
        network.cut()
        time.sleep(0.4)
        network.mend()

    target = f"{far.address}:{PORT + 1}"
    change = Change(0.3, come_about)
    (found,), _ = run(waited(network, change, target, timeout_s=2.5))
    assert not found.reached
    assert found.at_ns is None
    causes = [wait.cause for wait in found.waits]
    assert causes == ["no_route", "unresolved_neighbour", "no_answer", "refused"]
    assert found.waits[0].start_ns < found.waits[0].end_ns == found.waits[1].start_ns


def test_a_name_that_appears_late(network: Network, run: RunOnce, tmp_path: Path) -> None:
    """The program has its own hosts file (hosts(5)), to which the name is added after a while."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    script = f'mount --bind {hosts} /etc/hosts && exec "$@"'
    argv = ["unshare", "--mount", "sh", "-c", script, "sh", sys.executable, "-m", "netmeasure"]
    argv += ["ready", f"late.invalid:{PORT}", "--json", "--timeout", "20s"]

    def appear() -> None:
        with hosts.open("a") as file:
            file.write(f"{network.server.address} late.invalid\n")

    async def main() -> tuple[bytes, Change]:
        with listening(network):
            process = network.popen("client", argv, stdout=subprocess.PIPE)
            with Change(1.0, appear) as change:
                output, _ = await asyncio.to_thread(process.communicate)
        return output, change

    output, _ = run(main())
    (found,) = json.loads(output)["targets"]
    assert found["reached"]
    waits = [(wait["cause"], wait["end_ns"]) for wait in found["waits"]]
    assert waits[-1][1] <= found["at_ns"] <= waits[-1][1] + 3 * GRAIN_NS
    assert {cause for cause, _ in waits} <= {"name_not_found", "name_no_answer"}


def test_a_target_that_must_become_denied(network: Network, run: RunOnce) -> None:
    change = Change(0.3, network.cut)
    target = f"{network.server.address}:{PORT}"
    (found,), began_ns = run(
        waited(network, change, target, wanted="denied", timeout_s=10, attempt_s=0.3)
    )
    assert found.reached
    check_moment(found.at_ns, began_ns, change)
    assert [wait.cause for wait in found.waits] == ["no_answer"]
    assert found.connect_ns is not None


def test_many_targets_at_once(network: Network, run: RunOnce) -> None:
    network.cut()
    targets = [f"{network.server.address}:{PORT}"] * 50
    change = Change(0.5, network.mend)
    found, began_ns = run(waited(network, change, *targets, timeout_s=10, attempt_s=0.1))
    assert len(found) == len(targets)
    for one in found:
        check_moment(one.at_ns, began_ns, change)
