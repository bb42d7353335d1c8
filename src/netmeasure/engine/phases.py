"""The set-up phases of a run, each with its own clock, all counted from the first attempt."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

from netmeasure.clock import now_ns
from netmeasure.result import Phase


class PhaseLog:
    """Collects phases. `origin_ns` is the client's first attempt to reach the server."""

    def __init__(self) -> None:
        self.origin_ns = now_ns()
        self._phases: list[Phase] = []
        self._suffix = ""

    def repeated(self, number: int) -> PhaseLog:
        """The same log for the steps of transfer `number` of a stream: connections are marked."""
        view = copy.copy(self)
        view._suffix = f" #{number}"
        return view

    def add(
        self,
        name: str,
        connection: str,
        start_ns: int,
        end_ns: int,
        *,
        syn_retransmits: int | None = None,
        address: str | None = None,
        detail: str | None = None,
    ) -> None:
        """Record a phase from its two moments on CLOCK_MONOTONIC."""
        self._phases.append(
            Phase(
                name=name,
                connection=connection + self._suffix,
                start_ns=start_ns - self.origin_ns,
                duration_ns=end_ns - start_ns,
                syn_retransmits=syn_retransmits,
                address=address,
                detail=detail,
            )
        )

    @contextmanager
    def measure(self, name: str, connection: str) -> Iterator[None]:
        """Record the body as a phase, also when it fails: then `detail` names the error."""
        start = now_ns()
        try:
            yield
        except BaseException as exc:
            self.add(name, connection, start, now_ns(), detail=type(exc).__name__)
            raise
        self.add(name, connection, start, now_ns())

    def collected(self) -> tuple[Phase, ...]:
        return tuple(sorted(self._phases, key=lambda phase: phase.start_ns))
