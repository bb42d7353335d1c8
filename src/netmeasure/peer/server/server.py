"""Serve many tests at the same time on one port, for netmeasure and iperf3 clients."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
from contextlib import suppress
from functools import partial
from typing import Literal
from weakref import WeakValueDictionary

from netmeasure.clock import now_ns, seconds
from netmeasure.engine import memory
from netmeasure.engine.acceptor import Acceptor
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hello import HelloListener
from netmeasure.engine.listeners import Listening, listen, listen_hint
from netmeasure.engine.resources import IdleMonitor
from netmeasure.engine.sockets import address_text, receive_exactly
from netmeasure.engine.sockopts import set_keepalive, set_no_delay, watch_peer
from netmeasure.engine.tasks import cancel_and_wait, drop_frames, uninterrupted
from netmeasure.engine.threads import in_thread
from netmeasure.engine.tls import Identity, TlsStream, begins_tls, tls_trouble
from netmeasure.errors import MeasureError, ServeError, SocketOptionError
from netmeasure.peer.server.accept import Arrival
from netmeasure.peer.server.options import ServerOptions, called_with
from netmeasure.peer.server.places import Places
from netmeasure.peer.server.session import CROWDED, NewClient, Session, Surroundings
from netmeasure.peer.server.sessions import Sessions
from netmeasure.peer.server.shares import Crowd, LoginBrake, Memory, network_of
from netmeasure.peer.server.statistics import ServerEvent, ServerStatistics
from netmeasure.protocol import (
    COOKIE_BYTES,
    GREETING,
    PROBE_NUMBER,
    STREAM_TAG_BYTES,
    Kind,
    Side,
    can_wait,
    probe_answer_bytes,
    test_name,
)
from netmeasure.spec import ServerLimits
from netmeasure.workloads.tcp import check_file_kind

#: Connections that have not said yet what they are, and clients that have not said yet what they
#: want. Of more, the oldest one of the network that has the most is closed. A server for more
#: tests has room for the clients of all of them at once.
MAX_STRANGERS, MAX_HANDSHAKES = 512, 256
#: Memory for large messages of clients that are on their way or in use, in all and per network.
MESSAGES_BYTES, MESSAGES_BYTES_EACH = 16 * 2**20, 4 * 2**20
PORT_TRIES = 20
#: Tasks of the server's own, which are no connections.
OWN_TASKS = 1
#: After so many connections at once, memory is returned as soon as there have been none for a
#: moment.
CROWD, CALM_S = 8, 1.0
#: How long a turned-away connection is kept, so that the reason arrives before the close.
LINGER_S = 1.0


class Server(Listening):
    """Serve tests while used as an async context manager. :func:`serve` makes one."""

    def __init__(self, options: ServerOptions) -> None:
        self._options = options
        self._limits = options.limits or ServerLimits()
        self._idle_since_ns = now_ns()
        self._served = asyncio.Event()
        self._listeners = []
        self._acceptor: Acceptor | None = None
        self._hellos: HelloListener | None = None
        self._identity: Identity | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._sessions = Sessions()
        self._plain_udp_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        tests = self._limits.max_tests
        self._strangers: Crowd[asyncio.Task[None]] = Crowd(max(MAX_STRANGERS, 2 * tests))
        self._handshakes: Crowd[asyncio.Task[None]] = Crowd(max(MAX_HANDSHAKES, tests))
        self._places = Places(self._limits)
        self._memory = Memory(MESSAGES_BYTES, MESSAGES_BYTES_EACH)
        self._brake = LoginBrake()
        self._accept_errno: int | None = None
        self._counts = ServerStatistics()
        self._idle = IdleMonitor()
        self._most_tasks = 0
        self._calm: asyncio.TimerHandle | None = None

    @property
    def active_tests(self) -> int:
        """Return the number of tests that are running."""
        return self._places.running

    @property
    def statistics(self) -> ServerStatistics:
        """Return what the server has done since its start."""
        counts = self._counts
        counts.active, counts.waiting = self._places.running, self._places.waiting
        counts.strangers = len(self._strangers)
        counts.started = counts.finished + counts.failed.total() + counts.active
        return counts

    async def over(self) -> Literal["served", "idle"]:
        """Return when a one-off server has served its client, or there was no client for `idle_s`.
        Wait for ever if neither option was given."""
        idle_s = self._options.idle_s
        while not self._served.is_set():
            wait_s = None
            if idle_s is not None:
                since_ns = now_ns() if self._sessions else self._idle_since_ns
                wait_s = idle_s - seconds(now_ns() - since_ns)
                if wait_s <= 0:
                    return "idle"
            with suppress(TimeoutError):
                async with asyncio.timeout(wait_s):
                    await self._served.wait()
        return "served"

    # ---- life -----------------------------------------------------------------------------------

    async def __aenter__(self) -> Server:
        tls = self._options.tls
        if tls is not None:
            self._identity = Identity(tls.certificate, tls.key, partial(self._refuse, reason="tls"))
        await self._open()
        self._acceptor = Acceptor(self._listeners, self._accept, trouble=self._cant_accept)
        self._acceptor.on()
        self._tasks.add(asyncio.create_task(self._idle.keep(), name="netmeasure-idle"))
        return self

    async def __aexit__(self, *_: object) -> None:
        await uninterrupted(self.close())

    async def close(self) -> None:
        """Stop listening, tell every client, join every thread."""
        if self._acceptor is not None:
            self._acceptor.close()
        if self._calm is not None:
            self._calm.cancel()
        await cancel_and_wait(*self._tasks)
        self._close_listeners()

    async def _open(self) -> None:
        """Listen for TCP and UDP on the same port. With port 0, the free port of TCP may be taken
        in UDP: then another one is tried."""
        options = self._options
        if self._limits.file is not None:
            check_file_kind(self._limits.file)
        for last in (*(False,) * (PORT_TRIES - 1), True):
            self._listeners = await listen(
                options.host,
                options.port,
                options.family,
                device=options.device,
                multipath=self._limits.multipath,
            )
            try:
                self._hellos = HelloListener(self._listeners, self._sessions.expected)
                return
            except OSError as exc:
                where = address_text((options.host or "*", self.port))
                self._close_listeners()
                if options.port == 0 and exc.errno == errno.EADDRINUSE and not last:
                    continue
                reason = os.strerror(exc.errno or 0)
                raise ServeError(
                    f"can't listen on {where}/udp: {reason}", hint=listen_hint(exc), reason=reason
                ) from None

    def _close_listeners(self) -> None:
        if self._hellos is not None:
            self._hellos.close()
            self._hellos = None
        for sock in self._listeners:
            sock.close()
        self._listeners.clear()

    # ---- connections ----------------------------------------------------------------------------

    def _accept(self, sock: socket.socket, peer: tuple[str, int]) -> None:
        if not self._limits.serves(peer[0]):
            sock.close()
            self._refuse(
                f"{address_text(peer)}: clients of this network are not served",
                "network",
                address_text(peer),
            )
            return
        order, network = self._sessions.next_order(), network_of(peer[0])
        task = asyncio.create_task(self._greet(sock, peer, order))
        self._tasks.add(task)
        self._most_tasks = max(self._most_tasks, len(self._tasks))
        self._make_room(self._strangers, network, task)
        task.add_done_callback(partial(self._greeted, sock))

    def _greeted(self, sock: socket.socket, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if task.cancelled():  # perhaps before its first step: then it has not closed the socket
            sock.close()
        if self._most_tasks > CROWD and len(self._tasks) <= OWN_TASKS:
            if self._calm is not None:
                self._calm.cancel()
            self._calm = asyncio.get_running_loop().call_later(CALM_S, self._return_memory)

    def _return_memory(self) -> None:
        """Return what a crowd has used, once it has gone."""
        if len(self._tasks) <= OWN_TASKS:
            self._most_tasks = 0
            task = asyncio.create_task(in_thread(memory.release), name="netmeasure-memory")
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _cant_accept(self, error: OSError) -> None:
        """Say once what keeps clients waiting, and again when another reason does."""
        if error.errno != self._accept_errno:
            self._accept_errno = error.errno
            reason = os.strerror(error.errno or 0)
            self._refuse(f"clients have to wait, for none can be accepted: {reason}", "host_limit")

    def _make_room(
        self, crowd: Crowd[asyncio.Task[None]], network: str, task: asyncio.Task[None]
    ) -> None:
        """Let a connection into a crowd, and close the one that has to go for it."""
        gone = crowd.add(network, task)
        if gone is not None:
            gone.cancel(CROWDED)
            self._refuse(
                "too many connections that say nothing: the oldest ones are closed", "crowd"
            )

    async def _greet(self, sock: socket.socket, address: tuple[str, int], order: int) -> None:
        """Find out what a connection is: a data stream, a new client, a probe, or nothing."""
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
                    f"{peer} did not say what it wants in {self._limits.cookie_s:g} s", peer=peer
                )
            except ssl.SSLError as exc:
                known = False
                self._refuse(f"{peer}: {tls_trouble(exc)}", "tls", peer)
            except OSError:
                known = False  # reset before it sent anything: like a probe
            finally:
                self._strangers.remove(network, me)
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
                self._refuse(
                    f"{peer} opened a data connection that its test does not expect",
                    peer=peer,
                    test=test_name(hello[:-1].decode("ascii", "replace")),
                )
                await _turn_away(sock)
            else:
                await self._serve(sock, peer, network, hello, tls)
        except BaseException:
            sock.close()
            raise

    async def _first_words(self, sock: socket.socket) -> tuple[bytes, TlsStream | None]:
        """Return the bytes of a cookie, and the TLS session in which they came, if they did."""
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

    async def _serve(
        self, sock: socket.socket, peer: str, network: str, hello: bytes, tls: TlsStream | None
    ) -> None:
        taken = 0

        async def room(size: int) -> None:
            nonlocal taken
            await self._memory.take(network, size)
            taken += size

        me = asyncio.current_task()
        assert me is not None
        self._make_room(self._handshakes, network, me)
        since_ns = now_ns()
        control = ControlChannel(sock, Side.SERVER, hello, room, tls)
        try:
            await self._serve_client(sock, peer, network, since_ns, control)
        finally:
            self._handshakes.remove(network, me)
            if taken:
                self._memory.give_back(network, taken)

    async def _serve_client(
        self, sock: socket.socket, peer: str, network: str, since_ns: int, control: ControlChannel
    ) -> None:
        try:
            message = await control.receive(deadline_s=self._limits.cookie_s)
        except MeasureError as exc:
            self._refuse(f"{peer}: {exc}", peer=peer)
            await control.close()
            drop_frames(exc)
            return
        except BaseException:
            await control.close()
            raise
        client = NewClient(control, peer, message.payload, network, since_ns)
        if (refusal := await self._why_not(client)) is not None:
            self._refuse(
                f"{peer} was turned away: {refusal}", "busy", peer, test_name(client.cookie)
            )
            with suppress(MeasureError):
                await control.send(Kind.ACCESS_DENIED, deadline_s=LINGER_S)
            await control.close()
            return
        # reset meanwhile, as the session's first step will find
        with suppress(OSError, SocketOptionError):
            watch_peer(sock, self._limits.vanished_s)
            if self._limits.keepalive is not None:
                set_keepalive(sock, self._limits.keepalive)
            set_no_delay(sock, asked=False)
        await self._run_session(client)

    async def _why_not(self, client: NewClient) -> str | None:
        """Return why a client can't be served now, None where it can."""
        if self._served.is_set():
            return "the server has served its one client"
        if not can_wait(client.cookie):
            full = await self._why_full(client.network)
            if full is not None:
                return full
        if self._sessions.with_cookie(client.cookie) is not None:
            return "another client has the same cookie"
        return None

    async def _why_full(self, network: str) -> str | None:
        return await self._sessions.why_full(partial(self._places.why_full, network))

    async def _run_session(self, client: NewClient) -> None:
        surroundings = Surroundings(
            network=client.network,
            places=self._places,
            why_full=partial(self._why_full, client.network),
            accepted=partial(self._accepted, client.network, client.since_ns),
            brake=self._brake,
            plain_udp_turn=self._plain_udp_turns.setdefault(
                client.control.peer_host, asyncio.Lock()
            ),
            baseline=None if self._sessions else self._idle.baseline(),
        )
        session = Session(client, self._options, self._limits, surroundings)
        self._sessions.add(client.cookie, session)
        try:
            await session.run()
        finally:
            self._sessions.remove(client.cookie)
            self._session_over(session, client.peer)

    def _accepted(self, network: str, since_ns: int) -> None:
        """Count the client of this task no more among those that have not said what they want."""
        self._counts.handshakes += 1
        self._counts.handshake_ns += now_ns() - since_ns
        task = asyncio.current_task()
        assert task is not None
        self._handshakes.remove(network, task)

    def _session_over(self, session: Session, peer: str) -> None:
        if not self._sessions:
            self._idle.restart()
        self._idle_since_ns = now_ns()
        if self._options.one_off and not session.unauthorized:
            self._served.set()
        self._count(session)
        if session.result is None:
            if session.refusal is not None:
                self._refuse(f"{peer}: {session.refusal}", session.reason, peer, session.test)
        elif self._options.on_result is not None:
            self._options.on_result(session.result)

    def _count(self, session: Session) -> None:
        counts, result = self._counts, session.result
        if result is None:
            return
        counts.payload_bytes += sum(flow.receiver.bytes or 0 for flow in result.flows)
        if result.error is None:
            counts.finished += 1
        else:
            counts.failed[result.error.code] += 1

    def _refuse(
        self,
        sentence: str,
        reason: str = "nonsense",
        peer: str | None = None,
        test: str | None = None,
    ) -> None:
        self._counts.refused[reason] += 1
        if self._options.on_event is not None:
            event = ServerEvent(message=sentence, reason=reason, peer=peer, test=test)
            self._options.on_event(event)
        if self._options.on_refusal is not None:
            self._options.on_refusal(sentence)


