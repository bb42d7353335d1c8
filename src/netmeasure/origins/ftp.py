"""An embedded FTP server of synthetic files (RFC 959, 2389, 2428, 3659), passive mode only."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from netmeasure.origins.base import Origin
from netmeasure.origins.ftp_ports import PassivePorts
from netmeasure.origins.ftp_session import LINE_BYTES, FtpSession
from netmeasure.spec import Family, OriginLimits


class FtpOrigin(Origin):
    """RETR of any name in :mod:`netmeasure.origins.catalog`; STOR to any name: the data are counted
    and thrown away."""

    def __init__(
        self,
        host: str | None,
        port: int,
        *,
        family: Family,
        limits: OriginLimits | None,
        passive_ports: tuple[int, int] | None,
        passive_address: str | None,
        users: Mapping[str, str] | None,
    ) -> None:
        super().__init__(host, port, family=family, limits=limits)
        self._ports = PassivePorts(passive_ports)
        self._passive_address = passive_address
        self._users = users
        self._servers: list[asyncio.AbstractServer] = []

    async def _open(self) -> None:
        for listener in self._listeners:
            # asyncio closes what it is given, so it is given its own
            server = await asyncio.start_server(self._serve, sock=listener.dup(), limit=LINE_BYTES)
            self._servers.append(server)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        session = FtpSession(
            reader,
            writer,
            limits=self._limits,
            transfers=self._transfers,
            ports=self._ports,
            passive_address=self._passive_address,
            users=self._users,
        )
        crowded = len(self._tasks) >= self._limits.max_connections
        self._tasks.add(task)
        try:
            await session.run(crowded=crowded)
        except asyncio.CancelledError:
            pass  # by our close, and this task is at its end
        finally:
            self._tasks.discard(task)

    async def _close(self) -> None:
        for server in self._servers:
            server.close()
        self._servers.clear()

    async def _disconnect(self) -> None:
        await asyncio.sleep(0)  # transports close their sockets in the loop's next turn


def serve_ftp(
    host: str | None = None,
    port: int = 0,
    *,
    family: Family = "any",
    limits: OriginLimits | None = None,
    passive_ports: tuple[int, int] | None = None,
    passive_address: str | None = None,
    users: Mapping[str, str] | None = None,
) -> FtpOrigin:
    """An FTP server for `async with`: `origin.address`, `origin.port`. Port 0 takes a free one;
    host None is every address. Raises ServeError when it can't listen.

    passive_ports    lowest and highest port of data connections; None: any free one
    passive_address  the IPv4 address that the answer to PASV names, for clients on the far side of
                     an address translation; None: the control connection's own
    users            names to passwords; None: everybody may, with any password
    """
    return FtpOrigin(
        host,
        port,
        family=family,
        limits=limits,
        passive_ports=passive_ports,
        passive_address=passive_address,
        users=users,
    )
