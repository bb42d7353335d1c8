"""Send the body of an HTTP upload by the native loop, on the transport's own connection."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter

from netmeasure.engine import handover
from netmeasure.engine.payload import random_bytes
from netmeasure.engine.tasks import cancel_and_wait
from netmeasure.transfers.transfer import TransferStream, TransferWorkload

#: A chunk of a chunked body as long as a send, so that the native loop sends chunks by itself.
_CHUNK_END = b"\r\n"


class Body(payload.Payload):
    """Send a body by the native loop, on the transport's own connection."""

    def __init__(
        self, stream: TransferStream, workload: TransferWorkload, limit: int | None
    ) -> None:
        super().__init__(None, content_type="application/octet-stream")
        self._stream = stream
        self._workload = workload
        self._limit = limit
        self.over = asyncio.Event()
        self._sending: asyncio.Future[None] | None = None
        #: everything that was announced has been sent
        self.complete = False

    @property
    def size(self) -> int | None:
        return self._limit

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "<bytes without a meaning>"

    async def write_with_length(
        self, writer: AbstractStreamWriter, content_length: int | None
    ) -> None:
        await self.write(writer)

    async def write(self, writer: AbstractStreamWriter) -> None:
        try:
            writer.send_headers()
            transport: Any = getattr(writer, "transport", None)
            if transport is None:
                return
            native = transport.get_extra_info("ssl_object") is None
            # asyncio's TLS pauses at a limit, not above it: with 0 it would never go on
            transport.set_write_buffer_limits(0 if native else 1, 0)
            await writer.drain()  # the native loop must not overtake the head
            self._workload.begin(self._stream)
            sends = self._natively(transport) if native else self._through_library(writer)
            self._sending = asyncio.ensure_future(sends)
            self._sending.add_done_callback(lambda _: self.over.set())
            # the library cancels its writer when the answer is there, before we may have seen the
            # last acknowledgements
            await asyncio.shield(self._sending)
        finally:
            if self._sending is None:
                self.over.set()

    async def end(self) -> None:
        """End the body: nothing is sent any more when this returns."""
        self._stream.abort_running()
        if self._sending is not None:
            await cancel_and_wait(self._sending)

    async def _natively(self, transport: Any) -> None:
        stream = self._stream
        with handover.share(transport) as sock:
            if self._limit is not None:
                loop = await stream.send(sock, limit=self._limit, half_close=False)
                self.complete = loop.bytes >= self._limit
                return
            chunk, data = _chunk(stream.plan.block_bytes)
            before = stream.loop.bytes
            loop = await stream.send(
                sock, limit=None, half_close=False, block=chunk, payload_bytes=data
            )
            if loop.reason == "stopped":
                rest = -loop.bytes % len(chunk)
                if rest:
                    transport.write(chunk[-rest:])
                stream.count_rest(-(-loop.bytes // len(chunk)) * data - stream.loop.bytes + before)
                self.complete = True

    async def _through_library(self, writer: AbstractStreamWriter) -> None:
        size = self._stream.plan.block_bytes
        block = random_bytes(size)
        left = self._limit
        while not self._stream.stopping and left != 0:
            piece = block if left is None else block[: min(left, size)]
            await writer.write(piece)
            await writer.drain()
            self._stream.count(len(piece))
            left = None if left is None else left - len(piece)
        self.complete = not left


def _chunk(size: int) -> tuple[bytes, int]:
    """Return a chunk of a chunked body (RFC 9112 7.1) that takes `size` bytes with its frame, or a
    few less; and how many of them are data."""
    data = size - len(f"{size:x}") - 2 * len(_CHUNK_END)
    return f"{data:x}".encode() + _CHUNK_END + random_bytes(data) + _CHUNK_END, data
