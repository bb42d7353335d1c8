"""Test which rates a capacity search chooses, on simulated paths."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count

import msgspec
import pytest

from netmeasure.capacities.search import FIRST_BPS, RateSearch
from netmeasure.result.capacity import RateProbe, Verdict

MOST = 10**12
Sends = Callable[[int], RateProbe]


def probe(
    asked_bps: int, arrives_bps: float, limit: float = 0.001, *, sends_bps: float = MOST
) -> RateProbe:
    """Return a test of 10 000 datagrams of which this share arrives."""
    sent_bps = min(float(asked_bps), sends_bps)
    arrives_bps = min(arrives_bps, sent_bps)
    lost = round(10_000 * (1 - arrives_bps / sent_bps))
    verdict: Verdict = "passed" if sent_bps >= 0.98 * asked_bps else "sender"
    return RateProbe(
        asked_bps=asked_bps,
        sent_bps=sent_bps,
        received_bps=arrives_bps,
        sent_packets=10_000,
        lost_packets=lost,
        host_dropped_packets=0,
        duration_ns=400_000_000,
        verdict="lost" if lost > limit * 10_000 else verdict,
    )


def searched(sends: Sends, most_bps: int = MOST, most_probes: int = 60) -> RateSearch:
    """Run a search to its end."""
    search = RateSearch(most_bps)
    while search.ended_by is None:
        assert len(search.probes) < most_probes
        search.add(sends(search.next_bps))
    return search


@pytest.mark.parametrize("exponent", range(5, 12))
@pytest.mark.parametrize("digits", [1.0, 1.7, 4.999, 9.9])
def test_a_shaped_link_is_found_in_a_few_tests(digits: float, exponent: int) -> None:
    capacity = digits * 10**exponent
    search = searched(lambda asked: probe(asked, capacity))
    assert search.ended_by == "precise"
    assert search.best is not None
    assert search.best.received_bps == pytest.approx(capacity, rel=0.0075)
    assert len(search.probes) <= 8


@pytest.mark.parametrize("share", [0.5, 0.8, 0.95])
def test_a_link_that_carries_less_of_too_much(share: float) -> None:
    """An example is a host that spends time on packets that it drops.

    Then the rate that arrives of a higher one is below the capacity, and the search continues by
    halving.
    """
    capacity = 333e6
    search = searched(
        lambda asked: probe(asked, capacity if asked <= capacity else share * capacity)
    )
    assert search.ended_by == "precise"
    assert search.best is not None
    assert search.best.received_bps == pytest.approx(capacity, rel=0.01)


def test_a_path_that_always_loses_has_no_capacity_and_the_search_ends() -> None:
    search = searched(lambda asked: probe(asked, 0.98 * asked))
    assert search.ended_by == "nothing"
    assert search.best is None
    assert search.loss_free is None


def test_a_path_on_which_nothing_arrives() -> None:
    search = searched(lambda asked: probe(asked, 0))
    assert search.ended_by == "nothing"
    assert search.best is None


def test_a_sender_that_is_the_limit() -> None:
    search = searched(lambda asked: probe(asked, MOST, sends_bps=2.5e9))
    assert search.ended_by == "sender"
    assert search.best is not None
    assert search.best.received_bps == 2.5e9
    assert search.above_bps is None


@pytest.mark.parametrize("kept", [0.95, 0.985])
def test_a_sender_that_was_only_disturbed_is_asked_again(kept: float) -> None:
    """The sender has sent faster before."""
    capacity, disturbed = 100e6, iter([1.0, 1.0, kept, kept])

    def sends(asked: int) -> RateProbe:
        return probe(asked, capacity, sends_bps=next(disturbed, 1.0) * asked)

    search = searched(sends)
    assert search.ended_by == "precise"
    assert search.best is not None
    assert search.best.received_bps == pytest.approx(capacity, rel=0.0075)


def test_a_test_in_which_nothing_was_sent_is_repeated() -> None:
    """Wherever in the search a host keeps the sender from running, the capacity is the same."""
    capacity = 95.7e6
    whole = searched(lambda asked: probe(asked, capacity))
    for silent in range(len(whole.probes)):
        turns = count()

        def sends(asked: int, silent: int = silent, turns: Iterator[int] = turns) -> RateProbe:
            found = probe(asked, capacity)
            return nothing(found) if next(turns) == silent else found

        search = searched(sends)
        assert (search.ended_by, search.best, search.above_bps) == (
            whole.ended_by,
            whole.best,
            whole.above_bps,
        )
        assert len(search.probes) == len(whole.probes) + 1


def test_a_sender_that_sends_nothing_twice_ends_the_search() -> None:
    search = searched(lambda asked: nothing(probe(asked, 1e9)))
    assert (search.ended_by, search.best, search.above_bps) == ("sender", None, None)
    assert len(search.probes) == 2


def nothing(found: RateProbe) -> RateProbe:
    """Return a test whose sender sent nothing in the time that counts."""
    return msgspec.structs.replace(
        found, sent_bps=None, received_bps=0.0, sent_packets=0, lost_packets=0, verdict="sender"
    )


def test_the_most_is_never_exceeded() -> None:
    search = searched(lambda asked: probe(asked, MOST), most_bps=200_000_000)
    assert search.ended_by == "most"
    assert [one.asked_bps for one in search.probes] == [FIRST_BPS, 200_000_000]
    low = searched(lambda asked: probe(asked, MOST), most_bps=1000)
    assert [one.asked_bps for one in low.probes] == [1000]


def test_a_path_that_becomes_slower_meanwhile_ends_the_search_all_the_same() -> None:
    rates = iter([1e9, 1e9, 100e6])
    search = searched(lambda asked: probe(asked, next(rates, 30e6)))
    assert search.best is not None
    assert search.best.received_bps == 400e6  # it did arrive


@pytest.mark.parametrize("capacity", [30e6, 51e6, 333e6])
def test_a_queue_that_takes_a_little_too_much_deceives_nobody(capacity: float) -> None:
    """The queue holds all datagrams of a rate up to a tenth too high: none is lost, but they arrive
    later."""

    def sends(asked: int) -> RateProbe:
        found = probe(asked, capacity)
        if asked > 1.1 * capacity:
            return found
        return msgspec.structs.replace(found, verdict="passed", lost_packets=0)

    search = searched(sends)
    assert search.ended_by == "precise"
    assert search.best is not None
    assert search.best.received_bps == pytest.approx(capacity, rel=0.0075)
    assert len(search.probes) <= 8


def test_what_a_disturbed_sender_lost_is_sent_again() -> None:
    """A host that was kept from sending makes up for it in bursts, which overflow queues."""
    capacity, disturbed = 100e6, iter([False, False, True, False, True])

    def sends(asked: int) -> RateProbe:
        found = probe(asked, capacity)
        if next(disturbed, False):
            return msgspec.structs.replace(
                found, sent_bps=0.9 * asked, received_bps=0.89 * asked, verdict="lost"
            )
        return found

    search = searched(sends)
    assert search.ended_by == "precise"
    assert search.best is not None
    assert search.best.received_bps == pytest.approx(capacity, rel=0.0075)
    assert len(search.probes) == 6


@pytest.mark.parametrize("bucket_s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("queue_s", [0.0, 0.02])
def test_a_token_bucket_deceives_nobody(bucket_s: float, queue_s: float) -> None:
    """The tokens in the bucket get through in addition to the rate at which it is filled."""
    capacity = 100e6
    search = RateSearch(MOST)

    def through(asked: int, at_s: float) -> float:
        """Return the bits that have arrived until then: buckets empty, then queues fill."""
        return min(asked * at_s, capacity * (at_s + bucket_s))

    while search.ended_by is None:
        assert len(search.probes) < 10
        asked, omit_s = search.next_bps, 0.1
        count_s = 0.3 if search.climbs else 3.0 if search.is_long else 1.0
        end_s = omit_s + count_s
        came = [through(asked, at_s) for at_s in (omit_s, end_s - count_s / 2, end_s)]
        queued = max(0.0, asked * end_s - came[2] - queue_s * capacity)
        found = probe(asked, asked)
        search.add(
            msgspec.structs.replace(
                found,
                received_bps=(came[2] - came[0]) / count_s,
                second_half_bps=(came[2] - came[1]) / (count_s / 2),
                verdict="lost" if queued > 0.001 * asked * end_s else "passed",
            )
        )
    assert search.ended_by == "precise"
    assert search.best is not None
    assert search.best.received_bps == pytest.approx(capacity, rel=0.0075)


def test_the_loss_free_rate_is_apart_from_the_capacity() -> None:
    search = searched(lambda asked: probe(asked, asked if asked < 300e6 else 0.9995 * asked))
    assert search.best is not None
    assert search.loss_free is not None
    assert search.loss_free.received_bps < 300e6 < search.best.received_bps
