"""Test servers that cannot be connected to, and names whose addresses do not all work."""

from __future__ import annotations

import errno
import os
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from support.held import steps, told
from support.optional import known
from support.ports import deaf, free_port, nobody
from support.scripted_server import (
    CREATE_STREAMS,
    UNHURRIED,
    Fake,
    failure,
    failure_with,
    spec,
)

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


# ---- no connection at all ---------------------------------------------------------------------


def test_a_refused_connection(run: RunLoop) -> None:
    with nobody() as port:
        error = run(failure(f"127.0.0.1:{port}"))
    assert type(error) is nm.ConnectRefusedError
    assert f"127.0.0.1:{port}" in str(error)
    assert error.phase == "connect"
    phases = error.result.setup
    assert [(p.name, p.detail) for p in phases] == [("resolve", None), ("connect", "refused")]


def test_a_connection_that_is_not_answered(run: RunLoop) -> None:
    with deaf() as port:
        error = run(failure(f"127.0.0.1:{port}"))
    assert type(error) is nm.ConnectTimeoutError
    assert "0.3 s" in str(error)
    last = error.result.setup[-1]
    assert (last.name, last.detail) == ("connect", "connect_timeout")
    assert 0.29e9 <= last.duration_ns < 5e9


def test_a_stream_that_is_refused(run: RunLoop) -> None:
    async def script(it: Fake) -> None:
        await it.welcome()
        await it.take_json()
        it.listener.close()
        await it.say(CREATE_STREAMS)
        await it.stay()

    error = run(failure_with(script, spec(deadlines=UNHURRIED)))
    assert type(error) is nm.ConnectRefusedError
    last = error.result.setup[-1]
    assert (last.name, last.connection, last.detail) == ("connect", "stream 1", "refused")


def test_a_stream_that_is_not_answered(run: RunLoop) -> None:
    async def script(it: Fake) -> None:
        await it.welcome()
        await it.take_json()
        it.listener.listen(0)
        for _ in range(3):
            sock = socket.socket()
            it._socks.append(sock)
            sock.setblocking(False)
            sock.connect_ex(it.listener.getsockname())
        await it.say(CREATE_STREAMS)
        await it.stay()

    error = run(failure_with(script, spec(deadlines={"handshake_s": 5})))
    assert type(error) is nm.ConnectTimeoutError
    assert error.result.setup[-1].connection == "stream 1"


def test_no_route(run: RunLoop) -> None:
    with socket.socket() as sock:
        sock.setblocking(False)
        code = sock.connect_ex(("240.0.0.1", 5201))
    if code not in (errno.ENETUNREACH, errno.EHOSTUNREACH):
        pytest.skip(f"this machine has an answer for 240.0.0.1: {os.strerror(code)}")
    error = run(failure("240.0.0.1"))
    assert type(error) is nm.UnreachableError
    assert "240.0.0.1:5201" in str(error)
    assert error.result.setup[-1].detail == "unreachable"


@pytest.mark.parametrize("name", ["no-such-host.invalid", "a" * 64 + ".example", "a..b", "\u2603"])
def test_a_name_that_does_not_exist(run: RunLoop, name: str) -> None:
    error = run(failure(name, spec(deadlines={"resolve_s": 7})))
    assert type(error) is nm.NameNotFoundError
    assert repr(name) in str(error)
    assert error.phase == "resolve"
    assert steps(error.result) == ["resolve"]


