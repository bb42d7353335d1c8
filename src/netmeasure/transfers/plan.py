"""Define what all streams of a run by URL share: options, lengths and deadlines."""

from __future__ import annotations

import msgspec

from netmeasure.spec import ReceiveMode, SendMode
from netmeasure.workloads.base import BUCKET_NS, FINE_BUCKET_NS, FINE_UP_TO_NS


class TransferPlan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what all streams of a run by URL share.

    Attributes:
        span_ns: How long the run is to last; 0 if a number of bytes ends it.
        omit_ns: The warm-up after the first byte, which is not counted.
        drain_ns: How long a sender waits for the last acknowledgements.
    """

    span_ns: int = 0
    omit_ns: int = 0
    receive_mode: ReceiveMode = "copy"
    send_mode: SendMode = "copy"
    block_bytes: int = 512 * 1024
    drain_ns: int = 10_000_000_000

    @property
    def bucket_ns(self) -> int:
        return BUCKET_NS if self.span_ns > FINE_UP_TO_NS else FINE_BUCKET_NS
