"""Tell by how much the tests of a server overlap."""

from __future__ import annotations

from netmeasure.clock import now_ns


class Company:
    """Count the tests that transfer data at present, and add up their times."""

    def __init__(self) -> None:
        self._tests = 0
        #: the time of all tests together, until `_since_ns`
        self._sum_ns = 0
        self._since_ns = now_ns()

    def join(self) -> Presence:
        """Count a further test from now on."""
        return Presence(self)

    def change(self, tests: int) -> tuple[int, int]:
        """Count more or fewer tests from now on. Return the present moment, and the time of all
        tests together until then."""
        now = now_ns()
        self._sum_ns += self._tests * (now - self._since_ns)
        self._since_ns = now
        self._tests += tests
        return now, self._sum_ns


class Presence:
    """Count one test while it transfers data, until `leave`."""

    def __init__(self, company: Company) -> None:
        self._company = company
        self._begun = company.change(1)
        self._ended: tuple[int, int] | None = None

    def leave(self) -> None:
        """Stop counting the test. A second call has no effect."""
        if self._ended is None:
            self._ended = self._company.change(-1)

    @property
    def mean(self) -> float | None:
        """Return how many tests, including this one, there were on average during this one; None:
        it has not ended yet, or took no time."""
        if self._ended is None or self._ended[0] <= self._begun[0]:
            return None
        (begun_ns, before_ns), (ended_ns, after_ns) = self._begun, self._ended
        return (after_ns - before_ns) / (ended_ns - begun_ns)
