"""Test the harness itself: the relay, which delays and loses packets, and the proxy, which breaks
connections."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from typing import Any

import pytest

from support import iperf3
from support.harness import (
    STEADY,
    listener,
    needs_iperf3,
    needs_namespaces,
    needs_relay,
    nothing_left,
    receive,
    receive_to_the_end,
)
from support.netns import Network
from support.proxy import Action, Direction, Proxy
from support.relay import Relay

pytestmark = [pytest.mark.network, pytest.mark.rates]

SO_RCVBUFFORCE = 33  # the socket module does not name it


@pytest.fixture(autouse=True)
def _nothing_left() -> Iterator[None]:
    with nothing_left():
        yield


# ---- the relay


@needs_relay
class TestRelay:
    def test_the_delay_of_the_relay_is_the_round_trip_of_a_connect(self) -> None:
        with (
            Relay(delay_ms=25) as line,
            listener(line, line.server.address) as listening,
            line.enter("client"),
        ):
            start = time.monotonic()
            with socket.create_connection(listening.getsockname(), timeout=30):
                took_s = time.monotonic() - start
                listening.accept()[0].close()
        assert 0.050 <= took_s < 0.060
        assert line.counts["up"].forwarded_packets >= 2
        assert line.counts["up"].overrun_packets == 0

    def test_losses_of_the_relay_are_counted_and_repeat_with_the_seed(self) -> None:
        first, lost = datagrams_through(Relay(loss=0.1, seed=7))
        again, _ = datagrams_through(Relay(loss=0.1, seed=7))
        other, _ = datagrams_through(Relay(loss=0.1, seed=8))
        assert first == again != other
        assert 500 - len(first) == lost
        assert 25 <= lost <= 80

    @needs_iperf3
    @pytest.mark.interop
    def test_the_rate_of_the_relay_is_the_rate_that_arrives(self) -> None:
        rate_bps = 50_000_000
        with Relay(delay_ms=2, rate_bps=rate_bps, queue_bytes=100_000) as line:
            with iperf3.server(line) as server:
                report = iperf3.client(line.server.address, server.port, *STEADY, network=line)
            carried = report["end"]["sum_received"]["bits_per_second"]
            assert carried == pytest.approx(rate_bps * 1448 / 1500, rel=0.02)

    def test_a_full_queue_drops(self) -> None:
        arrived, _ = datagrams_through(line := Relay(rate_bps=1_000_000, queue_bytes=12_000))
        up = line.counts["up"]
        assert up.queue_dropped_packets > 300
        assert up.forwarded_packets == len(arrived)
        assert up.forwarded_packets + up.queue_dropped_packets + up.held_packets == 500

    def test_duplicates_and_reorderings_are_those_that_the_relay_counts(self) -> None:
        arrived, lost = datagrams_through(line := Relay(loss=0.1, duplicate=0.2, reorder=0.2))
        up = line.counts["up"]
        assert len(set(arrived)) == 500 - lost
        assert len(arrived) - len(set(arrived)) == up.duplicated_packets > 50
        highest, overtaken = -1, 0
        for number in dict.fromkeys(arrived):
            overtaken += number < highest
            highest = max(highest, number)
        assert overtaken == up.reordered_packets > 50

    def test_only_watched_datagrams_are_lost_and_a_gap_is_exact(self) -> None:
        harmless: dict[str, Any] = {"loss": 1.0, "duplicate": 0.0, "only_watched": True}
        arrived, lost = datagrams_through(Relay(**harmless, watch=99))
        assert (arrived, lost) == (list(range(500)), 0)
        arrived, lost = datagrams_through(line := Relay(gap=(11, 20), watch=100))
        assert arrived == [*range(10), *range(20, 500)]
        assert line.counts["up"].watched.lost_packets == lost == 10
        assert line.counts["up"].watched.forwarded_packets == 490

    def test_the_relay_obeys_orders_while_packets_pass(self) -> None:
        with Relay(rate_bps=100_000, queue_bytes=100_000) as line, ExitStack() as stack:
            ends = {}
            for name in ("server", "client"):
                with line.enter(name):
                    end = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
                ends[name] = stack.enter_context(end)
                end.bind((line.sides[name].address, 0))
                end.settimeout(5)
            there = ends["server"].getsockname()
            line.cut()
            ends["client"].sendto(b"lost", there)
            time.sleep(0.1)  # the relay reports losses only at its end
            line.mend()
            start = time.monotonic()
            for _ in range(20):  # 1028 bytes each: 1.6 s at the first rate
                ends["client"].sendto(bytes(1000), there)
            line.change_rate(10_000_000)
            received = [ends["server"].recv(2000) for _ in range(20)]
            assert time.monotonic() - start < 1.0
            assert received == [bytes(1000)] * 20
            with pytest.raises(OSError, match="did not obey"):
                line._order("rate fast")


def datagrams_through(line: Relay) -> tuple[list[int], int]:
    """Send 500 numbered datagrams up the line; return those that came, and the relay's losses."""
    with line, ExitStack() as stack:
        with line.enter("server"):
            receiver = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        receiver.bind((line.server.address, 0))
        receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 1 << 22)
        receiver.settimeout(0.2)
        with line.enter("client"):
            sender = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        for number in range(500):
            sender.sendto(number.to_bytes(4, "big") + bytes(96), receiver.getsockname())
        arrived = []
        while True:
            try:
                arrived.append(int.from_bytes(receiver.recv(100)[:4], "big"))
            except TimeoutError:
                break
    return arrived, line.counts["up"].lost_packets


