"""The native probe beside a load: lost and duplicate answers must not be in the latencies, and no
probe waits for another."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from netmeasure._fast.probe import Prober, Reflector
from netmeasure._fast.worker import Group, Stream
from support.tcp_rig import PATIENCE_S
from support.udp_rig import pair

SIZE = 16
Ends = tuple[socket.socket, socket.socket]


@pytest.fixture
def ends() -> Iterator[Ends]:
    with pair() as (left, right):
        right.settimeout(PATIENCE_S)
        yield left, right


@contextmanager
def connection() -> Iterator[Ends]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        left = socket.create_connection(listener.getsockname())
        right, _ = listener.accept()
    with left, right:
        yield left, right


@pytest.fixture
def begin() -> Iterator[Callable[[Stream], threading.Thread]]:
    begun: list[tuple[Stream, threading.Thread]] = []

    def start(loop: Stream) -> threading.Thread:
        thread = threading.Thread(target=loop.run)
        begun.append((loop, thread))
        thread.start()
        return thread

    yield start
    for loop, thread in begun:
        loop.group.abort()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def until(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.001)


def test_each_part_has_its_own_figures(ends: Ends, begin: Callable[[Stream], object]) -> None:
    probe, reflector = Prober(Group(), ends[0].fileno()), Reflector(Group(), ends[1].fileno())
    begin(reflector)
    begin(probe)
    assert not probe.sending
    for name, most in (("idle", 20), ("loaded", 30)):
        probe.send(name, per_s=2000, most=most)  # type: ignore[arg-type]
        part = probe.part(name)  # type: ignore[arg-type]
        until(lambda part=part, most=most: part.answered == most)  # type: ignore[misc]
        assert part.sent == part.latency.count == sum(part.series()[2]) == most
        assert part.latency.sum_ns == sum(part.latency_sums()[2])
    assert probe.part("idle").sent == 20
    assert not probe.sending
    assert probe.unanswered == 0
    assert (probe.late, probe.invalid, reflector.invalid) == (0, 0, 0)
    until(lambda: reflector.bytes == 50 * SIZE)
    assert 0 < probe.part("loaded").latency.max_ns <= probe.longest_ns  # type: ignore[operator]


def test_no_probe_waits_for_the_answer_of_another(
    ends: Ends, begin: Callable[[Stream], object]
) -> None:
    probe = Prober(Group(), ends[0].fileno())
    begin(probe)
    probe.send("loaded", per_s=1000, most=50)
    came = [ends[1].recv(99) for _ in range(50)]  # without an answer
    part = probe.part("loaded")
    assert (part.sent, part.answered, probe.unanswered) == (50, 0, 50)
    assert {len(one) for one in came} == {SIZE}
    ends[1].send(came[7])  # late, it still counts
    ends[1].send(came[7])  # twice
    ends[1].send((10**6).to_bytes(8, "big") + bytes(8))
    ends[1].send(bytes(SIZE + 1))
    ends[1].send(b"6789")  # the answer to a hello
    until(lambda: probe.invalid == 2)
    assert (part.answered, probe.unanswered, probe.late) == (1, 49, 1)
    assert part.latency.count == 1


def test_what_the_reflector_kept_is_left_out(ends: Ends, begin: Callable[[Stream], object]) -> None:
    probe = Prober(Group(), ends[0].fileno())
    begin(probe)
    probe.send("idle", per_s=1000, most=2)
    kept_ns = 50_000_000
    for claimed_ns in (kept_ns, 2**63):  # the second one can't be
        probed = ends[1].recv(99)
        time.sleep(kept_ns / 1e9)
        ends[1].send(probed[:8] + claimed_ns.to_bytes(8, "big"))
    part = probe.part("idle")
    until(lambda: part.answered == 2)
    assert part.latency.min_ns == 1000  # no round trip takes no time
    assert part.latency.sum_ns + part.host_ns[0] >= 2 * kept_ns
    assert part.host_ns[1] >= kept_ns


def test_a_rate_changes_and_a_pause_ends_it(ends: Ends, begin: Callable[[Stream], object]) -> None:
    probe = Prober(Group(), ends[0].fileno())
    begin(probe)
    probe.send("loaded", per_s=0.001)
    until(lambda: probe.part("loaded").sent == 1)
    probe.send("loaded", per_s=5000)  # the next one is due at once, not in a thousand seconds
    until(lambda: probe.part("loaded").sent > 20)
    probe.pause()
    until(lambda: not probe.sending)
    sent = probe.part("loaded").sent
    time.sleep(0.02)
    assert probe.part("loaded").sent == sent
    with pytest.raises(ValueError, match="per_s"):
        probe.send("loaded", per_s=0)


def test_a_hello_that_is_repeated_is_answered(
    ends: Ends, begin: Callable[[Stream], object]
) -> None:
    loop = Reflector(Group(), ends[1].fileno(), hello=b"9876", hello_bytes=45, hello_reply=b"6789")
    begin(loop)
    ends[0].settimeout(PATIENCE_S)
    ends[0].send(b"9876".ljust(45))
    assert ends[0].recv(99) == b"6789"
    for odd in (b"", b"9875".ljust(45), bytes(SIZE + 1), bytes(2000)):
        ends[0].send(odd)
    until(lambda: loop.invalid == 4)
    assert loop.bytes == 0


def test_a_reflector_answers_at_a_bounded_rate(
    ends: Ends, begin: Callable[[Stream], object]
) -> None:
    loop = Reflector(Group(), ends[1].fileno())
    begin(loop)
    end = time.monotonic() + 0.25
    sent = 0
    while time.monotonic() < end:
        ends[0].send(bytes(SIZE))
        sent += 1
    answered = loop.bytes / SIZE
    seconds = 0.25 + (time.monotonic() - end)
    assert answered <= 200 * (1 + seconds / 0.1)
    assert sent > answered


@pytest.mark.parametrize("end", [Prober, Reflector])
def test_both_ends_leave_when_told(
    ends: Ends, begin: Callable[[Stream], threading.Thread], end: type[Prober | Reflector]
) -> None:
    loop = end(Group(), ends[0].fileno())
    thread = begin(loop)
    loop.group.stop()
    ends[0].shutdown(socket.SHUT_RDWR)  # a reflector waits in a call
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    assert loop.reason == "stopped"


def test_probes_by_tcp_follow_each_other(begin: Callable[[Stream], object]) -> None:
    with connection() as (left, right):
        right.settimeout(PATIENCE_S)
        probe = Prober(Group(), left.fileno(), stream=True)
        begin(probe)
        probe.send("idle", per_s=1000, most=3)
        came = b""
        while len(came) < 3 * SIZE:
            came += right.recv(99)
        for piece in (came[:5], came[5 : 2 * SIZE + 1], came[2 * SIZE + 1 :]):
            right.sendall(piece)
        until(lambda: probe.part("idle").answered == 3)
        assert (probe.late, probe.invalid, probe.unanswered) == (0, 0, 0)
        right.sendall(came[:SIZE] + bytes(SIZE))
        until(lambda: probe.invalid == 1)
        assert probe.late == 1
        right.close()
        until(lambda: probe.reason == "eof")


def test_a_reflector_by_tcp_answers_whole_probes_only(begin: Callable[[Stream], object]) -> None:
    with connection() as (left, right):
        left.settimeout(PATIENCE_S)
        loop = Reflector(Group(), right.fileno(), stream=True)
        begin(loop)
        numbers = [bytes([number]) * 8 for number in (1, 2, 3)]
        sent = b"".join(number + bytes(8) for number in numbers)
        left.sendall(sent[:20])
        left.sendall(sent[20:])
        came = b""
        while len(came) < len(sent):
            came += left.recv(99)
        assert [came[i : i + 8] for i in range(0, len(came), SIZE)] == numbers
        until(lambda: loop.bytes == 3 * SIZE)
        left.sendall(b"x")
        left.shutdown(socket.SHUT_WR)
        until(lambda: loop.reason == "eof")
