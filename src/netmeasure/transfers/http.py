"""Transfer files by HTTP/1.1: aiohttp handles the protocol, while netmeasure opens the connections
and native loops transfer the bodies.

Each step has its own clock: resolve, connect (with its SYNs), TLS, request, first byte of the
answer.
"""

from __future__ import annotations

import ssl

from netmeasure.engine.phases import PhaseLog
from netmeasure.spec import HttpSpec
from netmeasure.transfers.http_connections import HttpConnections, HttpJob
from netmeasure.transfers.http_download import Download
from netmeasure.transfers.http_upload import Upload
from netmeasure.transfers.stream import TransferStream
from netmeasure.transfers.workload import TransferWorkload


class HttpClient:
    """Make the HTTP transfers of one stream, one after the other."""

    def __init__(
        self,
        spec: HttpSpec,
        stream: TransferStream,
        workload: TransferWorkload,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._job = HttpJob(spec, stream, workload, HttpConnections(spec, stream, tls))

    async def transfer(self, phases: PhaseLog, limit: int | None) -> int:
        """Make one transfer of at most `limit` body bytes, record its steps in `phases`, and return
        the number of body bytes. Raises MeasureError."""
        stream = self._job.stream
        before = stream.moved_bytes
        stream.first_byte.begin_transfer()
        kind = Upload if self._job.spec.direction == "upload" else Download
        await kind(self._job, phases, limit).run()
        return stream.moved_bytes - before

    async def close(self) -> None:
        """Close the kept connection, if there is one."""
        await self._job.connections.close()
