"""Download one file by HTTP. Redirects are followed one by one, so that the steps of each are
recorded."""

from __future__ import annotations

from typing import Any
from urllib.parse import urljoin, urlsplit

import aiohttp
from aiohttp.http import HttpProcessingError

from netmeasure.clock import now_ns
from netmeasure.engine import handover
from netmeasure.engine.phases import PhaseLog
from netmeasure.errors import PeerClosedError, RemoteProtocolError, StreamError
from netmeasure.transfers import library
from netmeasure.transfers.aiohttp_classes import Response
from netmeasure.transfers.http_connections import HttpJob
from netmeasure.transfers.http_hop import PORTS, Hop, origin, words
from netmeasure.transfers.http_request import (
    check_status,
    described,
    range_header,
    request_headers,
)
from netmeasure.transfers.native import Leading
from netmeasure.transfers.reach import public_url

_REDIRECTS = (301, 302, 303, 307, 308)
#: The library's errors for a body that ends early or has invalid framing.
_BODY_ERRORS = (aiohttp.ClientError, HttpProcessingError, OSError)


class Download:
    """Download one file, or its first `limit` bytes."""

    def __init__(self, job: HttpJob, phases: PhaseLog, limit: int | None) -> None:
        self._job = job
        self._phases = phases
        self._limit = limit
        self._started_ns = now_ns()
        self._method = job.spec.method or "GET"

    async def run(self) -> None:
        """Follow redirects to the file, and receive its body. Raises MeasureError."""
        url, most = self._job.spec.url, self._job.spec.max_redirects
        for _ in range(most + 1):
            target = await self._visit(url)
            if target is None:
                return
            url = target
        raise RemoteProtocolError(
            f"more than {most} redirects, the last to {public_url(url)}",
            phase="request",
            hint="if the redirects form no loop, give the last URL",
        )

    async def _visit(self, url: str) -> str | None:
        """Receive the body at a URL and return None, or return the URL that it redirects to."""
        spec, stream, connections = self._job.spec, self._job.stream, self._job.connections
        hop, response = await self._ask(url)
        keep, target = False, None
        try:
            location = response.headers.get("Location")
            if response.status in _REDIRECTS and location is not None:
                target = self._redirected(url, location)
            else:
                check_status(spec, response, self._method)
                await self._body(hop, response)
                keep = spec.keep_connections and not stream.stopping
        finally:
            if keep:
                connections.keep(hop)
            else:
                await hop.close()
        if target is not None:
            detail = f"{response.status} to {public_url(target)}"
            self._phases.add("redirect", connections.name, hop.answered_ns, now_ns(), detail=detail)
        return target

    async def _ask(self, url: str) -> tuple[Hop, Response]:
        """Request a URL, on the kept connection if there is one, and return the connection and the
        head of the response."""
        hop = await self._job.connections.get(url, self._phases)
        try:
            return hop, await self._request(hop)
        except PeerClosedError:
            if not hop.reused:
                raise
        # a server may end a kept connection at any time: repeat the request on a new one
        hop = await self._job.connections.get(url, self._phases)
        return hop, await self._request(hop)

    async def _request(self, hop: Hop) -> Response:
        """Return the head of the response. Close the connection if there is none."""
        headers = request_headers(self._job.spec, hop.url)
        headers.update(range_header(self._job.spec))
        deadline_s = self._job.spec.deadlines.handshake_s
        try:
            return await hop.request(self._method, headers, deadline_s, self._phases)
        except BaseException:
            await hop.close()
            raise

    def _redirected(self, url: str, location: str) -> str:
        """Return the target of a redirect. Raises RemoteProtocolError if it is not an HTTP URL."""
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
        self._job.redirects += 1
        return target

    # ---- the body --------------------------------------------------------------------------------

    async def _body(self, hop: Hop, response: Response) -> None:
        """Receive the body, and record the delay of its first byte after the head."""
        first_byte = self._job.stream.first_byte
        came_with_head = response.content.total_bytes > 0
        if not came_with_head:
            first_byte.expect(hop.watched, hop.sent_ns)
        stream, name = self._job.stream, self._job.connections.name
        try:
            with self._phases.awaiting("first_body_byte", name, stream.has_begun):
                await self._receive(hop, response)
        finally:
            hop.unwatch()
            first_ns = first_byte.arrived_ns
            if not came_with_head and first_ns is not None and first_ns > hop.answered_ns:
                self._phases.add("first_body_byte", name, hop.answered_ns, first_ns)

    async def _receive(self, hop: Hop, response: Response) -> None:
        """Receive the body, by the native loop if its length is known and its bytes are plain."""
        stream = self._job.stream
        stream.note_transfer(described(response, self._job.redirects), response.tls)
        transport = hop.transport(response)
        wanted = response.content_length  # None remains None: the body may end before the limit
        if wanted is not None and self._limit is not None:
            wanted = min(wanted, self._limit)
        self._job.workload.begin_body(stream)
        before = stream.moved_bytes
        if wanted is not None and self._plain(response, transport):
            await self._receive_natively(hop, response, transport, wanted)
        else:
            await self._receive_through_library(response)
        got = stream.moved_bytes - before
        if not stream.stopping and wanted is not None and got < wanted:
            raise StreamError(
                f"{response.url} ended early: {got} of {wanted} bytes were received", phase="data"
            )
        if not stream.stopping:
            stream.completed(self._started_ns)

    def _plain(self, response: Response, transport: Any) -> bool:
        """Return whether the connection carries the file without TLS and chunks, and this file
        only."""
        clear = transport is None or transport.get_extra_info("ssl_object") is None
        chunked = "chunked" in response.headers.get("Transfer-Encoding", "").lower()
        return clear and not chunked and not self._job.spec.keep_connections

    async def _receive_natively(
        self, hop: Hop, response: Response, transport: Any, wanted: int
    ) -> None:
        stream = self._job.stream
        # no await from here to take_over(): the library would read bytes meanwhile
        leading = Leading(_taken(response.content), now_ns())
        open_still = transport is not None and not transport.is_closing()
        if leading.bytes >= wanted or not open_still or response.content.is_eof():
            stream.count(min(leading.bytes, wanted))
            return
        hop.unwatch()
        with handover.take_over(transport) as sock:
            loop = await stream.native.receive(sock, wanted, leading)
        if failure := stream.failure(loop):
            raise StreamError(failure, phase="data")

    async def _receive_through_library(self, response: Response) -> None:
        try:
            await library.receive(self._job.stream, response.content.readany, self._limit)
        except _BODY_ERRORS as exc:
            raise StreamError(f"{response.url} broke off: {words(exc)}", phase="data") from None


def _taken(content: aiohttp.StreamReader) -> int:
    """Take the bytes of a body that the library has already read, and return their number."""
    try:
        return len(content.read_nowait(-1))
    except _BODY_ERRORS:  # the body failed meanwhile
        return content.total_bytes
