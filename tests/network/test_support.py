"""Test the harness itself: the figures of its links and peers, and its clean-up.

A test of the package can only be as good as the link, the peer and the faults it is given.
"""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from support import iperf3, netns, warm
from support.harness import (
    STEADY,
    joined,
    listener,
    needs_iperf3,
    needs_namespaces,
    nothing_left,
    receive,
)
from support.netns import Network
from support.ports import nobody
from support.program import server

pytestmark = [pytest.mark.network, pytest.mark.rates]

CONNECT = """
import json, socket, sys, time
start = time.monotonic()
with socket.create_connection((sys.argv[1], int(sys.argv[2])), timeout=20):
    print(json.dumps(time.monotonic() - start))
"""


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


def connect_time_s(network: netns.NamespacePair, host: str, port: int) -> float:
    """Return how long a plain Python program on the client side takes to connect."""
    argv = network.command("client", [sys.executable, "-c", CONNECT, host, str(port)])
    done = subprocess.run(argv, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    return float(json.loads(done.stdout))


# ---- namespaces and the link


@needs_namespaces
def test_a_program_starts_in_the_namespace_of_its_thread() -> None:
    """Also after the program has been imported elsewhere, for the tests of the command line."""
    home = os.readlink("/proc/thread-self/ns/net")
    with warm.imported(), Network() as network, network.enter("client"), server() as (process, _):
        there = os.readlink(f"/proc/{process.pid}/ns/net")
        assert there == os.readlink("/proc/thread-self/ns/net") != home


@needs_namespaces
class TestNetwork:
    @needs_iperf3
    @pytest.mark.interop
    @pytest.mark.parametrize("rate", ["1gbit", "100mbit"])
    @pytest.mark.parametrize("direction", [(), ("-R",)], ids=["upload", "download"])
    def test_a_shaped_link_carries_its_payload_ceiling(
        self, rate: str, direction: tuple[str, ...]
    ) -> None:
        with Network() as network, iperf3.server(network) as server:
            network.shape(rate)
            host = network.server.address
            report = iperf3.client(host, server.port, *STEADY, *direction, network=network)
            carried = report["end"]["sum_received"]["bits_per_second"]
            assert carried == pytest.approx(network.payload_ceiling_bps(rate), rel=0.02)

    @needs_iperf3
    @pytest.mark.interop
    def test_a_shaped_link_carries_its_payload_ceiling_over_ipv6(self) -> None:
        with Network() as network, iperf3.server(network) as server:
            network.shape("1gbit")
            host = network.server.address6
            report = iperf3.client(host, server.port, *STEADY, network=network)
            carried = report["end"]["sum_received"]["bits_per_second"]
            assert carried == pytest.approx(
                network.payload_ceiling_bps("1gbit", family=6), rel=0.02
            )

    def test_a_shape_can_be_taken_away(self) -> None:
        with Network() as network, ExitStack() as stack:
            network.shape(None)
            network.shape("1mbit")
            network.shape(None)
            client, server = joined(network, stack)
            start = time.monotonic()
            sender = threading.Thread(target=client.sendall, args=(bytes(4_000_000),))
            sender.start()
            receive(server, 4_000_000)
            sender.join()
            assert time.monotonic() - start < 5

    def test_invalid_rates_are_refused(self) -> None:
        with pytest.raises(ValueError, match="fast"):
            Network.payload_ceiling_bps("fast")

    @pytest.mark.parametrize("family", [4, 6])
    def test_a_new_network_is_usable_at_once(self, family: int) -> None:
        with Network() as network:
            host = network.server.address if family == 4 else network.server.address6
            with listener(network, host) as listening, network.enter("client"):
                start = time.monotonic()
                socket.create_connection(listening.getsockname()[:2], timeout=30).close()
                assert time.monotonic() - start < 0.1

    @pytest.mark.parametrize("family", [4, 6])
    def test_a_late_network_delays_the_connect_to_the_kernels_repetition(self, family: int) -> None:
        with Network() as network:
            host = network.server.address if family == 4 else network.server.address6
            with listener(network, host) as listening, network.late(2.5):
                late_s = connect_time_s(network, host, listening.getsockname()[1])
            with listener(network, host) as listening:
                prompt_s = connect_time_s(network, host, listening.getsockname()[1])
        assert 2.9 < late_s < 3.5
        assert prompt_s < 0.2

    def test_leaving_a_late_network_early_ends_it(self) -> None:
        with Network() as network, listener(network, network.server.address) as listening:
            with network.late(3600):
                pass
            port = listening.getsockname()[1]
            assert connect_time_s(network, network.server.address, port) < 0.2

    def test_a_cut_stops_the_data_without_a_reset_and_mending_lets_it_go_on(self) -> None:
        with Network() as network, ExitStack() as stack:
            client, server = joined(network, stack)
            client.sendall(b"before")
            assert receive(server, 6) == b"before"
            network.cut()
            client.sendall(b"after")
            server.sendall(b"reply")
            for side in (server, client):
                side.settimeout(0.3)
                with pytest.raises(TimeoutError):
                    side.recv(1)
                side.settimeout(5)
            network.mend()
            assert receive(server, 5) == b"after"
            assert receive(client, 5) == b"reply"

    def test_a_thread_enters_alone_and_comes_back(self) -> None:
        def namespace() -> str:
            return os.readlink("/proc/thread-self/ns/net")

        def work() -> None:
            with network.enter("server"):
                entered.append(namespace())
                inside.set()
                assert checked.wait(30)
            left.append(namespace())

        home = namespace()
        entered: list[Any] = []
        left: list[Any] = []
        inside, checked = threading.Event(), threading.Event()
        with Network() as network:
            worker = threading.Thread(target=work)
            worker.start()
            assert inside.wait(30)
            assert namespace() == home
            checked.set()
            worker.join()
            assert entered != [home]
            assert left == [home]
            with pytest.raises(ZeroDivisionError), network.enter("client"):
                1 / 0  # noqa: B018
            assert namespace() == home

    def test_settings_are_those_of_one_side(self) -> None:
        name = "net.ipv4.tcp_syn_retries"
        with Network() as network:
            network.sysctl("client", name, 3)
            network.sysctl("server", name, 4)
            for side, value in (("client", "3"), ("server", "4")):
                with network.enter(side):
                    assert Path("/proc/sys", *name.split(".")).read_text().strip() == value


# ---- cleaning up


@needs_namespaces
class TestCleaning:
    def test_processes_and_pipes_end_with_the_network(self) -> None:
        with Network() as network:
            started = network.popen("server", ["sleep", "60"], stdout=subprocess.PIPE)
            shell = ["sh", "-c", "sleep 61 >/dev/null & echo $!; exit 0"]
            orphan = subprocess.check_output(network.command("server", shell))
        assert started.returncode is not None
        assert not runs(int(orphan))

    @pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
    def test_a_failing_block_leaves_nothing(self, error: type[BaseException]) -> None:
        with pytest.raises(error), Network():
            raise error

    @pytest.mark.parametrize("error", [OSError, KeyboardInterrupt])
    def test_a_failing_construction_leaves_nothing(self, error: type[BaseException]) -> None:
        class Broken(Network):
            def _build(self) -> None:
                super()._build()
                raise error

        with pytest.raises(error), Broken():
            pass

    def test_the_namespaces_of_a_killed_run_are_removed_and_others_are_not(self) -> None:
        doomed = (
            "import os, signal, subprocess; from support.netns import Network\n"
            "with Network() as n:\n"
            "    print(n.client.namespace, n.server.namespace, flush=True)\n"
            "    n.popen('client', ['sleep', '60'], stdout=subprocess.DEVNULL)\n"
            "    os.kill(os.getpid(), signal.SIGKILL)"
        )
        support_root = str(Path(netns.__file__).parents[1])
        named = subprocess.run(
            [sys.executable, "-c", doomed],
            env={**os.environ, "PYTHONPATH": support_root},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert named.returncode == -signal.SIGKILL
        dead = set(named.stdout.split())
        assert len(dead) == 2
        with Network() as network:
            swept = netns.sweep()  # a worker that begins or ends may have swept them before
            living = {network.client.namespace, network.server.namespace}
            assert living.isdisjoint(swept)
            assert living <= set(netns.existing())
            assert dead.isdisjoint(netns.existing())

    def test_an_exit_without_leaving_the_block_leaves_nothing(self) -> None:
        careless = (
            "from support.netns import Network\n"
            "n = Network().__enter__()\n"
            "print(n.client.namespace)"
        )
        support_root = str(Path(netns.__file__).parents[1])
        named = subprocess.check_output(
            [sys.executable, "-c", careless],
            env={**os.environ, "PYTHONPATH": support_root},
            text=True,
        )
        assert named.strip() not in netns.existing()


def runs(pid: int) -> bool:
    """Return whether the process exists and is no zombie."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


# ---- iperf3


@needs_iperf3
@pytest.mark.interop
class TestIperf3:
    def test_a_failure_is_an_assertion_with_the_reason(self) -> None:
        with nobody() as port:
            with pytest.raises(AssertionError, match="Connection refused"):
                iperf3.client("127.0.0.1", port)
            assert "refused" in iperf3.client("127.0.0.1", port, check=False)["error"]

    def test_a_server_that_cannot_start_tells_why(self) -> None:
        with (
            pytest.raises(AssertionError, match="client only"),
            iperf3.server(args=["--reverse"]),
        ):
            pass

    def test_a_one_off_server_ends_after_its_test(self) -> None:
        with iperf3.server(one_off=True) as server:
            iperf3.client("127.0.0.1", server.port, "-n", "1M")
            assert server.process.wait(timeout=30) == 0
            assert "Accepted connection" in server.output
