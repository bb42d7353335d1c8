"""HTTP/1.1 transfers: aiohttp speaks, our own connect and the native loops measure.

Each step has its own clock: resolve, connect (with its SYNs), TLS, request, first byte of the
answer. Redirects are followed here, so that each hop's steps are seen.
"""

from __future__ import annotations

import asyncio
import os
import ssl
from base64 import b64encode
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, NoReturn
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp import payload
from aiohttp.abc import AbstractResolver, AbstractStreamWriter, ResolveResult
from aiohttp.connector import Connection
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict

from netmeasure.clock import now_ns
from netmeasure.engine import handover, sockets
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.tasks import first_of
from netmeasure.errors import (
    FileRefusedError,
    MeasureError,
    PeerClosedError,
    PeerTimeoutError,
    RemoteProtocolError,
    StreamError,
    TlsError,
)
from netmeasure.result import Transfer
from netmeasure.spec import SECRET_HEADERS, HttpSpec
from netmeasure.version import __version__
from netmeasure.workloads.reach import Reach, plain_words, public_url
from netmeasure.workloads.transfer import TransferStream, TransferWorkload

_REDIRECTS = (301, 302, 303, 307, 308)
_PORTS = {"http": 80, "https": 443}
#: What the library says of a body that breaks off, or is not framed as it should be.
_BODY_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)
#: A chunk of a chunked body as long as a send, so that the native loop sends chunks by itself.
_CHUNK_END = b"\r\n"


