"""Serve synthetic files by FTP (RFC 959, 2389, 2428, 3659), passive mode only."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from ipaddress import IPv4Address
from typing import NamedTuple

from netmeasure.errors import SpecError
from netmeasure.origins.base import Origin
from netmeasure.origins.ftp_ports import PassivePorts
from netmeasure.origins.ftp_session import LINE_BYTES, FtpSession, Shared
from netmeasure.spec import Family, OriginLimits


class FtpOptions(NamedTuple):
    """Hold the options of an FTP server, see :func:`serve_ftp`."""

    passive_ports: tuple[int, int] | None
    passive_address: str | None
    users: Mapping[str, str] | None


class FtpOrigin(Origin):
    """Serve RETR of any name in :mod:`netmeasure.origins.catalog`, and STOR to any name. Uploaded
    data are counted and discarded."""

    def __init__(
        self,
        host: str | None,
        port: int,
        *,
        family: Family,
        limits: OriginLimits | None,
        options: FtpOptions,
    ) -> None:
        super().__init__(host, port, family=family, limits=limits)
        self._shared = Shared(
            self._limits,
            self._transfers,
            PassivePorts(options.passive_ports),
            _ipv4(options.passive_address),
            options.users,
        )
        self._sessions = 0

    def _open(self) -> None:
        """Do nothing: there is nothing to open."""

    async def _admit(self, sock: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=LINE_BYTES)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, sock)
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        session = FtpSession(reader, writer, self._shared)
        self._sessions += 1
        try:
            await session.run(crowded=self._sessions > self._limits.max_connections)
        finally:
            self._sessions -= 1

    async def _disconnect(self) -> None:
        """Do nothing: each session closed its connection when its task was cancelled."""


def _ipv4(address: str | None) -> str | None:
    """Return the passive address. Raises SpecError if it is no IPv4 address."""
    if address is not None:
        try:
            IPv4Address(address)
        except ValueError:
            raise SpecError(
                f"the passive address is {address!r}: PASV takes IPv4 addresses only"
            ) from None
    return address


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
    """Return an FTP server for `async with`; its address is in `origin.address` and `origin.port`.

    The server raises ServeError when it can't listen.

    host             the address to listen on; None: all addresses
    port             the port to listen on; 0: a free one
    passive_ports    lowest and highest port of data connections; None: any free one
    passive_address  the IPv4 address in the reply to PASV, for clients behind an address
                     translation; None: the address of the control connection
    users            the password of each user; None: every name and password is accepted
    """
    options = FtpOptions(passive_ports, passive_address, users)
    return FtpOrigin(host, port, family=family, limits=limits, options=options)
