"""Serve many tests at the same time on one port, for netmeasure and iperf3 clients."""

from __future__ import annotations

import asyncio
import errno
import os
from contextlib import suppress
from functools import partial
from typing import Literal
from weakref import WeakValueDictionary

from netmeasure.clock import now_ns, seconds
from netmeasure.engine.acceptor import Acceptor
from netmeasure.engine.addresses import address_text
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hello import HelloListener
from netmeasure.engine.listeners import PORT_TRIES, Listening, listen, listen_hint
from netmeasure.engine.path_answers import PathAnswers
from netmeasure.engine.resources import IdleMonitor
from netmeasure.engine.sockopts import set_keepalive, set_no_delay, watch_peer
from netmeasure.engine.tasks import drop_frames, uninterrupted
from netmeasure.engine.tls import Identity
from netmeasure.errors import MeasureError, ServeError, SocketOptionError
from netmeasure.peer.server.company import Company
from netmeasure.peer.server.connections import CROWD, Connections
from netmeasure.peer.server.options import ServerOptions, called_with
from netmeasure.peer.server.places import Places
from netmeasure.peer.server.reception import LINGER_S, Caller, Reception, Waiting
from netmeasure.peer.server.session import NewClient, Session, Surroundings
from netmeasure.peer.server.sessions import Sessions
from netmeasure.peer.server.shares import LoginBrake, Memory
from netmeasure.peer.server.statistics import Refusals, ServerStatistics
from netmeasure.protocol import Kind, Side, can_wait, test_name
from netmeasure.result import Result
from netmeasure.spec import ServerLimits
from netmeasure.workloads.tcp import check_file_kind

