"""Choose the rate of each test of a search from the outcomes of the tests before it.

A test above the capacity shows the capacity directly: it is the rate at which the datagrams of the
overloaded path arrive. The search therefore increases the rate until too many datagrams are lost.
It then tests the rate of arrival of that overload, and proves by a test at a slightly higher rate
that no more gets through. If an overload arrives at less than the capacity, the search bisects
between the rates that passed and those that failed.
"""

from __future__ import annotations

import math

from netmeasure.result.capacity import Ending, RateProbe

#: The first rate of all streams together, and the factor by which it increases while tests pass.
FIRST_BPS, GROWTH = 50_000_000, 8
#: Rates that differ by no more than this share count as equal.
PRECISION = 0.0075
#: The factor of the rate that proves that no more gets through. A queue on the path may absorb the
#: excess without loss: then less arrives than is sent.
_PROOF, _WHOLE = 1.03, 0.985
#: A sender that reaches less than this share of the target rate did not keep up.
_KEPT_UP = 0.98
#: The largest distance at the end between a rate that passed and a rate that failed: if the rate of
#: arrival of the second is the first, and otherwise.
_PROVEN, _CLOSE = 1.035, 1.01
#: The factor of an overload's rate of arrival that is tested for longer if slightly more than that
#: rate got through before, since a token bucket may have passed it. In that case the rate over the
#: whole test exceeds the rate of its second half by the second factor.
_LONG_PROOF, _AT_FIRST = 1.08, 1.004
#: The factors of an overload's rate of arrival that are tested: the more of these tests have
#: failed, the lower the factor.
_STEPS = (0.997, 0.98, 0.9, 0.7)
_TRIES = 2
_LAST_STEP = 0.5
_LEAST_BPS = 10_000


