"""Serve synthetic files by HTTP: a native thread answers simple requests for small files, aiohttp
reads all other requests, and native threads send large bodies.

A plain connection belongs to the thread of :mod:`netmeasure.origins.small_files` until its first
request of another kind. From this request on, it belongs to aiohttp.
"""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import ssl
from collections.abc import Callable

from aiohttp import web

from netmeasure.engine.handover import share
from netmeasure.errors import BusyOriginError, UnsatisfiableRangeError
from netmeasure.origins.base import Origin
from netmeasure.origins.catalog import SAMPLES, size_of
from netmeasure.origins.content import BLOCK_BYTES
from netmeasure.origins.ranges import parse_range
from netmeasure.origins.small_files import FILE_FIELDS, SmallFileServer
from netmeasure.origins.transfers import MIN_BYTES_PER_S
from netmeasure.spec import Family, OriginLimits

#: Up to this size a body goes out together with its header; a thread would cost more than it saves.
SMALL_BYTES = 256 * 1024
#: How long the body of a refused request is read, so that the answer arrives before the close.
LINGER_S = 1.0
_SHUTDOWN_S = 0.1
#: A misbehaving client must not cause a traceback on standard error.
_SILENT = logging.Logger("netmeasure.origins.http", logging.CRITICAL + 1)


