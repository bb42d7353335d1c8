"""Book received datagrams: new, duplicate, reordered, late, implausible."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings, strategies as st

from netmeasure._fast.udp import UdpReceiver
from netmeasure._fast.worker import Group
from netmeasure.clock import MILLISECOND_NS
from support.census import settle
from support.optional import known
from support.udp_rig import (
    FAR,
    JUMP,
    datagram,
    pair,
    put,
    received,
    threads,
)


class Model:
    """The same accounting, with a set of everything ever seen in place of a window."""

    def __init__(self, wide: bool, window: int) -> None:
        self.wide, self.window = wide, window
        self.seen: set[int] = set()
        self.highest = self.duplicate = self.reordered = self.late = 0
        self.malformed = self.implausible = self.handshake = 0
        self.held: int | None = None

    def take(self, data: bytes) -> None:
        if len(data) < (16 if self.wide else 12):
            if data in (b"9876", b"6789"):
                self.handshake += 1
            else:
                self.malformed += 1
            return
        if int.from_bytes(data[4:8], "big") >= 1_000_000:
            self.malformed += 1
            return
        number = self.number(data)
        if number < 1 or number - self.highest >= FAR:
            self.implausible += 1
        elif number - self.highest <= JUMP:
            if number > self.highest and self.held is not None:
                self.implausible += 1  # the stream went on where it was
                self.held = None
            self.book(number)
        elif self.held is None:
            self.held = number
        elif number != self.held and -self.window < number - self.held <= JUMP:
            self.book(self.held)
            self.held = None
            self.book(number)
        else:
            self.implausible += 1  # one of the two stays without a witness
            self.held = number

    def number(self, data: bytes) -> int:
        if self.wide:
            number = int.from_bytes(data[8:16], "big")
            return number if number < 2**63 else -1
        low = int.from_bytes(data[8:12], "big")
        epoch = self.highest >> 32
        return min(
            (low + (epoch + step) * 2**32 for step in (-1, 0, 1)),
            key=lambda number: (abs(number - self.highest), number),
        )

    def book(self, number: int) -> None:
        if number > self.highest:
            self.highest = number
        elif self.highest - number >= self.window:
            self.late += 1
            return
        elif number in self.seen:
            self.duplicate += 1
            return
        else:
            self.reordered += 1
        self.seen.add(number)

    def end(self) -> dict[str, int]:
        return {
            "highest_sequence": self.highest,
            "received_packets": len(self.seen),
            "lost_packets": self.highest - len(self.seen),
            "duplicate_packets": self.duplicate,
            "reordered_packets": self.reordered,
            "late_packets": self.late,
            "malformed_packets": self.malformed,
            "implausible_packets": self.implausible + (self.held is not None),
            "handshake_packets": self.handshake,
        }


STEPS = st.one_of(
    st.integers(-3, 4),
    st.integers(-70, 70),
    st.sampled_from([JUMP - 1, JUMP, JUMP + 1, 2 * JUMP, FAR - 1, FAR, -JUMP, -FAR, 2**32 - 1]),
)
NUMBERED = st.tuples(STEPS, st.sampled_from([0, 1, 999_999, 1_000_000, 2_500_000]))
RAW = st.one_of(st.binary(max_size=20), st.sampled_from([b"9876", b"6789", b""]))


@settings(max_examples=3 * known(settings.default).max_examples)
@given(wide=st.booleans(), plan=st.lists(st.one_of(NUMBERED, RAW), max_size=60))
@example(wide=False, plan=[(FAR - 1, 0), (1, 0)] * 4)
def test_any_sequence_is_counted_as_by_a_naive_model(
    wide: bool, plan: list[tuple[int, int] | bytes]
) -> None:
    """Steps are from the number before, so walks go up and down, also across 2**32."""
    model, datagrams, number = Model(wide, 64), [], 0
    for item in plan:
        if isinstance(item, bytes):
            datagrams.append(item)
        else:
            number += item[0]
            datagrams.append(datagram(number, wide=wide, stamp_us=item[1]))
    for data in datagrams:
        model.take(data)
    counts = received(datagrams, wide=wide)._asdict()
    expected = model.end()
    assert {name: counts[name] for name in expected} == expected
    assert counts["received_packets"] + counts["lost_packets"] == counts["highest_sequence"]


@pytest.mark.parametrize("wide", [False, True])
@pytest.mark.parametrize(
    ("numbers", "lost", "reordered", "duplicate", "late"),
    [
        pytest.param([1, 2, 3, 4, 5], 0, 0, 0, 0, id="in order"),
        pytest.param([1, 2, 4, 5], 1, 0, 0, 0, id="one missing"),
        pytest.param([3, 4], 2, 0, 0, 0, id="the start missing"),
        pytest.param([1, 3, 2, 4], 0, 1, 0, 0, id="reordered"),
        pytest.param([1, 2, 2, 3], 0, 0, 1, 0, id="duplicate"),
        pytest.param([1, 2, 4, 4, 5], 1, 0, 1, 0, id="a duplicate hides no loss"),
        pytest.param([1, 3, 2, 2, 4], 0, 1, 1, 0, id="late, then again"),
        pytest.param([1, *range(3, 101), 2], 1, 0, 0, 1, id="late beyond the window"),
        pytest.param([1, *range(2, 101), 2], 0, 0, 0, 1, id="duplicate beyond the window"),
        pytest.param([1, *range(3, 66), 2], 0, 1, 0, 0, id="just inside the window"),
        pytest.param([1, 1001, 1001, 938, 937], 998, 1, 1, 1, id="a gap wider than the window"),
    ],
)
def test_each_datagram_is_booked_once(
    wide: bool, numbers: list[int], lost: int, reordered: int, duplicate: int, late: int
) -> None:
    counts = received([datagram(number, wide=wide) for number in numbers], wide=wide)
    assert counts.lost_packets == lost
    assert counts.reordered_packets == reordered
    assert counts.duplicate_packets == duplicate
    assert counts.late_packets == late
    assert counts.received_packets == len(numbers) - duplicate - late
    assert counts.received_packets + counts.lost_packets == max(numbers)


def test_32_bit_numbers_go_on_beyond_their_end() -> None:
    """The way there takes leaps of 2**30, each with a witness: sending them all takes too long."""
    start = [number for leap in (1, 2, 3) for number in (leap * 2**30, leap * 2**30 + 1)]
    end = list(range(2**32 - 20, 2**32 + 20))
    end[18], end[25] = end[25], end[18]  # reordered across the edge: one early, then 7 late
    counts = received([datagram(number) for number in start + end])
    assert counts.highest_sequence == 2**32 + 19
    assert counts.received_packets == len(start) + len(end)
    assert counts.reordered_packets == 7
    assert counts.implausible_packets == counts.duplicate_packets == counts.late_packets == 0


@pytest.mark.parametrize("ahead", [JUMP + 1, FAR - 1, FAR, FAR + 1])
def test_one_wild_number_makes_no_loss(ahead: int) -> None:
    numbers = [1, 2, 2 + ahead, 3, 4]
    counts = received([datagram(number, wide=True) for number in numbers], wide=True)
    assert counts.highest_sequence == counts.received_packets == 4
    assert counts.implausible_packets == 1
    assert counts.lost_packets == 0


def test_a_long_silence_is_loss_once_a_second_datagram_confirms_it() -> None:
    numbers = [1, 2, 5_000_000, 5_000_002, 5_000_001]
    counts = received([datagram(number) for number in numbers])
    assert counts.highest_sequence == 5_000_002
    assert counts.received_packets == 5
    assert counts.reordered_packets == 1
    assert counts.implausible_packets == 0


def test_what_is_no_datagram_of_the_test_changes_nothing_but_a_counter() -> None:
    rubbish = [b"", b"x", b"123456789", bytes(11), b"\xff" * 16]
    hellos = [b"9876", b"6789", b"9876"]
    counts = received([datagram(1), *rubbish, *hellos, datagram(2)])
    assert counts.malformed_packets == len(rubbish)
    assert counts.handshake_packets == len(hellos)
    assert counts.received_packets == counts.highest_sequence == 2
    assert counts.received_bytes == 32


def test_a_datagram_longer_than_expected_counts_with_its_whole_length() -> None:
    counts = received([datagram(1, size=5000), datagram(2)])
    assert counts.truncated_packets == 1
    assert counts.received_bytes == 5016


def test_a_repeated_hello_is_answered() -> None:
    with pair() as (near, far):
        group = Group()
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=16, hello_reply=b"6789")
        near.settimeout(5)
        with threads(group, receiver):
            near.send(b"9876")
            assert near.recv(100) == b"6789"
    assert receiver.snapshot().handshake_packets == 1
    assert receiver.first_ns is None


def test_what_belongs_to_the_omitted_part_but_comes_later_is_no_loss_of_either() -> None:
    with pair() as (near, far):
        group = Group()
        omit_ns = 20 * MILLISECOND_NS
        receiver = UdpReceiver(group, far.fileno(), datagram_bytes=16, omit_ns=omit_ns)
        # before the receiver starts: on a busy machine, the omitted 20 ms may be short
        for number in (1, 2, 4, 6):
            put(near, far, datagram(number))
        with threads(group, receiver):
            assert settle(receiver.omitted) is not None
            for number in (3, 2, 9, 8):
                near.send(datagram(number))
            assert settle(lambda: receiver.snapshot().reordered_packets == 2)
    total, omitted = receiver.snapshot(), receiver.omitted()
    assert omitted is not None
    assert (omitted.highest_sequence, omitted.received_packets, omitted.lost_packets) == (6, 5, 1)
    assert omitted.duplicate_packets == 1
    assert (total.highest_sequence, total.received_packets, total.lost_packets) == (9, 7, 2)
    assert total.lost_packets - omitted.lost_packets == 1  # number 7
    assert total.reordered_packets - omitted.reordered_packets == 1  # number 8


@pytest.mark.parametrize("coalesce", [False, True])
@pytest.mark.parametrize("batch_bytes", [1, 64 * 1024])
def test_nothing_is_lost_by_reading_less_at_once(batch_bytes: int, coalesce: bool) -> None:
    numbers = range(1, 201)
    counts = received(
        [datagram(number) for number in numbers], coalesce=coalesce, batch_bytes=batch_bytes
    )
    assert (counts.received_packets, counts.lost_packets) == (200, 0)
