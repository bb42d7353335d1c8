"""Upload one file by HTTP."""

from __future__ import annotations

import asyncio

from netmeasure.clock import now_ns
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.tasks import cancel_and_wait
from netmeasure.errors import PeerTimeoutError
from netmeasure.measurement.run import LAST_REPLY
from netmeasure.transfers.aiohttp_classes import Response
from netmeasure.transfers.http_body import Body
from netmeasure.transfers.http_connections import HttpJob
from netmeasure.transfers.http_hop import Hop
from netmeasure.transfers.http_request import check_status, described, request_headers


class Upload:
    """Upload one file of `limit` random bytes, or one that ends with the run."""

    def __init__(self, job: HttpJob, phases: PhaseLog, limit: int | None) -> None:
        self._job = job
        self._phases = phases
        self._limit = limit
        self._started_ns = now_ns()
        self._method = job.spec.method or "PUT"

    async def run(self) -> None:
        """Send the file, and wait for the server's response. Raises MeasureError."""
        hop = await self._job.connections.get(self._job.spec.url, self._phases)
        try:
            body = Body(self._job.stream, self._job.workload, self._limit)
            asking = asyncio.create_task(self._request(hop, body))
            try:
                await self._send(hop, body, asking)
            finally:
                await body.end()
                await cancel_and_wait(asking)
        finally:
            await hop.close()

    async def _request(self, hop: Hop, body: Body) -> Response:
        headers = request_headers(self._job.spec, hop.url)
        # otherwise the library declares the body as chunked, and ends it
        if self._limit is not None:
            headers["Content-Length"] = str(self._limit)
        deadline_s, begun = self._job.spec.deadlines.handshake_s, self._job.stream.has_begun
        return await hop.request(self._method, headers, deadline_s, self._phases, body, begun)

    async def _send(self, hop: Hop, body: Body, asking: asyncio.Task[Response]) -> None:
        """Wait for the end of the body, then for the response."""
        stream = self._job.stream
        await asyncio.wait(
            [asking, asyncio.ensure_future(body.over.wait())], return_when=asyncio.FIRST_COMPLETED
        )
        if stream.stopping and self._limit is not None and not body.complete:
            return  # the end of the run cut the body, so the response would be an error
        if body.over.is_set():
            stream.end_body()
        name, flowing = self._job.connections.name, self._job.workload.flowing
        with self._phases.awaiting(LAST_REPLY, name, flowing):
            response, answered_ns = await self._answer(body, asking)
        self._log_first_byte(hop)
        sent_ns = min(stream.loop.last_ns or answered_ns, answered_ns)
        self._phases.add("final_reply", name, sent_ns, answered_ns)
        stream.note_transfer(described(response, self._job.redirects), response.tls)
        check_status(self._job.spec, response, self._method)
        stream.completed(self._started_ns)

    async def _answer(self, body: Body, asking: asyncio.Task[Response]) -> tuple[Response, int]:
        """Return the head of the response, and when it was noticed."""
        deadline_s = self._job.spec.deadlines.handshake_s
        try:
            async with asyncio.timeout(deadline_s):
                response = await asking
                answered_ns = now_ns()
                if response.status < 300:
                    await body.over.wait()  # the last acknowledgements
        except PeerTimeoutError:  # of TLS
            raise
        except TimeoutError:
            raise PeerTimeoutError(
                f"no answer to the upload in {deadline_s:g} s", phase="results"
            ) from None
        return response, answered_ns

    def _log_first_byte(self, hop: Hop) -> None:
        """Record how long the first byte of the body was in flight."""
        first_ns = self._job.stream.first_byte.counted_ns
        if first_ns is not None:
            by_library = hop.url.startswith("https:")
            self._phases.add(
                "first_byte",
                self._job.connections.name,
                hop.sent_ns,
                max(hop.sent_ns, first_ns),
                detail="sent" if by_library else "acknowledged",
            )
