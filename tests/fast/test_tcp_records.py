"""Read what a native TCP loop has recorded: moments, CPU time, series, samples."""

from __future__ import annotations

import os
from itertools import pairwise
from typing import Any

import pytest

from netmeasure._fast.tcp import Receiver, Sender
from netmeasure._fast.worker import REASONS
from netmeasure.clock import MILLISECOND_NS, now_ns
from netmeasure.engine import tcpinfo
from support.tcp_rig import (
    FIELDS_SINCE_LINUX_4_1,
    MIB,
    PAYLOAD,
    Rig,
    total,
    transfer,
)


def test_moments_are_ordered(rig: Rig) -> None:
    group, sender, receiver, (start, end) = transfer(rig)
    assert group.opened_ns is not None
    assert sender.first_ns is not None
    assert sender.last_ns is not None
    assert sender.ended_ns is not None
    assert receiver.first_ns is not None
    assert receiver.last_ns is not None
    assert receiver.ended_ns is not None
    assert start <= group.opened_ns <= sender.first_ns < sender.ended_ns <= end
    assert sender.first_ns < sender.last_ns <= end
    assert sender.first_ns < receiver.first_ns < receiver.last_ns <= receiver.ended_ns <= end
    for stream in (sender, receiver):
        origin, width, counts = stream.series()
        assert stream.last_ns is not None
        assert origin is not None
        assert sender.first_ns < origin <= stream.last_ns
        assert counts[-1] > 0
        assert (stream.last_ns - origin) // width == len(counts) - 1
    assert receiver.series()[0] == receiver.first_ns


def test_cpu_time_is_known_at_the_end(rig: Rig) -> None:
    for stream in transfer(rig, 32 * MIB)[1:3]:
        user_ns, system_ns = stream.cpu_ns
        assert min(user_ns, system_ns) >= 0
        assert 0 < user_ns + system_ns < 10_000 * MILLISECOND_NS


def test_merged_buckets_lose_no_byte(rig: Rig) -> None:
    """Four buckets of 1 us: the width doubles again and again until the run fits."""
    _, sender, receiver, _ = transfer(rig, 32 * MIB + 1, width_ns=1000, buckets=4)
    for stream in (sender, receiver):
        _, width, counts = stream.series()
        assert len(counts) <= 4
        assert width > 1000
        assert width.bit_count() == (1000).bit_count()  # 1000 times a power of two
        assert sum(counts) == 32 * MIB + 1


