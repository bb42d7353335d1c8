"""Transfer files by HTTP/1.1: aiohttp handles the protocol, our own connect and the native loops
measure.

Each step has its own clock: resolve, connect (with its SYNs), TLS, request, first byte of the
answer. Redirects are followed here, so that each hop's steps are seen.
"""

from __future__ import annotations

import asyncio
import ssl
from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urljoin, urlsplit
from urllib.request import getproxies, proxy_bypass

import aiohttp
from aiohttp.http import HttpProcessingError
from multidict import CIMultiDict

from netmeasure.clock import now_ns
from netmeasure.engine import handover
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.tasks import cancel_and_wait, first_of
from netmeasure.errors import (
    FileRefusedError,
    PeerClosedError,
    PeerTimeoutError,
    RemoteProtocolError,
    StreamError,
)
from netmeasure.result import Transfer
from netmeasure.spec import SECRET_HEADERS, HttpSpec
from netmeasure.text import quoted
from netmeasure.transfers.http_body import Body
from netmeasure.transfers.http_hop import PORTS, Hop, Response, origin, words
from netmeasure.transfers.reach import Reach, public_url
from netmeasure.transfers.transfer import TransferStream, TransferWorkload
from netmeasure.version import __version__

_REDIRECTS = (301, 302, 303, 307, 308)
#: What the library says of a body that breaks off, or is not framed as it should be.
_BODY_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)