class HttpOrigin(Origin):
    """Serve GET and HEAD of any name in :mod:`netmeasure.origins.catalog`, also of a range, and PUT
    and POST to any name. Uploaded bodies are counted and discarded. GET /healthz returns 200 while
    the server runs, GET /readyz returns 200 or 503 as `ready` decides."""

    def __init__(
        self,
        host: str | None,
        port: int,
        *,
        family: Family,
        limits: OriginLimits | None,
        tls: ssl.SSLContext | None,
        ready: Callable[[], bool] | None,
    ) -> None:
        super().__init__(host, port, family=family, limits=limits)
        self._tls = tls
        self._ready = ready
        largest = min(SMALL_BYTES, self._limits.max_bytes)
        self._files = SmallFileServer(
            self._transfers.content, largest, self._limits, self._take_over
        )
        #: connections on their way from there to aiohttp
        self._moving = 0

    # ---- clients --------------------------------------------------------------------------------

    def _open(self) -> None:
        self._web = web.Server(
            self._handle,
            access_log=None,
            logger=_SILENT,
            keepalive_timeout=self._limits.idle_s,
            lingering_time=LINGER_S,
            auto_decompress=False,  # count the bytes on the wire
        )

    async def _admit(self, sock: socket.socket) -> None:
        count = len(self._web.connections) + self._files.connections + self._moving
        if count >= self._limits.max_connections:
            sock.close()
        elif self._tls is not None or not self._files.take(sock):
            await self._serve(sock)

    def _take_over(self, sock: socket.socket) -> None:
        if self._closed:
            sock.close()
            return
        self._moving += 1
        self._begin(sock, self._serve_moved)

    async def _serve_moved(self, sock: socket.socket) -> None:
        try:
            await self._serve(sock)
        finally:
            self._moving -= 1

    async def _serve(self, sock: socket.socket) -> None:
        """Serve a connection by aiohttp."""
        loop = asyncio.get_running_loop()
        await loop.connect_accepted_socket(
            self._web,
            sock,
            ssl=self._tls,
            ssl_handshake_timeout=None if self._tls is None else self._limits.idle_s,
        )

    async def _disconnect(self) -> None:
        await self._files.close()
        for connection in self._web.connections:
            if connection.transport is not None:
                connection.transport.abort()  # close() would wait for a client that does not read
        await self._web.shutdown(_SHUTDOWN_S)

    # ---- requests -------------------------------------------------------------------------------

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            if self._closed:
                raise _BodyCutShortError
            return await self._answer(request)
        except (OSError, _BodyCutShortError):  # ConnectionError and TimeoutError are OSErrors
            _abort(request)  # HTTP has no other way to end a body before its announced length
            response = web.StreamResponse()
            response.force_close()
            return response
        finally:
            self._tasks.discard(task)

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        try:
            if request.method in ("GET", "HEAD"):
                return await self._download(request)
            if request.method in ("PUT", "POST"):
                with self._transfers.slot():
                    return await self._upload(request)
        except BusyOriginError:
            response = _text(503, "too many transfers\n")
            response.headers["Retry-After"] = "1"
            response.force_close()
            return await self._whole(request, response)
        response = _text(405, "GET, HEAD, PUT and POST only\n")
        response.headers["Allow"] = "GET, HEAD, PUT, POST"
        return await self._whole(request, response)

    async def _download(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/":
            return await self._whole(request, _text(200, "".join(f"/{n}\n" for n in SAMPLES)))
        if request.path == "/healthz":
            return await self._whole(request, _text(200, "alive\n"))
        if request.path == "/readyz":
            ready = self._ready is None or self._ready()
            answer = _text(200, "ready\n") if ready else _text(503, "not ready\n")
            return await self._whole(request, answer)
        size = size_of(request.path, self._limits.max_bytes)
        if size is None:
            reason = "no such file: a name is a size, such as /10M.dat or /bytes/1500\n"
            return await self._whole(request, _text(404, reason))
        headers = dict(FILE_FIELDS)
        status, offset, length = 200, 0, size
        # If-Range names a version of the file; this server names none, so none can match
        if "If-Range" not in request.headers:
            try:
                part = parse_range(request.headers.get("Range"), size)
            except UnsatisfiableRangeError:
                refusal = _text(416, "the range is outside of the file\n")
                refusal.headers["Content-Range"] = f"bytes */{size}"
                return await self._whole(request, refusal)
            if part is not None:
                status, (offset, length) = 206, part
                headers["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{size}"
        if request.method == "GET" and length <= SMALL_BYTES:
            body = bytes(self._transfers.content.view(offset, length))
            small = web.Response(status=status, headers=headers, body=body)
            return await self._whole(request, small)
        response = web.StreamResponse(status=status, headers=headers)
        response.content_length = length
        if request.method == "HEAD":
            return await self._whole(request, response)
        with self._transfers.slot():
            await self._send(request, response, offset, length)
        return response

    async def _whole(
        self, request: web.BaseRequest, response: web.StreamResponse
    ) -> web.StreamResponse:
        """Send a response whose body aiohttp holds, within the stall deadline."""
        async with asyncio.timeout(self._limits.stall_s):
            await response.prepare(request)
            await response.write_eof()
        return response

    # ---- large bodies ---------------------------------------------------------------------------

    async def _send(
        self, request: web.BaseRequest, response: web.StreamResponse, offset: int, length: int
    ) -> None:
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        async with asyncio.timeout(self._limits.stall_s):
            await response.prepare(request)
            if self._tls is None:
                await _flush(request, transport)
        if self._tls is not None:
            await self._write(response, offset, length)
            return
        with share(transport) as sock:
            reading = transport.is_reading()
            # the native loop makes the socket blocking, so the transport must not read from it
            transport.pause_reading()
            end = await self._transfers.send(sock, offset, length, close=False)
            if end != "complete":
                raise _BodyCutShortError
            if reading:
                transport.resume_reading()

    async def _write(self, response: web.StreamResponse, offset: int, length: int) -> None:
        """Send a body over TLS, block by block through aiohttp."""
        sent = 0
        while sent < length:
            view = self._transfers.content.view(offset + sent, min(length - sent, BLOCK_BYTES))
            async with asyncio.timeout(self._limits.stall_s):
                await response.write(view)
            sent += len(view)

    async def _upload(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.headers.get("Expect", "").lower() == "100-continue":
            await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            request.writer.output_size = 0  # aiohttp must not take the 100 for the response
        length = request.content_length
        if self._tls is None and length is not None and length > SMALL_BYTES:
            count, keep = await self._receive(request, length), False
        else:
            count, keep = await self._read(request), True
        response = _text(200, json.dumps({"received_bytes": count}) + "\n", "application/json")
        if not keep:
            response.force_close()
        return await self._whole(request, response)

    async def _read(self, request: web.BaseRequest) -> int:
        """Read a body through aiohttp: a small one, a chunked one, or one over TLS."""
        count, stall_s = 0, self._limits.stall_s
        while True:
            begun = count
            async with asyncio.timeout(stall_s):
                while count - begun < MIN_BYTES_PER_S * stall_s:
                    data = await request.content.readany()
                    if not data:
                        return count
                    count += len(data)

    async def _receive(self, request: web.BaseRequest, length: int) -> int:
        """Receive a plain body of known length by the native loop. aiohttp does not see it, so the
        connection can't be used again."""
        transport = request.transport
        if transport is None:
            raise ConnectionResetError
        async with asyncio.timeout(self._limits.stall_s):
            await _flush(request, transport)
        count = 0
        while data := request.content.read_nowait():
            count += len(data)
        if request.content.is_eof():
            return count
        transport.pause_reading()
        with share(transport) as sock:
            end, received = await self._transfers.receive(sock, length - count)
        if end != "complete":
            raise _BodyCutShortError
        request.content.feed_eof()
        return count + received


class _BodyCutShortError(Exception):
    """Report that the client closed or stalled before the end of a body."""


def _text(status: int, text: str, kind: str = "text/plain") -> web.Response:
    return web.Response(status=status, text=text, content_type=kind)


def _abort(request: web.BaseRequest) -> None:
    if request.transport is not None:
        request.transport.abort()


async def _flush(request: web.BaseRequest, transport: asyncio.Transport) -> None:
    """Wait until the kernel has all bytes of the transport. Bytes that it still held would arrive
    in the middle of the body that the native loop sends."""
    transport.set_write_buffer_limits(0)
    await request.writer.drain()
    if transport.is_closing() or transport.get_write_buffer_size():
        raise ConnectionResetError
    transport.set_write_buffer_limits()


def serve_http(
    host: str | None = None,
    port: int = 0,
    *,
    family: Family = "any",
    limits: OriginLimits | None = None,
    tls: ssl.SSLContext | None = None,
    ready: Callable[[], bool] | None = None,
) -> HttpOrigin:
    """Return an HTTP server for `async with`; its address is in `origin.address` and `origin.port`.

    The server raises ServeError when it can't listen.

    host   the address to listen on; None: all addresses
    port   the port to listen on; 0: a free one
    tls    the context for HTTPS; None: plain HTTP
    ready  decides between 200 and 503 for GET /readyz; None: always 200
    """
    return HttpOrigin(host, port, family=family, limits=limits, tls=tls, ready=ready)
