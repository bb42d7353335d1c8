"""Receive connections, identify each of them, and limit those that are not identified yet."""

from __future__ import annotations

import asyncio
import os
import socket
import ssl
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, NamedTuple

from netmeasure.engine.addresses import address_text
from netmeasure.engine.sockets import receive_exactly
from netmeasure.engine.sockopts import set_no_delay
from netmeasure.engine.tls import Identity, TlsStream, begins_tls, tls_trouble
from netmeasure.peer.server.accept import Arrival
from netmeasure.peer.server.connections import Connections
from netmeasure.peer.server.farewell import CROWDED
from netmeasure.peer.server.session import Session
from netmeasure.peer.server.sessions import Sessions
from netmeasure.peer.server.shares import Crowd, network_of
from netmeasure.peer.server.statistics import Refusals
from netmeasure.protocol import (
    COOKIE_BYTES,
    GREETING,
    PROBE_NUMBER,
    STREAM_TAG_BYTES,
    probe_answer_bytes,
    test_name,
)
from netmeasure.spec import ServerLimits

#: How long a refused connection is kept open, so that the reason arrives before the close.
LINGER_S = 1.0


class Caller(NamedTuple):
    """Hold a new client's control connection: its cookie belongs to no test."""

    sock: socket.socket
    peer: str
    network: str
    hello: bytes
    tls: TlsStream | None


class Waiting:
    """Keep the tasks of connections whose next step is due. If there are too many, the oldest one
    of the network with the most connections is closed."""

    def __init__(self, most: int, refuse: Refusals) -> None:
        self._crowd: Crowd[asyncio.Task[None]] = Crowd(most)
        self._refuse = refuse

    def __len__(self) -> int:
        return len(self._crowd)

    def add(self, network: str, task: asyncio.Task[None]) -> None:
        """Add a connection, and close the one that it displaces, if any."""
        gone = self._crowd.add(network, task)
        if gone is not None:
            gone.cancel(CROWDED)
            self._refuse("too many connections without a test: the oldest ones are closed", "crowd")

    def remove(self, network: str, task: asyncio.Task[None]) -> None:
        """Stop counting a connection; a second call has no effect."""
        self._crowd.remove(network, task)


class Reception:
    """Pass each data stream to its test and each new client to `serve`; answer probes, and close
    other connections."""

    def __init__(
        self,
        limits: ServerLimits,
        sessions: Sessions,
        connections: Connections,
        strangers: Waiting,
        identity: Identity | None,
        refuse: Refusals,
        serve: Callable[[Caller], Coroutine[Any, Any, None]],
    ) -> None:
        self._limits = limits
        self._sessions = sessions
        self._connections = connections
        self._strangers = strangers
        self._identity = identity
        self._refuse = refuse
        self._serve = serve
        self._accept_errno: int | None = None

    def accept(self, sock: socket.socket, address: tuple[str, int]) -> None:
        """Receive a new connection, unless its network is not served."""
        if not self._limits.serves(address[0]):
            sock.close()
            peer = address_text(address)
            self._refuse(f"{peer}: clients of this network are not served", "network", peer)
            return
        order = self._sessions.next_order()
        task = self._connections.start(sock, self._receive(sock, address, order))
        self._strangers.add(network_of(address[0]), task)

    def trouble(self, error: OSError) -> None:
        """Report once why clients have to wait, and again when the reason changes."""
        if error.errno != self._accept_errno:
            self._accept_errno = error.errno
            reason = os.strerror(error.errno or 0)
            self._refuse(f"clients have to wait, as none can be accepted: {reason}", "host_limit")

    async def _receive(self, sock: socket.socket, address: tuple[str, int], order: int) -> None:
        """Identify a connection: a data stream, a new client, a probe, or none of these."""
        known, peer, network = True, address_text(address), network_of(address[0])
        session: Session | None = None
        tls: TlsStream | None = None
        me = asyncio.current_task()
        assert me is not None
        try:
            try:
                async with asyncio.timeout(self._limits.cookie_s):
                    hello, tls = await self._first_words(sock)
                    if tls is None:  # data connections are never encrypted
                        cookie = hello[:-1].decode("ascii", "replace")
                        session = self._sessions.with_cookie(cookie)
                    if session is not None and await self._data(session, sock, order):
                        return
            except TimeoutError:
                known = False
                self._refuse(
                    f"{peer} did not identify itself in {self._limits.cookie_s:g} s", peer=peer
                )
            except ssl.SSLError as exc:
                known = False
                self._refuse(f"{peer}: {tls_trouble(exc)}", "tls", peer)
            except OSError:
                known = False  # reset before it sent anything, like a port probe
            if not known or not hello:
                sock.close()
            elif self._identity is None and begins_tls(hello):
                self._refuse(
                    f"{peer} asks for TLS, and this server has no certificate", "tls", peer
                )
                sock.close()
            elif tls is None and (answer_bytes := probe_answer_bytes(hello)) is not None:
                await _answer_probe(sock, answer_bytes)
            elif session is not None:
                if not session.has_ended:
                    self._refuse(
                        f"{peer} opened a data connection that its test does not expect",
                        peer=peer,
                        test=test_name(hello[:-1].decode("ascii", "replace")),
                    )
                await _turn_away(sock)
            else:
                self._strangers.remove(network, me)
                await self._serve(Caller(sock, peer, network, hello, tls))
        except BaseException:
            sock.close()
            raise
        finally:
            self._strangers.remove(network, me)  # those that were only answered, too

    async def _first_words(self, sock: socket.socket) -> tuple[bytes, TlsStream | None]:
        """Return the bytes of a cookie, and the TLS session in which they arrived, if there is
        one."""
        hello = await receive_exactly(sock, COOKIE_BYTES)
        if self._identity is None or not begins_tls(hello):
            return hello, None
        tls = self._identity.stream(sock, hello)
        await tls.shake_hands()
        return await tls.receive_exactly(COOKIE_BYTES), tls

    async def _data(self, session: Session, sock: socket.socket, order: int) -> bool:
        number = None
        if session.tags_streams:
            number = int.from_bytes(await receive_exactly(sock, STREAM_TAG_BYTES), "big")
            if number == PROBE_NUMBER and session.awaits_probe(sock.type):
                session.take_probe(sock)
                return True
        return session.arrivals.offer(Arrival(sock, order, number))


async def _answer_probe(sock: socket.socket, answer_bytes: int) -> None:
    """Answer a probe in the same way as a client, even while the server is full.

    A path probe requests an answer that fills a packet (`engine.path_probe`). Data that do not get
    through are abandoned after LINGER_S.
    """
    loop = asyncio.get_running_loop()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            set_no_delay(sock, asked=False)
            await loop.sock_sendall(sock, GREETING.ljust(answer_bytes, b"\0"))
            if answer_bytes > 1:
                await loop.sock_recv(sock, 1)  # closing now would drop unacknowledged data
    sock.close()


async def _turn_away(sock: socket.socket) -> None:
    """Send ACCESS_DENIED and let it arrive: a close with unread bytes would cause a reset."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        async with asyncio.timeout(LINGER_S):
            await loop.sock_sendall(sock, b"\xff")
            sock.shutdown(socket.SHUT_WR)
            # sock_recv returns at once while there are data
            while await loop.sock_recv(sock, 65536):  # noqa: ASYNC110
                await asyncio.sleep(0)
    sock.close()
