"""Combine the outcomes of overlapping attempts into a course: what blocked the path, and when."""

from __future__ import annotations

from collections import deque

import msgspec

from netmeasure.readiness.report import Cause, Wait

Met = tuple[Cause, str | None]
#: An answer is late if it took this many times as long as the quickest one...
LATE_TIMES = 2
#: ...plus this time, by which quick answers may differ.
LATE_NS = 20_000_000


class Outcome(msgspec.Struct, frozen=True, gc=False):
    """Hold how an attempt ended. The garbage collector does not visit it: see `Attempt`.

    Attributes:
        met: What blocked it; None: it was successful, or shows nothing.
        answered_ns: How long the peer took to answer; None: it did not end by an answer of the
            peer.
        silence: What had blocked it until then.
        unanswered_ns: How much of `answered_ns` there was surely no answer; None: all of it. A busy
            host sees an answer late, which does not make the answer late.
    """

    met: Met | None
    answered_ns: int | None = None
    silence: Met = ("no_answer", None)
    unanswered_ns: int | None = None


class Course:
    """Keep outcomes in the order in which the attempts began, and join neighbours with the same
    outcome.

    Attempts end in any order. The answer to an attempt may be to a SYN that was queued or
    retransmitted until the path was usable, so it does not show what blocked the path when the
    attempt began; only quick answers show that. Outcomes are therefore judged some time after the
    attempts began.

    Args:
        hold_ns: The time after which an outcome is judged.
    """

    def __init__(self, hold_ns: int) -> None:
        self._hold_ns = hold_ns
        self._begun: deque[int] = deque()  # the starts of those that are not judged yet
        self._ended: dict[int, Outcome] = {}
        self._stretches: list[tuple[int, Met]] = []
        self._quickest_ns: int | None = None
        self._through_ns = -1
        self._first = 0  # the number of the first of them

    def begin(self, start_ns: int) -> int:
        """Record the start of an attempt; return its number."""
        self._begun.append(start_ns)
        return self._first + len(self._begun) - 1

    def end(self, number: int, outcome: Outcome) -> None:
        """Record the end of an attempt."""
        self._ended[number] = outcome
        if outcome.answered_ns is not None:
            quickest_ns = self._quickest_ns
            if quickest_ns is None or outcome.answered_ns < quickest_ns:
                self._quickest_ns = outcome.answered_ns

    def judge(self, now_ns: int) -> None:
        """Judge the outcomes of the attempts that began long enough ago, up to one that goes on."""
        while self._begun:
            if self._first not in self._ended or self._begun[0] > now_ns - self._hold_ns:
                return
            self._judge_first()

    def _judge_first(self) -> None:
        self._add(self._begun.popleft(), self._ended.pop(self._first))
        self._first += 1

    def _add(self, start_ns: int, outcome: Outcome) -> None:
        met = outcome.met
        quickest_ns, took_ns = self._quickest_ns, outcome.answered_ns
        if outcome.unanswered_ns is not None:
            took_ns = outcome.unanswered_ns
        if quickest_ns is not None and took_ns is not None:
            late = took_ns > LATE_TIMES * quickest_ns + LATE_NS
            met = outcome.silence if late else met
        if met is None or start_ns <= self._through_ns:
            return
        if not self._stretches or self._stretches[-1][1] != met:
            self._stretches.append((start_ns, met))

    @property
    def since_ns(self) -> int | None:
        """Return when the first attempt of the course began; None: there is none."""
        return self._stretches[0][0] if self._stretches else None

    @property
    def is_empty(self) -> bool:
        """Return whether nothing has blocked any attempt yet."""
        return not self._stretches and all(each.met is None for each in self._ended.values())

    @property
    def judged_ns(self) -> int | None:
        """Return when the first attempt that is not judged yet began; None: all are judged."""
        return self._begun[0] if self._begun else None

    def waits(self, end_ns: int) -> tuple[Wait, ...]:
        """Return the stretches up to a moment, once all attempts have ended."""
        while self._begun:
            self._judge_first()
        before = [(start, met) for start, met in self._stretches if start < end_ns]
        ends = [*(start for start, _ in before), end_ns][1:]
        return tuple(
            Wait(cause=cause, detail=detail, start_ns=start, end_ns=end)
            for (start, (cause, detail)), end in zip(before, ends, strict=True)
        )

    def forget(self, until_ns: int) -> None:
        """Drop the outcomes of attempts that began up to a moment: one of them was successful, so
        the path was usable then."""
        self._through_ns = max(self._through_ns, until_ns)
        self._stretches = [s for s in self._stretches if s[0] > self._through_ns]
