"""Adapt classes of aiohttp: a connected socket, early bytes, interim responses, the TLS session."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from contextlib import contextmanager

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from aiohttp.client_proto import ResponseHandler
from aiohttp.connector import Connection
from aiohttp.http_exceptions import HttpProcessingError
from aiohttp.http_parser import RawResponseMessage

from netmeasure.engine.addresses import Address
from netmeasure.errors import RemoteProtocolError

#: The most interim responses before the final one, such as 100 Continue and 103 Early Hints.
MAX_INTERIM = 100


class Request(aiohttp.ClientRequest):
    """Report bytes that arrived before the request; the library would report a closed
    connection."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        told = None if conn.protocol is None else conn.protocol.exception()
        if isinstance(told, HttpProcessingError):
            raise aiohttp.ClientResponseError(self.request_info, (), message=told.message)
        return await super().send(conn)


class Response(aiohttp.ClientResponse):
    """Keep a response's TLS session after its connection has been closed."""

    tls: ssl.SSLObject | None = None

    async def start(self, connection: Connection) -> aiohttp.ClientResponse:
        if connection.transport is not None:
            self.tls = connection.transport.get_extra_info("ssl_object")
        protocol = connection.protocol
        if protocol is None:
            return await super().start(connection)
        with _few_interim(protocol):
            return await super().start(connection)


@contextmanager
def _few_interim(protocol: ResponseHandler) -> Iterator[None]:
    """Limit a server's interim responses to MAX_INTERIM; the library accepts any number."""
    read, count = protocol.read, 0

    async def bounded() -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        nonlocal count
        count += 1
        if count > MAX_INTERIM:
            raise RemoteProtocolError(
                f"the server sent {MAX_INTERIM} interim answers (1xx) and no final one",
                phase="request",
            )
        return await read()

    protocol.read = bounded  # type: ignore[method-assign]
    try:
        yield
    finally:
        del protocol.read  # a kept connection restarts its count


class Known(AbstractResolver):
    """Resolve every name to the address to which the socket is connected."""

    def __init__(self, address: Address) -> None:
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
        """Do nothing: there is nothing to close."""
