"""Choose the rates of a search, one after the other, from what the tests before have found.

A test above the capacity tells it at once: what arrives of too much is what the path carries. So
the search climbs until too much is lost, then tries just the rate at which that arrived, and proves
by a test a little above it that no more gets through. Where what arrives of too much tells less
than the path carries, what is left between a rate that passed and one that did not is halved.
"""

from __future__ import annotations

import math

from netmeasure.result.capacity import Ending, RateProbe

#: The first rate of all streams together, and by what the next one is higher while it passes.
FIRST_BPS, GROWTH = 50_000_000, 8
#: Rates that differ by no more than this share are the same.
PRECISION = 0.0075
#: What is sent to prove that no more gets through. A queue on the path may take it without loss:
#: then less arrives than is sent.
_PROOF, _WHOLE = 1.03, 0.985
#: How far apart a rate that passed and one that did not may be at the end: where what arrived of
#: the second is just the first, and else.
_PROVEN, _CLOSE = 1.035, 1.01
#: What is tried of the rate at which datagrams arrived of too many: the less, the more of these
#: tests have failed.
_STEPS = (0.997, 0.98, 0.9, 0.7)
_TRIES = 2
_LAST_STEP = 0.5
_LEAST_BPS = 10_000


class RateSearch:
    """Keep what the tests of a search have found, and choose the rate of the next one.

    Attributes:
        probes: The tests so far.
        next_bps: The rate of the next test.
        ended_by: What ended the search; None: it goes on.
    """

    def __init__(self, most_bps: int) -> None:
        self._most_bps = most_bps
        self._failures = self._passes = 0
        self.probes: list[RateProbe] = []
        self.next_bps = min(FIRST_BPS, most_bps)
        self.ended_by: Ending | None = None

    @property
    def climbs(self) -> bool:
        """Return whether no rate was too high so far."""
        return self._high is None

    @property
    def best(self) -> RateProbe | None:
        """Return the test with the highest rate of arrival of those that passed."""
        return max(self._passed, key=_arrival, default=None)

    @property
    def loss_free(self) -> RateProbe | None:
        """Return the test with the highest rate of arrival of those in which nothing was lost."""
        whole = [one for one in self._passed if not one.lost_packets]
        return max(whole, key=_arrival, default=None)

    @property
    def above_bps(self) -> int | None:
        """Return the lowest rate of which less arrived than was sent, by loss or by a queue that
        grew; None: there is none."""
        return None if self._high is None else self._high.asked_bps

    def add(self, probe: RateProbe) -> None:
        """Take what a test has found: choose the next rate, or end."""
        self.probes.append(probe)
        high = self._high
        if probe.verdict == "sender" and not self._was_sent(probe.asked_bps):
            self.ended_by = "sender"
        elif high is None:
            if probe.asked_bps >= self._most_bps:
                self.ended_by = "most"
            self.next_bps = min(probe.asked_bps * GROWTH, self._most_bps)
        elif not self._low_bps:
            self._fall(high)
        else:
            self._close_in(self._low_bps, high)

    def _fall(self, high: RateProbe) -> None:
        """Choose a rate while none has passed."""
        step = _STEPS[self._failures] if self._failures < len(_STEPS) else _LAST_STEP
        self._failures += 1
        self.next_bps = max(round(high.received_bps * step), _LEAST_BPS)
        if high.asked_bps <= _LEAST_BPS:
            self.ended_by = "nothing"

    def _close_in(self, low: float, high: RateProbe) -> None:
        """Choose a rate between one that passed and one that did not, or end."""
        arrived = high.received_bps
        told = abs(arrived - low) <= PRECISION * low
        if high.asked_bps <= (_PROVEN if told else _CLOSE) * low:
            self.ended_by = "receiver" if high.verdict == "receiver" else "precise"
        elif told:
            self.next_bps = round(_PROOF * low)
        elif arrived > low:
            self.next_bps = self._near(low, high)
        else:
            self.next_bps = round(math.sqrt(low * high.asked_bps))

    def _near(self, low: float, high: RateProbe) -> int:
        """Choose a rate just below that at which datagrams arrived of too many."""
        arrived, upper = high.received_bps, min(high.received_bps, high.asked_bps)
        if _too_much(self.probes[-1]):
            step = _STEPS[min(self._failures, len(_STEPS) - 1)]
            self._failures += 1
            return round(step * arrived if step * arrived > low else (low + upper) / 2)
        self._passes += 1
        # what passes just there may arrive a little late, because a host was busy: once more
        if high.asked_bps > arrived and self._passes <= _TRIES:
            return round(_STEPS[0] * arrived)
        return round((low + upper) / 2)

    def _was_sent(self, bps: int) -> bool:
        """Return whether the sender has sent so fast before: then it was only disturbed."""
        return any(one.sent_bps is not None and one.sent_bps >= bps for one in self.probes[:-1])

    @property
    def _passed(self) -> list[RateProbe]:
        return [one for one in self.probes if one.verdict in ("passed", "sender")]

    @property
    def _low_bps(self) -> float:
        """Return the highest rate that arrived whole and is below all that did not; 0: none."""
        high = math.inf if self._high is None else self._high.asked_bps
        return max((one.received_bps for one in self._passed if one.received_bps < high), default=0)

    @property
    def _high(self) -> RateProbe | None:
        """Return the test with the lowest rate of those of which less arrived than was sent."""
        return min(filter(_too_much, self.probes), key=_asked, default=None)


def _too_much(probe: RateProbe) -> bool:
    sent_bps = probe.asked_bps if probe.sent_bps is None else probe.sent_bps
    return probe.verdict in ("lost", "receiver") or probe.received_bps < _WHOLE * sent_bps


def _arrival(probe: RateProbe) -> float:
    return probe.received_bps


def _asked(probe: RateProbe) -> int:
    return probe.asked_bps