#: The most unidentified connections, and the most clients without parameters. Above, the oldest one
#: of the network with the most is closed. A server for more tests accepts the clients of all its
#: tests at once.
MAX_STRANGERS, MAX_HANDSHAKES = 512, 256
#: Memory for large messages of clients, in all and per network.
MESSAGES_BYTES, MESSAGES_BYTES_EACH = 16 * 2**20, 4 * 2**20


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
        self._path = PathAnswers(self._limits.serves)
        self._connections = Connections()
        self._sessions = Sessions()
        self._plain_udp_turns: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        tests = self._limits.max_tests
        self._counts = ServerStatistics()
        self._refuse = Refusals(self._counts.refused, options.on_event, options.on_refusal)
        self._strangers = Waiting(max(MAX_STRANGERS, 2 * tests), self._refuse)
        self._handshakes = Waiting(max(MAX_HANDSHAKES, tests), self._refuse)
        self._places = Places(self._limits)
        self._company = Company()
        self._memory = Memory(MESSAGES_BYTES, MESSAGES_BYTES_EACH)
        self._brake = LoginBrake()
        self._idle = IdleMonitor()

    @property
    def active_tests(self) -> int:
        """Return the number of tests that are running."""
        return self._places.running

    @property
    def statistics(self) -> ServerStatistics:
        """Return the server's statistics since its start."""
        counts = self._counts
        counts.active, counts.waiting = self._places.running, self._places.waiting
        counts.strangers = len(self._strangers)
        counts.started = counts.finished + counts.failed.total() + counts.active
        return counts

    async def over(self) -> Literal["served", "idle"]:
        """Wait until a one-off server has served its client, or there was no client for `idle_s`.
        Waits for ever if neither option was given."""
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
        identity, tls = None, self._options.tls
        if tls is not None:
            identity = Identity(tls.certificate, tls.key, partial(self._refuse, reason="tls"))
        reception = Reception(
            self._limits,
            self._sessions,
            self._connections,
            self._strangers,
            identity,
            self._refuse,
            self._serve,
        )
        await self._open()
        self._acceptor = Acceptor(self._listeners, reception.accept, trouble=reception.trouble)
        self._acceptor.on()
        self._connections.beside(self._idle.keep(), "netmeasure-idle")
        return self

    async def __aexit__(self, *_: object) -> None:
        await uninterrupted(self.close())

    async def close(self) -> None:
        """Stop listening, tell every client, join every thread."""
        if self._acceptor is not None:
            self._acceptor.close()
        await self._connections.close()
        self._close_listeners()

    async def _open(self) -> None:
        """Listen for TCP and UDP on the same port. With port 0, the free TCP port may be in use for
        UDP: then another port is tried."""
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
                self._hellos = HelloListener(self._listeners, self._sessions.expected, self._path)
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

    # ---- clients --------------------------------------------------------------------------------

    async def _serve(self, caller: Caller) -> None:
        """Serve a new client until it is gone."""
        network, taken = caller.network, 0

        async def room(size: int) -> None:
            nonlocal taken
            await self._memory.take(network, size)
            taken += size

        me = asyncio.current_task()
        assert me is not None
        self._handshakes.add(network, me)
        control = ControlChannel(caller.sock, Side.SERVER, caller.hello, room, caller.tls)
        try:
            await self._serve_client(caller, control)
        finally:
            self._handshakes.remove(network, me)
            if taken:
                self._memory.give_back(network, taken)
                self._connections.note_use(CROWD + 1)  # for a large message

    async def _serve_client(self, caller: Caller, control: ControlChannel) -> None:
        since_ns, peer = now_ns(), caller.peer
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
        client = NewClient(control, peer, message.payload, caller.network, since_ns)
        if (refusal := await self._why_not(client)) is not None:
            self._refuse(
                f"{peer} was turned away: {refusal}", "busy", peer, test_name(client.cookie)
            )
            with suppress(MeasureError):
                await control.send(Kind.ACCESS_DENIED, deadline_s=LINGER_S)
            await control.close()
            return
        # reset meanwhile: the session's first step will raise the error
        with suppress(OSError, SocketOptionError):
            watch_peer(caller.sock, self._limits.vanished_s)
            if self._limits.keepalive is not None:
                set_keepalive(caller.sock, self._limits.keepalive)
            set_no_delay(caller.sock, asked=False)
        await self._run_session(client)

    async def _why_not(self, client: NewClient) -> str | None:
        """Return why a client can't be served now; None: it can be served."""
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
            company=self._company,
            why_full=partial(self._why_full, client.network),
            accepted=partial(self._accepted, client.network, client.since_ns),
            brake=self._brake,
            plain_udp_turn=self._plain_udp_turns.setdefault(
                client.control.peer_host, asyncio.Lock()
            ),
            refuse=self._refuse,
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
        """Stop counting the client of this task among those without parameters."""
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
        result = session.result
        if result is None:
            if session.refusal is not None:
                self._refuse(f"{peer}: {session.refusal}", session.reason, peer, session.test)
            return
        self._count(result)
        self._connections.note_use(sum(len(flow.streams) for flow in result.flows))
        if self._options.on_result is not None:
            self._options.on_result(result)

    def _count(self, result: Result) -> None:
        counts = self._counts
        counts.payload_bytes += sum(flow.receiver.bytes or 0 for flow in result.flows)
        if result.error is None:
            counts.finished += 1
        else:
            counts.failed[result.error.code] += 1


@called_with(ServerOptions)
def serve(options: ServerOptions) -> Server:
    """Return a server for `async with`; it listens within the block.

    Args:
        host: the address to listen on; None is every address of this host
        port: the port; 0: a free port (`server.port`)
        family: the address family: "any", "ipv4" or "ipv6"
        limits: what a client may request, and how long the server waits for it
        on_result: called in the event loop with the Result of every test that was not refused,
            complete or not
        on_refusal: called with a sentence for every connection that was refused or violated the
            protocol (but not for a bare TCP probe)
        on_event: called with a `ServerEvent` for the same connections, for logs
        observe: creates an Observer for each client, which receives this end's intervals
        interval_s: the length of these intervals
        gatekeeper: requires a user and a password of every client (iperf3's authentication)
        secret: the secret that every client must prove to know; this server proves it, too
        allow_iperf3: serve iperf3 clients, which can't prove a secret, without it
        tls: the certificate for clients that encrypt their control connection
        one_off: serve one client only, whether its test succeeds or not; a client whose
            authentication fails does not count. `Server.over` returns afterwards
        idle_s: `Server.over` returns when there was no client for this time
        device: the network interface to listen on (SO_BINDTODEVICE, socket(7))
        fresh_port: the port that accepts the connections of tests with a connection for each
            transaction, one such test at a time; 0: each of them gets a free port

    Raises:
        ServeError: the server can't listen (raised when the block is entered)
        SpecError: a time or the device's name is not valid
    """
    return Server(options)
