"""Transfer and count bodies by a library: those with TLS or chunks, and others that the native
loops can't transfer."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from netmeasure.engine.payload import random_bytes
from netmeasure.engine.tasks import first_of
from netmeasure.transfers.stream import TransferStream


async def receive(
    stream: TransferStream, read: Callable[[], Awaitable[bytes]], limit: int | None
) -> None:
    """Count the bytes that a library reads, until the end (an empty read), `limit` bytes, or the
    stop of the stream."""
    await first_of(_receive(stream, read, limit), stream.stopped.wait())


async def _receive(
    stream: TransferStream, read: Callable[[], Awaitable[bytes]], limit: int | None
) -> bool:
    left = limit
    while left != 0 and (piece := await read()):
        count = len(piece) if left is None else min(left, len(piece))
        stream.count(count)
        left = None if left is None else left - count
    return True


async def send(
    stream: TransferStream, write: Callable[[bytes], Awaitable[None]], limit: int | None
) -> bool:
    """Send `limit` random bytes, or until the stream is stopped, and count each block when `write`
    has flushed it. Return whether all announced bytes have been sent."""
    block = random_bytes(stream.plan.block_bytes)
    left = limit
    while not stream.stopping and left != 0:
        piece = block if left is None else block[: min(left, len(block))]
        await write(piece)
        stream.count(len(piece))
        left = None if left is None else left - len(piece)
    return not left


def flush_each_write(transport: asyncio.WriteTransport) -> None:
    """Let a transport's `drain` wait until all bytes have been passed to the kernel."""
    tls = transport.get_extra_info("ssl_object") is not None
    # asyncio's TLS pauses when its buffer reaches the limit: with 0 it would pause for ever
    transport.set_write_buffer_limits(1 if tls else 0, 0)