class HttpClient:
    """Make the transfers of one stream, one after the other."""

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
        self._kept: Hop | None = None
        self._redirects = 0

    async def transfer(self, phases: PhaseLog, limit: int | None) -> int:
        """Make one transfer of at most `limit` bytes of its body, and log its steps in `phases`.
        Returns the bytes of the body. Raises MeasureError."""
        started = now_ns()
        before = self._stream.moved_bytes
        self._stream.begin_transfer()
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
            hop = await self._hop(url, phases)
            keep, moved = False, None
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
                    url = self._redirected(url, location)
                    moved = (hop.answered_ns, f"{response.status} to {public_url(url)}")
                    continue
                self._check_status(response, "GET")
                await self._body(hop, response, limit, started, phases)
                keep = self._spec.keep_connections and not self._stream.stopping
                return
            finally:
                if keep:
                    self._kept = hop
                else:
                    await hop.close()
                if moved is not None:
                    noticed_ns, detail = moved
                    connection = self._reach.connection
                    phases.add("redirect", connection, noticed_ns, now_ns(), detail=detail)
        raise RemoteProtocolError(
            f"more than {self._spec.max_redirects} redirects, the last to {public_url(url)}",
            phase="request",
            hint="if the redirects form no loop, give the last URL",
        )

    def _redirected(self, url: str, location: str) -> str:
        """Return where a redirect leads. Raises RemoteProtocolError for what is no URL of HTTP."""
        try:
            target = urljoin(url, location)
            good = origin(target)[0] in PORTS and urlsplit(target).hostname
            shown = public_url(target)
        except ValueError:
            good, shown = None, location.rpartition("@")[2]
        if not good:
            raise RemoteProtocolError(
                f"{public_url(url)} redirects to {shown!r}, which is no URL of http",
                phase="request",
            )
        self._redirects += 1
        return target

    async def _get(self, hop: Hop, phases: PhaseLog) -> Response:
        headers = self._headers(hop.url)
        first, last = self._spec.first_byte, self._spec.last_byte
        if first is not None or last is not None:
            headers["Range"] = f"bytes={first or 0}-{'' if last is None else last}"
        return await hop.request(
            self._spec.method or "GET", headers, self._spec.deadlines.handshake_s, phases
        )

    def _headers(self, url: str) -> CIMultiDict[str]:
        """Return the user's request headers. Secrets go to the server that they were given for
        only, and not to one that it redirects to."""
        headers = CIMultiDict(
            {"User-Agent": f"netmeasure/{__version__}", "Accept-Encoding": "identity"}
        )
        ours = origin(url) == origin(self._spec.url)
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
            said = f"{response.status} {quoted(response.reason or '')}".rstrip()
            raise FileRefusedError(
                f"{method} {response.url}: {said}",
                phase="request",
                hint=_status_hint(response.status),
            )
        if wants_part and response.status != 206:
            raise FileRefusedError(
                f"{response.url}: the server ignores the range that was asked for",
                phase="request",
                hint="ask for the whole file",
            )

    async def _body(
        self,
        hop: Hop,
        response: Response,
        limit: int | None,
        started: int,
        phases: PhaseLog,
    ) -> None:
        """Drain the body: natively where its end is known and nothing has to be taken apart."""
        came = response.content.total_bytes > 0  # some of it, with the head
        if not came:
            self._stream.expect(hop.watched, hop.sent_ns)
        try:
            await self._drain(hop, response, limit, started)
        finally:
            hop.unwatch()
            first_ns = self._stream.arrived_of_transfer_ns
            if not came and first_ns is not None and first_ns > hop.answered_ns:
                name = self._reach.connection
                phases.add("first_body_byte", name, hop.answered_ns, first_ns)

    async def _drain(self, hop: Hop, response: Response, limit: int | None, started: int) -> None:
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
                hop.unwatch()
                sock = handover.take_over(transport)
                with sock:
                    await stream.receive(
                        sock, limit=wanted or 0, leading=leading, leading_ns=leading_ns
                    )
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

    async def _through_library(self, response: Response, limit: int | None) -> None:
        try:
            await self._stream.count_read(response.content.readany, limit)
        except _BODY_ERRORS as exc:
            raise StreamError(f"{response.url} broke off: {words(exc)}", phase="data") from None

    # ---- upload ---------------------------------------------------------------------------------

    async def _upload(self, phases: PhaseLog, limit: int | None) -> None:
        started = now_ns()
        hop = await self._hop(self._spec.url, phases)
        try:
            body = Body(self._stream, self._workload, limit)
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
                self._tell_first_byte(hop, phases)
                sent_ns = min(self._stream.loop.last_ns or answered_ns, answered_ns)
                phases.add("final_reply", self._reach.connection, sent_ns, answered_ns)
                self._note(response)
                self._check_status(response, method)
                self._stream.completed(started)
            finally:
                await body.end()
                await cancel_and_wait(asking)
        finally:
            await hop.close()

    def _tell_first_byte(self, hop: Hop, phases: PhaseLog) -> None:
        """Record how long the first byte of an upload was on its way."""
        first_ns = self._stream.first_of_transfer_ns
        if first_ns is not None:
            by_library = hop.url.startswith("https:")
            phases.add(
                "first_byte",
                self._reach.connection,
                hop.sent_ns,
                max(hop.sent_ns, first_ns),
                detail="sent" if by_library else "acknowledged",
            )

    # ---- connections ----------------------------------------------------------------------------

    async def _hop(self, url: str, phases: PhaseLog) -> Hop:
        """Return a connection to the server of `url`: the kept one, or a new one."""
        if self._kept is not None and self._kept.serves(url):
            kept, self._kept = self._kept, None
            kept.reused = True
            return kept
        await self.close()
        parts = urlsplit(url)
        proxy = _proxy_for(url) if self._spec.proxy else None
        where = urlsplit(proxy) if proxy else parts
        reached = await self._reach.connect(
            where.hostname or "", where.port or PORTS.get(where.scheme, 80), phases
        )
        self._stream.note_socket(reached.made.sock, reached.made.syn_retransmits)
        return Hop(url, proxy, reached, self._reach.connection, self._tls)

    def _note(self, response: Response) -> None:
        version = response.version
        transfer = Transfer(
            url=str(response.url.with_user(None)),
            protocol=f"HTTP/{version.major}.{version.minor}" if version else "HTTP",
            server=quoted(response.headers.get("Server", "")) or None,
            status=response.status,
            content_bytes=response.content_length,
            encoding=_encoding(response.headers),
            redirects=self._redirects,
        )
        self._stream.note_transfer(transfer, response.tls)


def _take(content: aiohttp.StreamReader) -> int:
    """Take from the library what it has read of a body already, and return its size."""
    try:
        return len(content.read_nowait(-1))
    except _BODY_ERRORS:  # it broke off meanwhile
        return content.total_bytes


def _encoding(headers: Mapping[str, str]) -> str:
    codings = [headers.get(name, "") for name in ("Content-Encoding", "Transfer-Encoding")]
    return ", ".join(coding for coding in codings if coding) or "identity"


def _proxy_for(url: str) -> str | None:
    """Return the proxy that the environment names for a URL."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)


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
