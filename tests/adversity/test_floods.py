"""Test that data which come faster than they can be read do not stop the event loop.

The next piece of each flood is sent before the last one has been handled, so it never ends until a
given number has been sent. The event loop must have run other work in the meantime.
"""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import Callable, Coroutine
from contextlib import ExitStack
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import hello
from netmeasure.engine.acceptor import Acceptor
from netmeasure.engine.addresses import Address
from netmeasure.engine.control import ControlChannel
from netmeasure.engine.hello import HelloListener, HelloResponder, greet
from netmeasure.engine.listeners import open_listener
from netmeasure.observe import Observer
from netmeasure.peer.server import reception
from netmeasure.protocol import Hello, Kind, ServerError, Side, make_hello, read_hello
from support.scripted_server import CREATE_STREAMS, Fake
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
#: How many pieces a flood has, and how many turns of the loop there must be at least meanwhile.
PIECES, TURNS = 1000, 5
HELLO = make_hello("a" * 36, 1, extended=True)


class Flood:
    """Send the next piece by `send` whenever one is handled, until all have been sent."""

    def __init__(self, send: Callable[[], object]) -> None:
        self._send = send
        self.sent = 0

    def go_on(self) -> None:
        if self.sent < PIECES:
            self.sent += 1
            self._send()

    async def turns(self) -> int:
        """Start; return how many turns the event loop has made until everything was sent."""
        turns = 0
        self.go_on()
        async with asyncio.timeout(30):
            while self.sent < PIECES:
                await asyncio.sleep(0)
                turns += 1
        return turns


def bound(stack: ExitStack) -> socket.socket:
    sock = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
    sock.setblocking(False)
    return sock


def test_hellos_at_the_port(run: RunLoop) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            attacker = bound(stack)
            listener = stack.enter_context(open_listener(socket.AF_INET, ("127.0.0.1", 0)))
            where = listener.getsockname()
            flood = Flood(lambda: attacker.sendto(HELLO, where))

            def expected(_: Hello, __: tuple[str, int]) -> None:
                flood.go_on()

            port = HelloListener([listener], expected)
            stack.callback(port.close)
            assert await flood.turns() >= TURNS

    run(main())


def test_hellos_at_a_stream(run: RunLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            client, server = bound(stack), bound(stack)
            server.connect(client.getsockname())
            flood = Flood(lambda: client.sendto(HELLO, server.getsockname()))

            def noted(data: bytes) -> Hello | None:
                flood.go_on()
                return read_hello(data)

            monkeypatch.setattr(hello, "read_hello", noted)
            responder = HelloResponder(server)
            stack.callback(responder.leave)
            assert await flood.turns() >= TURNS

    run(main())


def test_datagrams_instead_of_an_answer(run: RunLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The client still ends at its deadline."""

    async def main() -> None:
        with ExitStack() as stack:
            client, server = bound(stack), bound(stack)
            client.connect(server.getsockname())
            flood = Flood(lambda: server.sendto(b"?", client.getsockname()))
            peek = hello._peek

            def noted(sock: socket.socket) -> tuple[bytes, int]:
                flood.go_on()
                return peek(sock)

            monkeypatch.setattr(hello, "_peek", noted)
            address = Address(socket.AF_INET, server.getsockname())
            opening = asyncio.create_task(greet(client, address, HELLO, 60))
            await asyncio.sleep(0)
            assert await flood.turns() >= TURNS
            opening.cancel()
            await asyncio.wait([opening])

    run(main())


def test_connections_to_a_listener(run: RunLoop) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(open_listener(socket.AF_INET, ("127.0.0.1", 0)))
            where = listener.getsockname()
            flood = Flood(lambda: socket.create_connection(where).close())

            def take(sock: socket.socket, _: tuple[str, int]) -> None:
                flood.go_on()
                sock.close()

            acceptor = Acceptor([listener], take)
            stack.callback(acceptor.close)
            acceptor.on()
            assert await flood.turns() >= TURNS

    run(main())


def test_bytes_after_the_end_of_a_control_connection(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with ExitStack() as stack:
            listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
            theirs = stack.enter_context(socket.create_connection(listener.getsockname()))
            mine = stack.enter_context(listener.accept()[0])
            mine.setblocking(False)
            flood = Flood(lambda: theirs.send(b"?"))
            receive = ControlChannel._receive_bytes

            async def noted(self: ControlChannel) -> bytes:
                flood.go_on()
                return await receive(self)

            monkeypatch.setattr(ControlChannel, "_receive_bytes", noted)
            channel = ControlChannel(mine, Side.SERVER, b"a" * 36 + b"\0")
            assert (await channel.receive(deadline_s=30)).kind is Kind.COOKIE
            await channel.send(Kind.SERVER_ERROR, ServerError(1, None), deadline_s=30)
            assert await flood.turns() >= TURNS
            await channel.close()

    run(main())


def test_places_in_a_queue(run: RunLoop) -> None:
    """The client reports few of them."""

    class Waiting(Observer):
        def __init__(self) -> None:
            self.places: list[int] = []

        def on_queued(self, position: int) -> None:
            self.places.append(position)

    async def main() -> None:
        fake, waiting = Fake(), Waiting()
        with fake.listener:
            deadlines = nm.Deadlines(queue_s=60)
            test = asyncio.create_task(
                nm.measure(fake.address, nm.TcpSpec(deadlines=deadlines), observer=waiting)
            )
            await fake.welcome()
            with fake.control:
                await fake.take_json()
                places = range(PIECES, 0, -1)
                await fake.say(b"".join(struct.pack(">BI", 0x41, place) for place in places))
                await until(lambda: waiting.places)
                await fake.say(CREATE_STREAMS)
                stream = await fake.accept()
                stream.close()
            with pytest.raises(nm.MeasureError):
                await test
        assert waiting.places[0] == PIECES
        assert len(waiting.places) < PIECES / 2

    run(main())


def test_a_connection_that_is_turned_away(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one more data connection of a test, on which data follow without an end."""

    async def main() -> None:
        mine, theirs = socket.socketpair()
        with theirs:
            mine.setblocking(False)
            flood = Flood(lambda: theirs.send(b"?"))
            loop = asyncio.get_running_loop()
            receive = loop.sock_recv

            async def noted(sock: socket.socket, count: int) -> bytes:
                flood.go_on()
                return await receive(sock, count)

            monkeypatch.setattr(loop, "sock_recv", noted)
            turning = asyncio.create_task(reception._turn_away(mine))
            assert await flood.turns() >= TURNS
            theirs.shutdown(socket.SHUT_WR)
            await turning

    run_once(main())
