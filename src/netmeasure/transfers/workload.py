"""Own all streams of a run by URL."""

from __future__ import annotations

from netmeasure.clock import now_ns
from netmeasure.result import Role, StreamInterval, StreamReport
from netmeasure.transfers.plan import TransferPlan
from netmeasure.transfers.stream import TransferStream
from netmeasure.workloads.stream_report import stretch


class TransferWorkload:
    """Own all streams of a run by URL. `origin_ns`: when the first body was about to come or go."""

    def __init__(self, plan: TransferPlan, role: Role, streams: int) -> None:
        self.plan = plan
        self.role: Role = role
        self.streams = [TransferStream(1 + index, role, plan) for index in range(streams)]
        self.origin_ns: int | None = None

    @property
    def bucket_ns(self) -> int:
        return self.plan.bucket_ns

    def begin_body(self, stream: TransferStream) -> None:
        """Note that a body is about to come or go on a stream."""
        stream.in_body = True
        if self.origin_ns is None:
            self.origin_ns = now_ns()

    def flowing(self) -> bool:
        """Return whether bytes are expected on any stream."""
        return any(stream.in_body for stream in self.streams)

    @property
    def first_ns(self) -> int | None:
        known = [s.first_ns for s in self.streams if s.first_ns is not None]
        return min(known, default=None)

    @property
    def last_ns(self) -> int | None:
        known = [s.last_ns for s in self.streams if s.last_ns is not None]
        return max(known, default=None)

    def moved_bytes(self) -> int:
        return sum(stream.moved_bytes for stream in self.streams)

    def ids(self, role: Role) -> tuple[int, ...]:
        return tuple(stream.id for stream in self.streams if stream.role == role)

    def levels(self, role: Role, until_ns: int) -> tuple[StreamInterval, ...]:
        """Return what each stream of a role had counted at a moment."""
        return tuple(
            StreamInterval(id=s.id, bytes=s.counted_until(until_ns))
            for s in self.streams
            if s.role == role
        )

    def so_far(self) -> tuple[StreamReport, ...]:
        return tuple(stream.so_far(self.origin_ns or 0) for stream in self.streams)

    def stop(self) -> None:
        for stream in self.streams:
            stream.stop()

    def report(self) -> tuple[StreamReport, ...]:
        """Return what this end saw. Call when nothing is under way."""
        if self.origin_ns is None:
            return ()
        found = stretch((stream.loop for stream in self.streams), self.plan.omit_ns)
        window = None
        if found is not None:
            start, end = found
            window = (start - self.origin_ns, end - self.origin_ns)
        return tuple(stream.report(self.origin_ns, window) for stream in self.streams)
