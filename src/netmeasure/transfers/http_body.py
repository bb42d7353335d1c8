"""Send the body of an HTTP upload: by the native loop on a plain connection, otherwise by the
library."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

from aiohttp import payload
from aiohttp.abc import AbstractStreamWriter

from netmeasure.engine import handover
from netmeasure.engine.payload import random_bytes
from netmeasure.engine.tasks import cancel_and_wait
from netmeasure.transfers import library
from netmeasure.transfers.native import Chunk
from netmeasure.transfers.stream import TransferStream
from netmeasure.transfers.workload import TransferWorkload

_CHUNK_END = b"\r\n"


class Body(payload.Payload):
    """Send `limit` random bytes, or chunks of them until the stream is stopped.

    Attributes:
        over: Set when no more bytes are sent.
        complete: Whether all announced bytes have been sent.
    """

    def __init__(
        self, stream: TransferStream, workload: TransferWorkload, limit: int | None
    ) -> None:
        super().__init__(None, content_type="application/octet-stream")
        self._stream = stream
        self._workload = workload
        self._limit = limit
        self._sending: asyncio.Future[None] | None = None
        self.over = asyncio.Event()
        self.complete = False

    @property
    def size(self) -> int | None:
        return self._limit

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        return "<random bytes>"

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
            library.flush_each_write(transport)
            await writer.drain()  # the native loop must not send before the head
            self._workload.begin_body(self._stream)
            plain = transport.get_extra_info("ssl_object") is None
            sends = self._send_natively(transport) if plain else self._send_through_library(writer)
            self._sending = asyncio.ensure_future(sends)
            self._sending.add_done_callback(lambda _: self.over.set())
            # the library cancels its writer when the response arrives, which may be before the last
            # acknowledgements
            await asyncio.wait([self._sending])
            self._sending.result()
        finally:
            if self._sending is None:
                self.over.set()

    async def end(self) -> None:
        """End the body. When this returns, no more bytes are sent."""
        self._stream.native.abort()
        if self._sending is not None:
            await cancel_and_wait(self._sending)

    async def _send_natively(self, transport: Any) -> None:
        with handover.share(transport) as sock:
            if self._limit is None:
                await self._send_chunks(sock, transport)
            else:
                loop = await self._stream.native.send(sock, self._limit, half_close=False)
                self.complete = loop.bytes >= self._limit

    async def _send_chunks(self, sock: socket.socket, transport: Any) -> None:
        """Send chunks until stopped, and complete the current chunk."""
        stream = self._stream
        chunk = _chunk(stream.plan.block_bytes)
        size = len(chunk.block)
        before = stream.loop.bytes
        loop = await stream.native.send_chunks(sock, chunk)
        if loop.reason == "stopped":
            rest = -loop.bytes % size
            if rest and not transport.is_closing():  # uvloop would raise RuntimeError
                transport.write(chunk.block[-rest:])
            chunks = -(-loop.bytes // size)
            stream.count_rest(chunks * chunk.data_bytes - (stream.loop.bytes - before))
            self.complete = True

    async def _send_through_library(self, writer: AbstractStreamWriter) -> None:
        async def write(piece: bytes) -> None:
            await writer.write(piece)
            await writer.drain()

        self.complete = await library.send(self._stream, write, self._limit)


def _chunk(size: int) -> Chunk:
    """Return a chunk of a chunked body (RFC 9112 section 7.1) that has `size` bytes with its
    framing, or slightly fewer. A chunk is as long as one send, so that the native loop sends whole
    chunks."""
    data = size - len(f"{size:x}") - 2 * len(_CHUNK_END)
    return Chunk(f"{data:x}".encode() + _CHUNK_END + random_bytes(data) + _CHUNK_END, data)