async def _answer_probe(sock: socket.socket, answer_bytes: int) -> None:
    """Answer as a client would be answered, also while there is no room for one.

    A probe of the path asks for an answer that fills a packet (`engine.path_probe`). What does not
    get through is given up after LINGER_S.
    """
    loop = asyncio.get_running_loop()
    with suppress(OSError, TimeoutError):
        async with asyncio.timeout(LINGER_S):
            set_no_delay(sock, asked=False)
            await loop.sock_sendall(sock, GREETING.ljust(answer_bytes, b"\0"))
            if answer_bytes > 1:
                await loop.sock_recv(sock, 1)  # closing now would drop what was not acknowledged
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


@called_with(ServerOptions)
def serve(options: ServerOptions) -> Server:
    """Return a server for `async with`; it listens within the block.

    Args:
        host: the address to listen on; None is every address of this host
        port: 0 takes a free one (`server.port`)
        family: of addresses, "any", "ipv4" or "ipv6"
        limits: what a client may ask for, and how long the server waits for it
        on_result: called in the event loop with the Result of every test that was asked for,
            complete or not
        on_refusal: called with a sentence for every connection that was turned away or made no
            sense (a bare TCP probe is neither)
        on_event: called with the same as a `ServerEvent`, for logs
        observe: makes an Observer for each client, which receives this end's intervals
        interval_s: the length of these intervals
        gatekeeper: asks every client for a user and a password (iperf3's authentication)
        secret: what every client must know, and this server proves to know, too
        allow_iperf3: serve iperf3 clients all the same, which know no secret
        tls: the certificate for clients that encrypt their control connection
        one_off: serve one client only, whether its test succeeds or not; a client that is refused
            because of who it is does not count. `Server.over` returns afterwards
        idle_s: `Server.over` returns when there was no client for so long
        device: the network interface to listen on (SO_BINDTODEVICE, socket(7))

    Raises:
        ServeError: on entering the block, if the server can't listen
        SpecError: a time or the device's name is not valid
    """
    return Server(options)
