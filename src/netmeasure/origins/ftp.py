"""Serve synthetic files by FTP (RFC 959, 2389, 2428, 3659), passive mode only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address

from netmeasure.errors import SpecError
from netmeasure.origins.base import Origin
from netmeasure.origins.ftp_ports import PassivePorts
from netmeasure.origins.ftp_session import LINE_BYTES, FtpSession
from netmeasure.spec import Family, OriginLimits


class FtpOrigin(Origin):
    """Serve RETR of any name in :mod:`netmeasure.origins.catalog`, and STOR to any name: the data
    are counted and discarded."""

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
        if passive_address is not None:
            try:
                IPv4Address(passive_address)
            except ValueError:
                raise SpecError(
                    f"the passive address is {passive_address!r}: PASV takes IPv4 addresses only"
                ) from None
        self._ports = PassivePorts(passive_ports)
        self._passive_address = passive_address
        self._users = users
        self._sessions = 0

    def _open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def _admit(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        session = FtpSession(
            reader,
            writer,
            limits=self._limits,
            transfers=self._transfers,
            ports=self._ports,
            passive_address=self._passive_address,
            users=self._users,
        )
        self._sessions += 1
        try:
            await session.run(crowded=self._sessions > self._limits.max_connections)
        finally:
            self._sessions -= 1

    async def _disconnect(self) -> None:
        """Do nothing: the sessions, which are tasks, have closed their connections."""


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
    """Return an FTP server for `async with`: `origin.address`, `origin.port`. Port 0 takes a free
    one; host None is every address. Raises ServeError when it can't listen.

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
