"""Define pauses: periods in which one end of a flow did nothing although its test was running."""

from __future__ import annotations

from typing import ClassVar, Literal

import msgspec


class Pause(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a stretch in which none of an end's traffic threads ran, on that end's clock.

    A traffic thread reads its clock at least every 100 ms, even while it waits for the network, and
    records each time (`ThreadCpu.at_ns`). The thread's own host causes longer gaps between two of
    these times.

    Attributes:
        end: Whose threads they were: "sender" or "receiver".
        start_ns: Where the pause starts.
        end_ns: Where it ends.
        cause: "stopped": the threads were not even ready to run (SIGSTOP, a frozen container, a
            suspended host, a file that blocks). "starved": for most of the time they were ready,
            and other threads or the control group's quota kept them from a CPU.
        wait_ns: Time ready to run without a CPU (/proc/thread-self/schedstat); None: unknown.
    """

    derived: ClassVar[tuple[str, ...]] = ("duration_ns",)

    end: Literal["sender", "receiver"]
    start_ns: int
    end_ns: int
    cause: Literal["stopped", "starved"]
    wait_ns: int | None = None

    @property
    def duration_ns(self) -> int:
        """Return how long the pause lasts."""
        return self.end_ns - self.start_ns