# ---- the proxy


@pytest.fixture
def through() -> Iterator[tuple[Proxy, socket.socket, socket.socket]]:
    """Provide a proxy, and the client's and the target's socket of its connection 0."""
    with (
        socket.create_server(("127.0.0.1", 0)) as target,
        Proxy(target.getsockname()) as proxy,
        socket.create_connection(proxy.address, timeout=30) as client,
        target.accept()[0] as server,
    ):
        server.settimeout(5)
        assert proxy.connection(0).wait_open()
        yield proxy, client, server


Through = tuple[Proxy, socket.socket, socket.socket]


class TestProxy:
    def test_the_proxy_copies_both_ways(self, through: Through) -> None:
        proxy, client, server = through
        data = os.urandom(1 << 23)
        sender = threading.Thread(target=client.sendall, args=(data,))
        sender.start()
        assert receive(server, len(data)) == data
        sender.join()
        server.sendall(b"thanks")
        assert receive(client, 6) == b"thanks"
        assert proxy.connection(0).forwarded("up") == len(data)
        assert proxy.connection(0).forwarded("down") == 6

    def test_the_end_of_one_direction_leaves_the_other_open(self, through: Through) -> None:
        proxy, client, server = through
        client.shutdown(socket.SHUT_WR)
        assert server.recv(1) == b""
        server.sendall(b"still")
        server.close()
        assert receive(client, 6) == b"still"
        assert proxy.connection(0).wait_ended()

    def test_a_reset_reaches_both_sides(self, through: Through) -> None:
        proxy, client, server = through
        proxy.connection(0).reset()
        for side in (client, server):
            with pytest.raises(ConnectionResetError):
                side.recv(1)

    def test_a_close_is_an_orderly_end_for_both_sides(self, through: Through) -> None:
        proxy, client, server = through
        client.sendall(b"last")
        assert receive(server, 4) == b"last"
        proxy.connection(0).close()
        assert client.recv(1) == server.recv(1) == b""

    def test_a_reset_from_a_peer_is_passed_on(self, through: Through) -> None:
        _, client, server = through
        client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, bytes([1, 0, 0, 0, 0, 0, 0, 0]))
        client.close()
        with pytest.raises(ConnectionResetError):
            server.recv(1)

    @pytest.mark.parametrize("direction", ["up", "both"])
    def test_a_stall_is_silence_until_it_ends(self, through: Through, direction: Direction) -> None:
        proxy, client, server = through
        proxy.connection(0).stall(direction)
        client.sendall(b"up")
        server.sendall(b"down")
        server.settimeout(0.1)
        with pytest.raises(TimeoutError):
            server.recv(1)
        if direction == "up":
            assert receive(client, 4) == b"down"
        server.settimeout(5)
        proxy.connection(0).resume(direction)
        assert receive(server, 2) == b"up"

    def test_a_trickle_arrives_byte_by_byte_and_whole(self, through: Through) -> None:
        proxy, client, server = through
        proxy.connection(0).trickle("up", pause_s=0.002)
        client.sendall(b"slow as slow can be")
        pieces = [server.recv(100)]
        while sum(map(len, pieces)) < 19:
            pieces.append(server.recv(100))
        assert b"".join(pieces) == b"slow as slow can be"
        assert len(pieces) > 12

    def test_a_half_close_ends_one_direction_only(self, through: Through) -> None:
        proxy, client, server = through
        proxy.connection(0).half_close("up")
        assert server.recv(1) == b""
        client.sendall(b"lost")
        server.sendall(b"found")
        assert receive(client, 5) == b"found"

    @pytest.mark.parametrize("count", [0, 1, 5])
    @pytest.mark.parametrize(
        ("action", "ending"),
        [("close", "FIN"), ("reset", "RST"), ("half_close", "FIN"), ("stall", "silence")],
    )
    def test_an_order_given_in_advance_takes_effect_at_its_byte(
        self, count: int, action: Action, ending: str
    ) -> None:
        with ExitStack() as stack:
            target = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            proxy = stack.enter_context(Proxy(target.getsockname()))
            proxy.connection(1).after(count, "up", action)
            clients, servers = [], []
            for _ in range(2):
                # The fault may come before connect() returns, or during sendall().
                with suppress(ConnectionError):
                    clients.append(stack.enter_context(socket.create_connection(proxy.address, 5)))
                    clients[-1].sendall(b"0123456789")
                servers.append(stack.enter_context(target.accept()[0]))
                servers[-1].settimeout(0.2)
            assert receive(servers[0], 10) == b"0123456789"
            assert receive_to_the_end(servers[1]) == (b"0123456789"[:count], ending)

    def test_an_unreachable_target_is_a_reset_for_the_client(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as target:
            nowhere = target.getsockname()
        with (
            Proxy(nowhere) as proxy,
            pytest.raises(ConnectionResetError),  # on a busy machine before connect() returns
            socket.create_connection(proxy.address, timeout=30) as client,
        ):
            client.recv(1)

    @needs_namespaces
    def test_the_proxy_is_in_the_namespace_where_it_was_started(self) -> None:
        with Network() as network, ExitStack() as stack:
            target = stack.enter_context(listener(network, network.server.address))
            with network.enter("client"):
                proxy = stack.enter_context(Proxy(target.getsockname()))
                client = stack.enter_context(socket.create_connection(proxy.address, timeout=30))
            target.accept()[0].close()
            assert client.recv(1) == b""

    @needs_iperf3
    @pytest.mark.interop
    def test_iperf3_passes_fast_and_meets_the_ordered_fault(self) -> None:
        with iperf3.server() as server:
            with Proxy(("127.0.0.1", server.port)) as proxy:
                report = iperf3.client(*proxy.address, "-t", "1", "-C", "cubic")
                arrived = report["end"]["sum_received"]
                assert proxy.accepted == 2
                assert proxy.connection(1).forwarded("up") >= arrived["bytes"]
                assert arrived["bits_per_second"] > 1e9
            assert server.wait_listening()
            with Proxy(("127.0.0.1", server.port)) as proxy:
                proxy.connection(0).after(37, "up", "reset")
                report = iperf3.client(*proxy.address, "-n", "1M", check=False)
                assert "error" in report
                assert proxy.connection(0).forwarded("up") == 37