class HttpClient:
    """The transfers of one stream, one after the other."""

    def __init__(
        self,
        spec: HttpSpec,
        stream: TransferStream,
        workload: TransferWorkload,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._spec = spec
        self._stream = stream
        self._workload = workload
        self._reach = Reach(spec, stream.id - 1)
        self._tls = tls
        self._kept: _Hop | None = None
        self._redirects = 0

    async def transfer(self, phases: PhaseLog, limit: int | None) -> int:
        """One transfer, of at most `limit` bytes of its body, its steps told to `phases`. Returns
        the bytes of the body. Raises MeasureError."""
        started = now_ns()
        before = self._stream.moved_bytes
        if self._spec.direction == "upload":
            await self._upload(phases, limit)
        else:
            await self._download(phases, limit, started)
        return self._stream.moved_bytes - before

    async def close(self) -> None:
        """Close the connection that is kept, if any."""
        if self._kept is not None:
            await self._kept.close()
            self._kept = None

    # ---- download -------------------------------------------------------------------------------

    async def _download(self, phases: PhaseLog, limit: int | None, started: int) -> None:
        url = self._spec.url
        for _ in range(self._spec.max_redirects + 1):
            hop_started = now_ns()
            hop = await self._hop(url, phases)
            keep = False
            try:
                try:
                    response = await self._get(hop, phases)
                except PeerClosedError:
                    if not hop.reused:
                        raise
                    # servers end kept connections as they like: then a new one it is
                    await hop.close()
                    hop = await self._hop(url, phases)
                    response = await self._get(hop, phases)
                location = response.headers.get("Location")
                if response.status in _REDIRECTS and location is not None:
                    url = self._redirected(url, location, response.status, phases, hop_started)
                    continue
                self._check_status(response, "GET")
                await self._body(hop, response, limit, started)
                keep = self._spec.keep_connections and not self._stream.stopping
                return
            finally:
                if keep:
                    self._kept = hop
                else:
                    await hop.close()
        raise RemoteProtocolError(
            f"more than {self._spec.max_redirects} redirects, the last to {public_url(url)}",
            phase="request",
            hint="the server sends its clients in a circle, or give the last URL",
        )

    def _redirected(
        self, url: str, location: str, status: int, phases: PhaseLog, started: int
    ) -> str:
        try:
            target = urljoin(url, location)
            good = _origin(target)[0] in _PORTS and urlsplit(target).hostname
            shown = public_url(target)
        except ValueError:
            good, shown = None, location.rpartition("@")[2]
        if not good:
            raise RemoteProtocolError(
                f"{public_url(url)} redirects to {shown!r}, which is no URL of http",
                phase="request",
            )
        self._redirects += 1
        detail = f"{status} to {shown}"
        phases.add("redirect", self._reach.connection, started, now_ns(), detail=detail)
        return target

    async def _get(self, hop: _Hop, phases: PhaseLog) -> _Response:
        headers = self._headers(hop.url)
        first, last = self._spec.first_byte, self._spec.last_byte
        if first is not None or last is not None:
            headers["Range"] = f"bytes={first or 0}-{'' if last is None else last}"
        return await hop.request(
            self._spec.method or "GET", headers, self._spec.deadlines.handshake_s, phases
        )

    def _headers(self, url: str) -> CIMultiDict[str]:
        """What the user wants to be said; secrets are for the server that they were given for, and
        not for whom it redirects us to."""
        headers = CIMultiDict(
            {"User-Agent": f"netmeasure/{__version__}", "Accept-Encoding": "identity"}
        )
        ours = _origin(url) == _origin(self._spec.url)
        if (credentials := self._credentials(url, ours=ours)) is not None:
            headers["Authorization"] = credentials
        for header in self._spec.headers:
            name, _, value = header.partition(":")
            if ours or name.strip().lower() not in SECRET_HEADERS:
                headers[name.strip()] = value.strip()
        return headers

    def _credentials(self, url: str, *, ours: bool) -> str | None:
        """User and password, in the URL's own words if it has any."""
        spec, parts = self._spec, urlsplit(url)
        if ours and parts.username is None:
            parts = urlsplit(spec.url)
        user, password = (spec.user, spec.password) if ours else (None, None)
        if parts.username is not None:
            user = unquote(parts.username)
        if parts.password is not None:
            password = unquote(parts.password)
        if user is None:
            return None
        return "Basic " + b64encode(f"{user}:{password or ''}".encode()).decode()

    def _check_status(self, response: aiohttp.ClientResponse, method: str) -> None:
        wants_part = self._spec.first_byte is not None or self._spec.last_byte is not None
        if response.status >= 300 or response.status < 200:
            raise FileRefusedError(
                f"{method} {response.url}: {response.status} {response.reason or ''}".rstrip(),
                phase="request",
                hint=_status_hint(response.status),
            )
        if wants_part and response.status != 206:
            raise FileRefusedError(
                f"{response.url}: the server ignores the range that was asked for",
                phase="request",
                hint="ask for the whole file",
            )

    async def _body(self, hop: _Hop, response: _Response, limit: int | None, started: int) -> None:
        """Drain the body: natively where its end is known and nothing has to be taken apart."""
        stream = self._stream
        transport = hop.transport(response)
        self._note(response)
        announced = response.content_length
        wanted = announced  # a body without a length may end before the limit
        if announced is not None and limit is not None:
            wanted = min(announced, limit)
        plain = transport is None or transport.get_extra_info("ssl_object") is None
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        self._workload.begin(self._stream)
        before = stream.moved_bytes
        if plain and not chunked and announced is not None and not self._spec.keep_connections:
            # no await from here to take_over(), or bytes would come to the library meanwhile
            leading, leading_ns = _take(response.content), now_ns()
            open_still = transport is not None and not transport.is_closing()
            if leading < (wanted or 0) and open_still and not response.content.is_eof():
                sock = handover.take_over(transport)
                with sock:
                    await self._native(sock, wanted or 0, leading, leading_ns)
            else:
                stream.count(min(leading, wanted or 0))
        else:
            await first_of(self._through_library(response, limit), stream.stopped.wait())
        got = stream.moved_bytes - before
        if not stream.stopping and wanted is not None and got < wanted:
            raise StreamError(
                f"{response.url} ended early: {got} of {wanted} bytes were received", phase="data"
            )
        if not stream.stopping:
            stream.completed(started)

    async def _native(self, sock: Any, wanted: int, leading: int, leading_ns: int) -> None:
        loop = await self._stream.receive(
            sock, limit=wanted, leading=leading, leading_ns=leading_ns
        )
        if loop.reason == "error":
            raise StreamError(
                f"receiving from {self._stream.remote} failed: {self._stream.error}", phase="data"
            )

    async def _through_library(self, response: _Response, limit: int | None) -> None:
        left = limit
        try:
            async for piece in response.content.iter_any():
                count = len(piece) if left is None else min(left, len(piece))
                self._stream.count(count)
                if left is not None:
                    left -= count
                    if left == 0:
                        return
        except _BODY_ERRORS as exc:
            raise StreamError(f"{response.url} broke off: {_words(exc)}", phase="data") from None

    # ---- upload ---------------------------------------------------------------------------------

    async def _upload(self, phases: PhaseLog, limit: int | None) -> None:
        started = now_ns()
        hop = await self._hop(self._spec.url, phases)
        try:
            body = _Body(self._stream, self._workload, limit)
            headers = self._headers(hop.url)
            if limit is not None:  # else the library says that it is chunked, and ends it
                headers["Content-Length"] = str(limit)
            method = self._spec.method or "PUT"
            asking = asyncio.create_task(hop.request(method, headers, None, phases, body))
            try:
                await asyncio.wait(
                    [asking, asyncio.ensure_future(body.over.wait())],
                    return_when=asyncio.FIRST_COMPLETED,
                )
                if self._stream.stopping and limit is not None and not body.complete:
                    return  # cut off by order: there will be no good answer
                try:
                    async with asyncio.timeout(self._spec.deadlines.handshake_s):
                        response = await asking
                        answered_ns = now_ns()
                        if response.status < 300:
                            await body.over.wait()  # the last acknowledgements
                except TimeoutError:
                    raise PeerTimeoutError(
                        f"no answer to the upload in {self._spec.deadlines.handshake_s:g} s",
                        phase="results",
                    ) from None
                sent_ns = min(self._stream.loop.last_ns or answered_ns, answered_ns)
                phases.add("final_reply", self._reach.connection, sent_ns, answered_ns)
                self._note(response)
                self._check_status(response, method)
                self._stream.completed(started)
            finally:
                await body.end()
                asking.cancel()
                await asyncio.gather(asking, return_exceptions=True)
        finally:
            await hop.close()

    # ---- connections ----------------------------------------------------------------------------

    async def _hop(self, url: str, phases: PhaseLog) -> _Hop:
        """A connection to the server of `url`: the kept one, or a new one."""
        if self._kept is not None and self._kept.serves(url):
            kept, self._kept = self._kept, None
            kept.reused = True
            return kept
        await self.close()
        parts = urlsplit(url)
        proxy = _proxy_for(url) if self._spec.proxy else None
        where = urlsplit(proxy) if proxy else parts
        made = await self._reach.connect(
            where.hostname or "", where.port or _PORTS.get(where.scheme, 80), phases
        )
        self._stream.note_socket(made.sock, made.syn_retransmits)
        return _Hop(url, proxy, made, self._reach.connection, self._tls)

    def _note(self, response: _Response) -> None:
        version, tls = response.version, response.tls
        cipher = tls.cipher() if tls is not None else None
        self._stream.transfer = Transfer(
            url=str(response.url.with_user(None)),
            protocol=f"HTTP/{version.major}.{version.minor}" if version else "HTTP",
            server=response.headers.get("Server"),
            tls=tls.version() if tls is not None else None,
            cipher=cipher[0] if cipher else None,
            tls_resumed=tls.session_reused if tls is not None else None,
            status=response.status,
            content_bytes=response.content_length,
            encoding=_encoding(response.headers),
            redirects=self._redirects,
        )


class _Hop:
    """One connection, opened by us and spoken on by a session of its own."""

    def __init__(
        self,
        url: str,
        proxy: str | None,
        made: sockets.Connected,
        connection: str,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.url = url
        self._url = public_url(url)  # the library would make credentials of its own of the rest
        self._proxy = proxy
        self._made = made
        self._connection = connection
        self._ready_ns = made.end_ns
        self._sent_ns = made.end_ns
        self._fresh: handover.Opened | None = handover.Opened.from_socket(made.sock)
        connector = aiohttp.TCPConnector(
            resolver=_Known(made.address),
            socket_factory=self._socket,
            use_dns_cache=False,
            ssl=True if tls is None else tls,
            limit=1,
        )
        #: it has served a transfer before
        self.reused = False
        self._response: _Response | None = None
        #: connected, and TLS is agreed upon where it is wanted
        self._ready = False
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            response_class=_Response,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[self._trace()],
        )

    def serves(self, url: str) -> bool:
        return _origin(url) == _origin(self._url)

    def _socket(self, _: object) -> handover.Opened:
        if self._fresh is None:
            raise OSError("the kept connection is gone")
        sock, self._fresh = self._fresh, None
        return sock

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()

        async def connected(*_: object) -> None:
            self._ready_ns = now_ns()
            self._ready = True

        async def sent(*_: object) -> None:
            self._sent_ns = now_ns()

        trace.on_connection_create_end.append(connected)
        trace.on_request_headers_sent.append(sent)
        return trace

    async def request(
        self,
        method: str,
        headers: Mapping[str, str],
        deadline_s: float | None,
        phases: PhaseLog,
        body: payload.Payload | None = None,
    ) -> _Response:
        """Ask, and wait for the head of the answer. Raises MeasureError."""
        began = now_ns()
        fresh = self._fresh is not None
        async with self._explained(deadline_s):
            response = await self._session.request(
                method,
                self._url,
                headers=headers,
                data=body,
                proxy=self._proxy,
                allow_redirects=False,
            )
        answered, name = now_ns(), self._connection
        if fresh and self._ready_ns > began and urlsplit(self._url).scheme == "https":
            phases.add("tls", name, began, self._ready_ns)
        since = max(began, self._ready_ns) if fresh else began
        phases.add("request", name, since, max(since, self._sent_ns))
        if body is None:
            phases.add("first_byte", name, max(since, self._sent_ns), answered)
        assert isinstance(response, _Response)
        self._response = response
        return response

    @property
    def _step(self) -> str:
        """What the server has not done yet."""
        return "request" if self._ready or self.url.startswith("http:") else "tls"

    @asynccontextmanager
    async def _explained(self, deadline_s: float | None) -> AsyncIterator[None]:
        where = f"{self._made.address}"
        try:
            async with asyncio.timeout(deadline_s):
                yield
        except TimeoutError:
            what = "answer the request" if self._step == "request" else "agree on TLS"
            raise PeerTimeoutError(
                f"{where} did not {what} in {deadline_s:g} s", phase=self._step
            ) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as exc:
            raise TlsError(f"no TLS with {where}: {_words(exc)}", phase="tls") from None
        except ssl.SSLError as exc:
            raise TlsError(f"no TLS with {where}: {_words(exc)}", phase="tls") from None
        except aiohttp.ClientResponseError as exc:
            raise RemoteProtocolError(
                f"{where} does not speak HTTP: {_words(exc)}", phase="request"
            ) from None
        except (aiohttp.ClientConnectionError, OSError) as exc:
            raise PeerClosedError(
                f"{where} closed the connection before it answered: {_words(exc)}",
                phase=self._step,
            ) from None
        except aiohttp.ClientError as exc:
            _other(exc, where)
        except ValueError as exc:
            _other(exc, where)

    def transport(self, response: aiohttp.ClientResponse) -> Any:
        """The transport under a response whose body is still to come; None where the body came
        whole with its head."""
        connection = response.connection
        return connection.transport if connection is not None else None

    async def close(self) -> None:
        if self._response is not None:
            transport = self.transport(self._response)
            if transport is not None:
                # an orderly end of TLS would go on reading what a server goes on sending
                transport.abort()
            self._response.close()
        await self._session.close()
        if self._fresh is not None:
            self._fresh.close()


def _origin(url: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: whom a URL is about. Raises ValueError for what is none."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or _PORTS.get(parts.scheme)


def _other(exc: Exception, where: str) -> NoReturn:
    raise MeasureError(f"the request to {where} failed: {_words(exc)}", phase="request") from None


class _Response(aiohttp.ClientResponse):
    """An answer that knows the TLS it came by, also when its connection is closed again."""

    tls: ssl.SSLObject | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            self.tls = connection.transport.get_extra_info("ssl_object")
        return await super().start(connection)


class _Known(AbstractResolver):
    """A resolver that knows one answer: the address that we are connected to."""

    def __init__(self, address: sockets.Address) -> None:
        self._address = address

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [
            ResolveResult(
                hostname=host,
                host=self._address.sockaddr[0],
                port=port,
                family=self._address.family,
                proto=0,
                flags=0,
            )
        ]

    async def close(self) -> None:
        """It holds nothing."""


class _Body(payload.Payload):
    """A body that the native loop sends, on the transport's own connection."""

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
        """Nothing is sent any more when this returns."""
        self._stream.abort_running()
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.gather(self._sending, return_exceptions=True)

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
        block = os.urandom(size)
        left = self._limit
        while not self._stream.stopping and left != 0:
            piece = block if left is None else block[: min(left, size)]
            await writer.write(piece)
            await writer.drain()
            self._stream.count(len(piece))
            left = None if left is None else left - len(piece)
        self.complete = not left


def _chunk(size: int) -> tuple[bytes, int]:
    """A chunk of a chunked body (RFC 9112 7.1) that takes `size` bytes with its frame, or a few
    less; and how many of them are data."""
    data = size - len(f"{size:x}") - 2 * len(_CHUNK_END)
    return f"{data:x}".encode() + _CHUNK_END + os.urandom(data) + _CHUNK_END, data


def _take(content: aiohttp.StreamReader) -> int:
    """How much the library has read of a body already; from now on it holds nothing of it."""
    try:
        return len(content.read_nowait(-1))
    except _BODY_ERRORS:  # it broke off meanwhile
        return content.total_bytes


def _encoding(headers: Mapping[str, str]) -> str:
    codings = [headers.get(name, "") for name in ("Content-Encoding", "Transfer-Encoding")]
    return ", ".join(coding for coding in codings if coding) or "identity"


def _proxy_for(url: str) -> str | None:
    """The proxy that the environment names for a URL."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


def _words(exc: BaseException) -> str:
    """What an exception of others says, in one line."""
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        exc = exc.certificate_error
    return plain_words(exc)


def _status_hint(status: int) -> str | None:
    if status in (401, 403):
        return "give a user and a password that may have it"
    if status == 404:
        return "check the path"
    if status == 405:
        return "this server takes no uploads there"
    if status == 416:
        return "the file is shorter than the part asked for"
    return "see the server's log" if status >= 500 else None
