"""Define the shared options, lengths and deadlines of all streams of a run by URL."""

from __future__ import annotations

import msgspec

from netmeasure.spec import ReceiveMode, SendMode
from netmeasure.workloads.base import bucket_ns


class TransferPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the shared options of all streams of a run by URL.

    Attributes:
        streams: How many there are.
        span_ns: The planned duration of the run; 0: a number of bytes ends it.
        omit_ns: The warm-up after the first byte, which is not counted.
        drain_ns: How long a sender waits for the last acknowledgements.
    """

    streams: int = 1
    span_ns: int = 0
    omit_ns: int = 0
    receive_mode: ReceiveMode = "copy"
    send_mode: SendMode = "copy"
    block_bytes: int = 512 * 1024
    drain_ns: int = 10_000_000_000

    @property
    def bucket_ns(self) -> int:
        return bucket_ns(self.span_ns, self.streams)
