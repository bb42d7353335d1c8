"""Time the first body byte of each transfer: when it was counted, and when it arrived."""

from __future__ import annotations

from netmeasure._fast.tcp import Receiver
from netmeasure._fast.worker import Stream
from netmeasure.engine.watch import Watched, arrival, stretches


class FirstByte:
    """Keep the times of the first body byte of the current transfer; None until it arrives.

    Attributes:
        counted_ns: When the byte was counted.
        arrived_ns: When the byte reached this host or, in an upload, was acknowledged.
    """

    def __init__(self) -> None:
        self.counted_ns: int | None = None
        self.arrived_ns: int | None = None
        self._watched: Watched | None = None
        self._after_ns = 0

    def begin_transfer(self) -> None:
        """Clear the times of the previous transfer."""
        self.counted_ns = self.arrived_ns = None

    def expect(self, watched: Watched | None, after_ns: int) -> None:
        """Take the arrival time, which is after `after_ns`, from a watched socket. The socket is
        watched until the byte is counted."""
        self._watched, self._after_ns = watched, after_ns

    def counted_by_library(self, moment_ns: int) -> None:
        """Record that the event loop counted bytes, which may be the transfer's first or later
        ones."""
        if self.counted_ns is None:
            self.counted_ns = moment_ns
            self.arrived_ns = self._arrival(moment_ns)

    def counted_by_loop(self, loop: Stream) -> None:
        """Record the counts of an ended native loop, which may have the transfer's first byte or
        later ones."""
        first_ns = loop.series()[0]
        if self.counted_ns is None and first_ns is not None:
            arrived_ns = loop.arrived_ns if isinstance(loop, Receiver) else None
            self.counted_ns = first_ns
            self.arrived_ns = min(arrived_ns or first_ns, first_ns)

    def _arrival(self, counted_ns: int) -> int:
        watched, self._watched = self._watched, None
        if watched is None:
            return counted_ns
        seen = stretches(watched)
        watched.remove()
        return arrival(seen, self._after_ns, counted_ns)