@pytest.mark.parametrize("buckets", [4, 16384])
def test_bytes_up_to_a_moment_never_shrink(rig: Rig, buckets: int) -> None:
    _, sender, receiver, (start, end) = transfer(rig, width_ns=MILLISECOND_NS, buckets=buckets)
    for stream in (sender, receiver):
        origin, width, counts = stream.series()
        assert origin is not None
        last = origin + width * len(counts)
        moments = [0, start, *range(origin, last, max(1, (last - origin) // 500)), last, end, 2**62]
        values = [stream.counted_until(moment) for moment in sorted(moments)]
        assert values == sorted(values)
        assert (values[0], values[-1]) == (0, 8 * MIB)
        assert stream.counted_until(last) == 8 * MIB
        edges = [stream.counted_until(origin + width * i) for i in range(len(counts) + 1)]
        assert [after - before for before, after in pairwise(edges)] == counts


@pytest.mark.parametrize("buckets", [4, 16384])
def test_series_can_be_read_while_it_grows(rig: Rig, buckets: int) -> None:
    """Read as fast as Python can, from this thread, while two others write."""
    pair, group = rig.pair(), rig.group()
    options: dict[str, Any] = {"width_ns": 10_000, "buckets": buckets}
    sender = rig.sender(group, pair.left, duration_ns=200 * MILLISECOND_NS, **options)
    receiver = Receiver(rig.group(), pair.right.fileno(), **options)
    threads = rig.start(sender, receiver)
    group.open()
    seen = dict.fromkeys((sender, receiver), (0, 0, 0))
    reads = 0
    while any(thread.is_alive() for thread in threads):
        for stream, before in seen.items():
            origin, width, counts = stream.series()
            now = (sum(counts), stream.counted_until(2**62), stream.bytes)
            assert all(new >= old for new, old in zip(now, before, strict=True))
            assert now[0] <= now[1]
            assert origin is not None or counts == []
            assert len(counts) <= buckets
            assert width >= 10_000
            seen[stream] = now
        reads += 1
    rig.join()
    assert reads > 1
    assert total(sender) == sender.acked_bytes == sender.bytes
    assert total(receiver) == receiver.bytes == sender.bytes


def test_a_live_count_up_to_now_never_shrinks(rig: Rig) -> None:
    """As live intervals read it: later and later moments, while the bytes come."""
    pair, group = rig.pair(), rig.group()
    sender = rig.sender(group, pair.left, duration_ns=100 * MILLISECOND_NS)
    receiver = Receiver(rig.group(), pair.right.fileno(), width_ns=MILLISECOND_NS)
    threads = rig.start(sender, receiver)
    group.open()
    before = 0
    while any(thread.is_alive() for thread in threads):
        now = receiver.counted_until(now_ns())
        assert before <= now <= receiver.bytes + 131_072  # the series is written first
        before = now
    rig.join()
    assert receiver.counted_until(now_ns() + MILLISECOND_NS) == receiver.bytes


def test_samples_are_bounded_and_ordered(rig: Rig) -> None:
    """With one sample due at each call there are far more calls than room."""
    _, sender, receiver, (start, end) = transfer(rig, 32 * MIB, sample_every_ns=1)
    assert sender.calls > 400
    for stream in (sender, receiver):
        samples = stream.samples()
        moments = [at for at, _ in samples]
        assert 2 <= len(samples) <= 256
        assert moments == sorted(moments)
        assert start < moments[0] < moments[-1] < end
        assert {len(raw) for _, raw in samples} == {len(samples[0][1])}
        assert FIELDS_SINCE_LINUX_4_1 <= len(samples[0][1]) <= 256
        for name in ("snd_mss", "rtt_us"):
            assert all(tcpinfo.field(raw, name) for _, raw in samples)
    acked = [tcpinfo.field(raw, "bytes_acked") or 0 for _, raw in sender.samples()]
    assert acked == sorted(acked)
    assert 32 * MIB <= acked[-1] <= 32 * MIB + 2  # SYN and FIN count


def test_a_calm_sampler_takes_the_first_and_the_last_moment(rig: Rig) -> None:
    _, sender, receiver, _ = transfer(rig, MIB, sample_every_ns=3600 * 10**9)
    assert (len(sender.samples()), len(receiver.samples())) == (2, 2)


def test_a_thread_tells_its_cpu_time_in_the_course_of_the_run(rig: Rig) -> None:
    _, sender, receiver, (start, end) = transfer(rig, 32 * MIB, sample_every_ns=1_000_000)
    for stream in (sender, receiver):
        samples = stream.cpu_samples()
        assert len(samples) >= 2
        moments, spent, waited = zip(*samples, strict=True)
        assert moments == tuple(at for at, _ in stream.samples())
        assert list(spent) == sorted(spent)
        assert 0 < spent[0] <= spent[-1] <= end - start
        # getrusage() counts the same time
        assert spent[-1] == pytest.approx(sum(stream.cpu_ns), abs=2_000_000)
        if None not in waited:
            assert list(waited) == sorted(waited)


def test_a_thread_that_shares_its_cpu_waits_for_it(rig: Rig) -> None:
    """Two transfers on one CPU: their four threads run no longer than there is time, and say of the
    rest that they waited."""
    cpu = {min(os.sched_getaffinity(0))}
    loops: list[Sender | Receiver] = []
    for _ in range(2):
        pair = rig.pair()
        group = rig.group()
        group.open()
        loops.append(Sender(group, pair.left.fileno(), payload=PAYLOAD, duration_ns=400_000_000))
        loops.append(Receiver(group, pair.right.fileno()))
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cpu)  # threads inherit it
    try:
        threads = rig.start(*loops)
    finally:
        os.sched_setaffinity(0, before)
    rig.join(*threads)
    samples = [loop.cpu_samples() for loop in loops]
    if any(sample[-1][2] is None for sample in samples):
        pytest.skip("this kernel does not say how long a thread waits for a CPU")
    span = max(s[-1][0] for s in samples) - min(s[0][0] for s in samples)
    ran = sum(s[-1][1] for s in samples)
    waited = sum(s[-1][2] or 0 for s in samples)
    assert ran <= span * 1.05  # there is one CPU only
    assert waited > 0.5 * span


def test_reasons_are_words(rig: Rig) -> None:
    assert len(set(REASONS)) == len(REASONS) == 8
    receiver = Receiver(rig.group(), 0)
    assert receiver.reason == REASONS[0]
    assert (receiver.fd, receiver.bytes, receiver.calls, receiver.errno) == (0, 0, 0, 0)
    assert receiver.cpu_ns == (0, 0)
    assert receiver.ended_ns is None
