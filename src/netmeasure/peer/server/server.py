"""A measurement server: many tests at the same time on one port, netmeasure or iperf3 clients."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Literal
from weakref import WeakValueDictionary

from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.engine.acceptor import Acceptor
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hello import UdpDoor, Welcome
from netmeasure.engine.listeners import Listening, listen, listen_hint
from netmeasure.engine.resources import IdleWatch
from netmeasure.engine.sockets import address_text, receive_exactly
from netmeasure.engine.sockopts import set_keepalive, watch_peer
from netmeasure.engine.tasks import cancel_and_wait, uninterrupted
from netmeasure.errors import MeasureError, ServeError
from netmeasure.observe import Observer
from netmeasure.peer.server.accept import Arrival
from netmeasure.peer.server.session import Session
from netmeasure.protocol import (
    COOKIE_BYTES,
    GREETING,
    PROBE,
    STREAM_TAG_BYTES,
    Hello,
    Kind,
    Side,
)
from netmeasure.protocol.auth import Gatekeeper
from netmeasure.result import Result
from netmeasure.spec import DEFAULT_PORT, Family, ServerLimits, Timing, check_device

#: Connections that have not said yet what they are; more than that wait in the kernel's backlog.
MAX_STRANGERS = 512
PORT_TRIES = 20
#: How long a turned-away connection is kept, so that the reason arrives before the close.
LINGER_S = 1.0
#: How long a test that has told everything may keep the next client waiting.
FAREWELL_S = 0.5


class Server(Listening):
    """Use as an async context manager; :func:`serve` makes one.

    on_result    called in the event loop with the Result of every test that was asked for,
                 complete or not
    on_refusal   called with a sentence for every connection that was turned away or made no sense
                 (a bare TCP probe is neither)
    observe      makes an Observer for each client; it sees this end's intervals every `interval_s`
    gatekeeper   asks every client who it is (iperf3's authentication)
    one_off      for one client only, whatever comes of its test; who is refused by the gatekeeper
                 does not count. Then `over` returns
    idle_s       `over` returns when there was no client for so long
    device       the network interface that is listened on (SO_BINDTODEVICE, socket(7))
    """

    def __init__(
        self,
        host: str | None = None,
        port: int = DEFAULT_PORT,
        *,
        family: Family = "any",
        limits: ServerLimits | None = None,
        on_result: Callable[[Result], None] | None = None,
        on_refusal: Callable[[str], None] | None = None,
        observe: Callable[[], Observer] | None = None,
        interval_s: float = 1.0,
        gatekeeper: Gatekeeper | None = None,
        one_off: bool = False,
        idle_s: float | None = None,
        device: str | None = None,
    ) -> None:
        self._host = host
        self._port = port
        self._family = family
        self._limits = limits or ServerLimits()
        self._on_result = on_result
        self._on_refusal = on_refusal
        self._observe = observe
        self._interval_s = Timing(interval_s=interval_s).interval_s  # checked
        self._gatekeeper = gatekeeper
        self._one_off = one_off
        self._idle_s = idle_s
        self._device = device
        check_device(device)
        self._idle_since_ns = now_ns()
        self._served = asyncio.Event()
        self._listeners = []
        self._acceptor: Acceptor | None = None
        self._door: UdpDoor | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions: dict[str, Session] = {}
        self._plain_udp_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        self._strangers = 0
        self._accepted = 0
        self._idle = IdleWatch()

    @property
    def active_tests(self) -> int:
        return len(self._sessions)

    async def over(self) -> Literal["served", "idle"]:
        """Return when a one-off server has served its client, or nobody came for `idle_s`; for
        ever otherwise."""
        while not self._served.is_set():
            wait_s = None
            if self._idle_s is not None:
                since_ns = now_ns() if self._sessions else self._idle_since_ns
                wait_s = self._idle_s - seconds(now_ns() - since_ns)
                if wait_s <= 0:
                    return "idle"
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._served.wait()
        return "served"

    # ---- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Server:
        await self._open()
        self._acceptor = Acceptor(
            self._listeners, self._accept, lambda: self._strangers < MAX_STRANGERS
        )
        self._acceptor.on()
        self._tasks.add(asyncio.create_task(self._idle.keep(), name="netmeasure-idle"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await uninterrupted(self.close())

    async def close(self) -> None:
        """Stop listening, tell every client, join every thread."""
        if self._acceptor is not None:
            self._acceptor.close()
        await cancel_and_wait(*self._tasks)
        self._close_listeners()

    async def _open(self) -> None:
        """TCP and UDP on the same port. A free port of TCP's (port 0) may be taken in UDP: then
        another one is tried."""
        for last in (*(False,) * (PORT_TRIES - 1), True):
            self._listeners = await listen(
                self._host,
                self._port,
                self._family,
                device=self._device,
                multipath=self._limits.multipath,
            )
            try:
                self._door = UdpDoor(self._listeners, self._welcome)
                return
            except OSError as exc:
                where = address_text((self._host or "*", self.port))
                self._close_listeners()
                if self._port == 0 and exc.errno == errno.EADDRINUSE and not last:
                    continue
                reason = os.strerror(exc.errno or 0)
                raise ServeError(
                    f"can't listen on {where}/udp: {reason}", hint=listen_hint(exc), reason=reason
                ) from None

    def _close_listeners(self) -> None:
        if self._door is not None:
            self._door.close()
            self._door = None
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()

    # ---- connections ----------------------------------------------------------------------------

    def _accept(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        self._strangers += 1
        self._accepted += 1
        task = asyncio.create_task(self._greet(sock, address_text(peer), self._accepted))
        self._tasks.add(task)
        task.add_done_callback(partial(self._greeted, sock))

    def _greeted(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # perhaps before its first step: then nobody else has the socket
            sock.close()

    def _identified(self) -> None:
        """One stranger less: there is room for another."""
        self._strangers -= 1
        if self._acceptor is not None:
            self._acceptor.on()

    async def _greet(self, sock: socket.socket, peer: str, order: int) -> None:
        """Find out what a connection is: the data of a known test, a new client, or nothing."""
        known = True
        try:
            try:
                async with asyncio.timeout(self._limits.cookie_s):
                    hello = await receive_exactly(sock, COOKIE_BYTES)
                    session = self._sessions.get(hello[:-1].decode("ascii", "replace"))
                    if session is not None and await self._data(session, sock, order):
                        return
            except TimeoutError:
                known = False
                self._refuse(f"{peer} did not say what it wants in {self._limits.cookie_s:g} s")
            except OSError:
                known = False  # reset before it said anything: as good as a probe
            finally:
                self._identified()
            if not known or not hello:
                sock.close()
            elif hello == PROBE:
                await _answer_probe(sock)
            elif session is not None:
                self._refuse(f"{peer} opened a data connection that its test does not expect")
                await _turn_away(sock)
            else:
                await self._serve(sock, peer, hello)
        except BaseException:
            sock.close()
            raise

    async def _data(self, session: Session, sock: socket.socket, order: int) -> bool:
        number = None
        if session.tags_streams:
            number = int.from_bytes(await receive_exactly(sock, STREAM_TAG_BYTES), "big")
        return session.arrivals.offer(Arrival(sock, order, number))

    def _welcome(self, hello: Hello, peer: tuple[str, int]) -> Welcome | None:
        """Which test a UDP hello belongs to: one whose control connection comes from the same
        address, and, where the hello holds a cookie, that very one."""
        if hello.cookie is not None:
            named = self._sessions.get(hello.cookie)
            candidates = [named] if named is not None else []
        else:
            candidates = [s for s in self._sessions.values() if not s.tags_streams]
        for session in candidates:
            arrivals = session.arrivals
            if session.is_udp and session.client_host == peer[0] and arrivals.missing:
                if arrivals.knows(peer):
                    return None  # a copy of a hello that was answered a moment ago
                self._accepted += 1
                take = partial(_offer, session, self._accepted, hello.number)
                return Welcome(session.local_host, take)
        return None

    async def _serve(self, sock: socket.socket, peer: str, hello: bytes) -> None:
        control = ControlChannel(sock, Side.SERVER, hello)
        try:
            message = await control.receive(deadline_s=self._limits.cookie_s)
        except MeasureError as exc:
            self._refuse(f"{peer}: {exc}")
            await control.close()
            return
        except BaseException:
            await control.close()
            raise
        cookie: str = message.payload
        refusal = None
        if not await self._has_room():
            refusal = f"{len(self._sessions)} tests are running"
        elif cookie in self._sessions:  # since it was taken for a new client
            refusal = "another client has the same cookie"
        if refusal is not None:
            self._refuse(f"{peer} was turned away: {refusal}")
            with suppress(MeasureError):
                await control.send(Kind.ACCESS_DENIED, deadline_s=LINGER_S)
            await control.close()
            return
        with suppress(OSError):  # reset meanwhile, as the session's first step will find
            watch_peer(sock, self._limits.vanished_s)
            if self._limits.keepalive is not None:
                set_keepalive(sock, self._limits.keepalive)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        turn = self._plain_udp_turns.setdefault(control.peer_host, asyncio.Lock())
        baseline = None if self._sessions else self._idle.baseline()
        session = Session(
            control,
            peer,
            self._limits,
            lambda: len(self._sessions),
            turn,
            cookie,
            self._observe() if self._observe is not None else None,
            self._interval_s,
            baseline,
            self._gatekeeper,
        )
        self._sessions[cookie] = session
        try:
            await session.run()
        finally:
            del self._sessions[cookie]
            if not self._sessions:
                self._idle.forget()
            self._idle_since_ns = now_ns()
            if self._one_off and not session.unauthorized:
                self._served.set()
            if session.result is None:
                if session.refusal is not None:
                    self._refuse(f"{peer}: {session.refusal}")
            elif self._on_result is not None:
                self._on_result(session.result)

    async def _has_room(self) -> bool:
        """For one more test: now, or as soon as one that has only to say goodbye is gone. Its
        client may have ended before we hear of it, and another one may have been started since."""
        give_up = now_ns() + nanoseconds(FAREWELL_S)
        while len(self._sessions) >= self._limits.max_tests and not self._served.is_set():
            leaving = any(session.is_leaving for session in self._sessions.values())
            if not leaving or now_ns() > give_up:
                return False
            await asyncio.sleep(0.005)
        return not self._served.is_set()

    def _refuse(self, sentence: str) -> None:
        if self._on_refusal is not None:
            self._on_refusal(sentence)


async def _answer_probe(sock: socket.socket) -> None:
    """As a client would be answered, also while there is no room for one; then it is over."""
    with suppress(OSError):
        await asyncio.get_running_loop().sock_sendall(sock, GREETING)
    sock.close()


def _offer(session: Session, order: int, number: int | None, sock: socket.socket) -> None:
    if not session.arrivals.offer(Arrival(sock, order, number)):
        sock.close()


async def _turn_away(sock: socket.socket) -> None:
    """Say ACCESS_DENIED and let it arrive: a close with unread bytes would be a reset."""
    loop = asyncio.get_running_loop()
    with suppress(OSError):
        async with asyncio.timeout(LINGER_S):
            await loop.sock_sendall(sock, b"\xff")
            sock.shutdown(socket.SHUT_WR)
            while await loop.sock_recv(sock, 65536):
                pass
    sock.close()


def serve(
    host: str | None = None,
    port: int = DEFAULT_PORT,
    *,
    family: Family = "any",
    limits: ServerLimits | None = None,
    on_result: Callable[[Result], None] | None = None,
    on_refusal: Callable[[str], None] | None = None,
    observe: Callable[[], Observer] | None = None,
    interval_s: float = 1.0,
    gatekeeper: Gatekeeper | None = None,
    one_off: bool = False,
    idle_s: float | None = None,
    device: str | None = None,
) -> Server:
    """A server for `async with`. Port 0 takes a free one (`server.port`); host None is every
    address. Raises ServeError when it can't listen."""
    return Server(
        host,
        port,
        family=family,
        limits=limits,
        on_result=on_result,
        on_refusal=on_refusal,
        observe=observe,
        interval_s=interval_s,
        gatekeeper=gatekeeper,
        one_off=one_off,
        idle_s=idle_s,
        device=device,
    )
