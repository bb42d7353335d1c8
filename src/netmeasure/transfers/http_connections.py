"""Open the HTTP connections of one stream, or reuse the kept one."""

from __future__ import annotations

import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from netmeasure.engine.phases import PhaseLog
from netmeasure.spec import HttpSpec
from netmeasure.transfers.http_hop import PORTS, Hop
from netmeasure.transfers.reach import Reach
from netmeasure.transfers.stream import TransferStream
from netmeasure.transfers.workload import TransferWorkload


class HttpConnections:
    """Open the connections of one stream, and keep one of them for the next transfer.

    Attributes:
        name: The name of these connections in the phases of set-up.
    """

    def __init__(self, spec: HttpSpec, stream: TransferStream, tls: ssl.SSLContext | None) -> None:
        self._spec = spec
        self._stream = stream
        self._tls = tls
        self._reach = Reach(spec, stream.id - 1)
        self._kept: Hop | None = None
        self.name = self._reach.connection

    async def get(self, url: str, phases: PhaseLog) -> Hop:
        """Return a connection to the server of a URL: the kept one, or a new one. Raises
        MeasureError."""
        if self._kept is not None and self._kept.serves(url):
            kept, self._kept = self._kept, None
            kept.reused = True
            return kept
        await self.close()
        proxy = _proxy_for(url) if self._spec.proxy else None
        where = urlsplit(proxy or url)
        reached = await self._reach.connect(
            where.hostname or "", where.port or PORTS.get(where.scheme, 80), phases
        )
        made = reached.made
        self._stream.note_socket(made.sock, made.syn_retransmits, made.address)
        return Hop(url, proxy, reached, self.name, self._tls)

    def keep(self, hop: Hop) -> None:
        """Keep a connection for the next transfer."""
        self._kept = hop

    async def close(self) -> None:
        """Close the kept connection, if there is one."""
        if self._kept is not None:
            await self._kept.close()
            self._kept = None


@dataclass
class HttpJob:
    """Hold the shared state of all transfers of one stream; `redirects` counts the redirects of all
    of them."""

    spec: HttpSpec
    stream: TransferStream
    workload: TransferWorkload
    connections: HttpConnections
    redirects: int = 0


def _proxy_for(url: str) -> str | None:
    """Return the proxy for a URL in the environment."""
    parts = urlsplit(url)
    if proxy_bypass(parts.netloc):
        return None
    return getproxies().get(parts.scheme)