class RateSearch:
    """Keep the outcomes of a search's tests, and choose the rate of the next test.

    Attributes:
        probes: The tests so far.
        next_bps: The rate of the next test.
        is_long: Whether that test must last until token buckets are empty.
        ended_by: The reason for the end of the search; None: the search goes on.
    """

    def __init__(self, most_bps: int) -> None:
        self._most_bps = most_bps
        self._failures = self._passes = 0
        #: The rate of arrival of an overload, if slightly more than that got through for a while;
        #: and the highest rate that the link carried for long.
        self._plateau_bps, self._sustained_bps = 0.0, math.inf
        self._void: list[RateProbe] = []  # tests that were repeated
        self.is_long = False
        self.probes: list[RateProbe] = []
        self.next_bps = min(FIRST_BPS, most_bps)
        self.ended_by: Ending | None = None

    @property
    def climbs(self) -> bool:
        """Return whether no rate was too high so far."""
        return self._high is None

    @property
    def best(self) -> RateProbe | None:
        """Return the test with the highest rate of arrival of those that passed, except tests that
        only a full token bucket let pass."""
        return max(self._passed, key=_arrival, default=None)

    @property
    def loss_free(self) -> RateProbe | None:
        """Return the test with the highest rate of arrival of those in which nothing was lost."""
        whole = [one for one in self._passed if not one.lost_packets]
        return max(whole, key=_arrival, default=None)

    @property
    def above_bps(self) -> int | None:
        """Return the lowest rate at which less arrived than was sent, because of loss or a growing
        queue; None: there is none."""
        return None if self._high is None else self._high.asked_bps

    def add(self, probe: RateProbe) -> None:
        """Add the outcome of a test, and choose the next rate or end the search."""
        self.probes.append(probe)
        was_long, self.is_long = self.is_long, False
        high = self._high
        if not probe.sent_packets:  # it says nothing of the path
            self._void.append(probe)
            self.is_long = was_long
            if self._is_repeated:
                self.ended_by = "sender"
        elif probe.verdict == "sender" and not self._was_sent(probe.asked_bps):
            if self._is_repeated:
                self.ended_by = "sender"
        elif self._was_disturbed(probe) and not self._is_repeated:
            self._void.append(probe)
            self.is_long = was_long
        elif was_long and self._has_emptied_a_bucket(probe):
            self._sustained_bps = _arrived(probe) * (1 + PRECISION)
            self.ended_by = "precise"
        elif high is None:
            if probe.asked_bps >= self._most_bps:
                self.ended_by = "most"
            self.next_bps = min(probe.asked_bps * GROWTH, self._most_bps)
        elif not self._low_bps:
            self._fall(high)
        else:
            self._close_in(self._low_bps, high)

    def _fall(self, high: RateProbe) -> None:
        """Choose a rate while no test has passed."""
        step = _STEPS[self._failures] if self._failures < len(_STEPS) else _LAST_STEP
        self._failures += 1
        self.next_bps = max(round(_arrived(high) * step), _LEAST_BPS)
        if high.asked_bps <= _LEAST_BPS:
            self.ended_by = "nothing"

    def _close_in(self, low: float, high: RateProbe) -> None:
        """Choose a rate between one that passed and one that failed, or end the search."""
        arrived = _arrived(high)
        told = _same(arrived, low)
        if high.asked_bps <= (_PROVEN if told else _CLOSE) * low:
            self.ended_by = "receiver" if high.verdict == "receiver" else "precise"
        elif told:
            self.next_bps = round(_PROOF * low)
        elif arrived > low:
            self.next_bps = self._near(low, high)
        elif not self._plateau_bps and low < _LONG_PROOF * arrived < high.asked_bps:
            self._plateau_bps, self.is_long = arrived, True
            self.next_bps = round(_LONG_PROOF * arrived)
        else:
            self.next_bps = round(math.sqrt(low * high.asked_bps))

    def _near(self, low: float, high: RateProbe) -> int:
        """Choose a rate just below the rate of arrival of an overload."""
        arrived = _arrived(high)
        upper = min(arrived, high.asked_bps)
        if _too_much(self.probes[-1]):
            step = _STEPS[min(self._failures, len(_STEPS) - 1)]
            self._failures += 1
            return round(step * arrived if step * arrived > low else (low + upper) / 2)
        self._passes += 1
        # a rate that passed near the capacity may have arrived a little late, because a host was
        # busy: test it once more
        if high.asked_bps > arrived and self._passes <= _TRIES:
            return round(_STEPS[0] * arrived)
        return round((low + upper) / 2)

    def _has_emptied_a_bucket(self, probe: RateProbe) -> bool:
        """Return whether more arrived in the first half, and the second half arrived at the rate of
        an overload (a sign of a token bucket)."""
        arrived = _arrived(probe)
        at_first = probe.received_bps >= _AT_FIRST * arrived
        return _too_much(probe) and at_first and _same(arrived, self._plateau_bps)

    def _was_disturbed(self, probe: RateProbe) -> bool:
        """Return whether a sender that is able to reach this rate did not keep up, so that its
        bursts to catch up may be the only reason for the losses."""
        kept_up = keeps_up(probe.sent_bps, probe.asked_bps, probe.sent_packets)
        return not kept_up and self._was_sent(probe.asked_bps)

    def _was_sent(self, bps: int) -> bool:
        """Return whether the sender has reached this rate before, so that it was only disturbed."""
        return any(one.sent_bps is not None and one.sent_bps >= bps for one in self.probes[:-1])

    @property
    def _is_repeated(self) -> bool:
        """Return whether the last two tests had the same target rate."""
        return len(self.probes) > 1 and self.probes[-2].asked_bps == self.probes[-1].asked_bps

    @property
    def _passed(self) -> list[RateProbe]:
        return [
            one
            for one in self.probes
            if not _too_much(one) and one.received_bps <= self._sustained_bps
        ]

    @property
    def _low_bps(self) -> float:
        """Return the highest rate that arrived completely and is below all rates that did not; 0:
        none."""
        high = math.inf if self._high is None else self._high.asked_bps
        return max((one.received_bps for one in self._passed if one.received_bps < high), default=0)

    @property
    def _high(self) -> RateProbe | None:
        """Return the test with the lowest rate among those where less arrived than was sent."""
        found = (one for one in self.probes if _too_much(one) and one not in self._void)
        return min(found, key=_asked, default=None)


def keeps_up(sent_bps: float | None, asked_bps: int, packets: int) -> bool:
    """Return whether a sender reached its target rate, within the resolution of the number of
    datagrams."""
    return sent_bps is None or sent_bps >= (_KEPT_UP - 2 / max(packets, 1)) * asked_bps


def _too_much(probe: RateProbe) -> bool:
    if probe.verdict in ("lost", "receiver"):
        return True
    sent_bps = probe.asked_bps if probe.sent_bps is None else probe.sent_bps
    # the count of the second half is uncertain by one datagram at each end
    whole = _WHOLE - 4 / probe.sent_packets if probe.sent_packets else _WHOLE
    return min(probe.received_bps, _arrived(probe)) < whole * sent_bps


def _arrived(probe: RateProbe) -> float:
    """Return the rate of arrival once token buckets are empty."""
    return probe.received_bps if probe.second_half_bps is None else probe.second_half_bps


def _same(a_bps: float, b_bps: float) -> bool:
    return abs(a_bps - b_bps) <= PRECISION * b_bps


def _arrival(probe: RateProbe) -> float:
    return probe.received_bps


def _asked(probe: RateProbe) -> int:
    return probe.asked_bps