def test_a_name_server_that_does_not_answer(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    release = threading.Event()

    def hangs(*args: Any, **options: Any) -> Any:
        release.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    async def main() -> nm.MeasureError:
        try:
            return await failure("lab1.example", spec(deadlines={"resolve_s": 0.1}))
        finally:
            release.set()

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    error = run_once(main())
    assert type(error) is nm.PeerTimeoutError
    assert error.phase == "resolve"
    assert "0.1 s" in str(error)


def test_a_resolver_that_fails_at_once_is_asked_until_the_deadline(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def fails(*args: Any, **options: Any) -> Any:
        asked.append(args)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", fails)
    error = run_once(failure("lab1.example", spec(deadlines={"resolve_s": 30, "connect_s": 2})))
    assert type(error) is nm.NameNotFoundError
    assert "try again" in str(error)
    assert 3 <= len(asked) <= 5  # after 0, 0.1, 0.3, 0.7 and 1.5 s, or later


def test_an_address_of_another_ip_version_than_the_wanted_one(run: RunLoop) -> None:
    """Nothing is started: the target and the option contradict each other."""
    wanted = spec(options=nm.SocketOptions(family="ipv4"))
    with pytest.raises(nm.SpecError, match="IPv6 address, but only IPv4 was asked for"):
        run(nm.measure("::1", wanted))


@pytest.mark.parametrize(
    "options",
    [
        {"bind_address": "192.0.2.1"},
        {"bind_address": "not an address"},
        {"congestion": "nonesuch"},
    ],
    ids=["address-elsewhere", "no-address", "congestion"],
)
def test_an_option_that_this_host_does_not_have(run: RunLoop, options: dict[str, Any]) -> None:
    async def main() -> nm.MeasureError:
        async with nm.serve("127.0.0.1", 0) as server:
            return await failure(server.address, spec(options=nm.SocketOptions(**options)))

    error = run(main())
    assert type(error) is nm.SocketOptionError
    assert str(next(iter(options.values()))) in str(error)
    assert error.phase == "connect"


def test_a_bound_port_that_is_taken(run: RunLoop) -> None:
    async def main() -> nm.MeasureError:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
            async with nm.serve("127.0.0.1", 0) as server:
                options = nm.SocketOptions(bind_address="127.0.0.1", bind_port=port)
                return await failure(server.address, spec(options=options))

    error = run(main())
    assert type(error) is nm.SocketOptionError
    assert "can't bind to 127.0.0.1:" in str(error)


# ---- some addresses do not work ---------------------------------------------------------------


@pytest.fixture
def addresses(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list for the addresses to which "lab1" resolves, in this order, with the port of the
    query. It works only on plain asyncio."""
    chosen: list[str] = []
    resolve = socket.getaddrinfo

    def answer(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        if host != "lab1":
            return resolve(host, port, *args, **options)
        return [entry for each in chosen for entry in resolve(each, port, *args, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    return chosen


@pytest.mark.parametrize("order", [["::1", "127.0.0.1"], ["127.0.0.1", "::1"]], ids=str)
@pytest.mark.parametrize("works", ["127.0.0.1", "::1"])
def test_an_address_that_refuses_does_not_end_the_test(
    run_once: RunLoop, addresses: list[str], order: list[str], works: str
) -> None:
    addresses += order

    async def main() -> nm.Result:
        with nobody("127.0.0.1" if ":" in works else "::1", free_port()) as port:
            async with nm.serve(works, port) as server:
                wanted = spec(duration_s=0.05, deadlines=UNHURRIED)
                return await nm.measure("lab1", wanted, port=server.port)

    result = run_once(main())
    assert result.complete
    connect = [p for p in result.setup if (p.name, p.connection) == ("connect", "control")][-1]
    assert connect.address.startswith(f"[{works}]:" if ":" in works else f"{works}:")
    assert all(s.socket.remote == connect.address for s in result.client.streams)


def test_an_address_that_does_not_answer_costs_a_moment_only(
    run_once: RunLoop, addresses: list[str]
) -> None:
    addresses += ["::1", "127.0.0.1"]

    async def main() -> nm.Result:
        async with nm.serve("127.0.0.1", free_port()) as server:
            with deaf("::1", server.port):
                wanted = spec(duration_s=0.05, deadlines={**UNHURRIED, "connect_s": 20})
                return await nm.measure("lab1", wanted, port=server.port)

    result = run_once(main())
    assert result.complete
    tried, connect = [phase for phase in told(result) if phase.connection == "control"][1:3]
    assert (tried.name, tried.decides) == ("connect", True)
    assert known(tried.address).startswith("[::1]:")
    assert "no answer yet" in known(tried.detail)
    assert known(connect.address).startswith("127.0.0.1:")
    # RFC 8305 waits a quarter of a second before it tries the next; that is part of set-up
    assert 0.2e9 < result.set_up_ns < 10e9


def test_no_address_that_answers(run_once: RunLoop, addresses: list[str]) -> None:
    addresses += ["::1", "127.0.0.1"]

    async def main() -> nm.MeasureError:
        with nobody(port=free_port()) as port, deaf("::1", port):
            return await failure(f"lab1:{port}")

    error = run_once(main())
    assert isinstance(error, nm.ConnectRefusedError | nm.ConnectTimeoutError)
    assert 0.29e9 <= error.result.setup[-1].duration_ns < 5e9


@pytest.mark.parametrize(
    ("target", "kind", "hint"),
    [
        (
            "[fe80::1%nosuch0]:5201",
            nm.NameNotFoundError,
            "this host has no interface 'nosuch0': `ip link` shows those it has",
        ),
        (
            "[fe80::1]:5201",
            nm.ConnectError,
            "a link-local address needs its interface, as in fe80::1%eth0",
        ),
    ],
)
def test_a_link_local_address_without_an_interface(
    run_once: RunLoop, target: str, kind: type[nm.MeasureError], hint: str
) -> None:
    async def main() -> None:
        with pytest.raises(kind) as failed:
            await nm.measure(target, nm.TcpSpec())
        assert failed.value.hint == hint

    run_once(main())
