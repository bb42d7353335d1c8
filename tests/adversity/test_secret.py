"""Test a shared secret: both ends prove to know it, for one connection, and never send it."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol import Connection, ErrorCode, Kind, Message, Proof, Side, State
from netmeasure.protocol.secret import proof
from support import iperf3
from support.program import netmeasure, one_line, server as program
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
KEY = b"3c1f0b6de9a4482f8f4c7a50b2d1e697"
BRIEF = nm.Timing(total_bytes=100_000)


def spec(key: bytes | None = KEY, **more: Any) -> nm.TcpSpec:
    secret = nm.Secret(key=key) if key is not None else None
    return nm.TcpSpec(timing=BRIEF, secret=secret, **more)


@contextlib.asynccontextmanager
async def guarded(**more: Any) -> AsyncIterator[tuple[nm.Server, list[str]]]:
    said: list[str] = []
    more.setdefault("secret", nm.Secret(key=KEY))
    async with nm.serve("127.0.0.1", 0, on_refusal=said.append, **more) as server:
        yield server, said


async def refused(address: str, wanted: nm.TcpSpec) -> nm.AuthenticationError:
    with pytest.raises(nm.AuthenticationError) as caught:
        await nm.measure(address, wanted)
    assert caught.value.phase == "control"
    assert caught.value.hint
    return caught.value


@pytest.mark.parametrize("direction", ["upload", "both"])
def test_both_ends_know_the_secret(run: RunLoop, direction: Any) -> None:
    async def main() -> None:
        async with guarded() as (server, said):
            result = await nm.measure(server.address, spec(direction=direction))
        assert result.complete
        assert isinstance(result.spec, nm.TcpSpec)
        assert result.spec.secret is None
        assert KEY not in result.to_json()
        assert KEY.decode() not in repr(spec())
        assert not said

    run(main())


def test_udp_with_a_secret(run_once: RunLoop) -> None:
    async def main() -> None:
        async with guarded() as (server, _):
            timing = nm.Timing(duration_s=0.2)
            udp = nm.UdpSpec(timing=timing, secret=nm.Secret(key=KEY))
            assert (await nm.measure(server.address, udp)).complete

    run_once(main())


@pytest.mark.parametrize(
    ("key", "number", "words", "log"),
    [
        (b"another", ErrorCode.SECRET_WRONG, "is not the server's", "has a different secret"),
        (None, ErrorCode.SECRET_WANTED, "asks for a shared secret", "has no secret"),
    ],
    ids=["wrong", "missing"],
)
def test_a_wrong_or_missing_secret_is_refused(
    run: RunLoop, key: bytes | None, number: ErrorCode, words: str, log: str
) -> None:
    async def main() -> None:
        async with guarded() as (server, said):
            error = await refused(server.address, spec(key))
            assert error.number == number
            assert words in str(error)
            await until(lambda: said)
            assert log in said[0]
            assert (await nm.measure(server.address, spec())).complete
            assert server.statistics.refused == {number.name.lower(): 1}

    run(main())


def test_a_server_that_does_not_ask_for_the_secret(run: RunLoop) -> None:
    """Such a server may be an impostor, so a client with a secret does not go on."""

    async def main() -> None:
        async with guarded(secret=None) as (server, said):
            error = await refused(server.address, spec())
            assert "does not ask for the secret" in str(error)
            assert "--secret-file" in str(error.hint)
        assert not said

    run(main())


@pytest.mark.parametrize("says", [None, "", "00" * 32, "no hexadecimal"])
def test_a_server_that_asks_for_a_secret_that_it_does_not_know(
    run_once: RunLoop, says: str | None
) -> None:
    async def main() -> None:
        async with guarded() as (server, _):
            server_proof = "netmeasure.peer.server.access.Access.own_proof"
            known = "netmeasure.peer.server.access.is_proof"
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(known, lambda *_: True)
                patch.setattr(server_proof, lambda *_: says)
                error = await refused(server.address, spec(b"of the client only"))
            assert "does not know it itself" in str(error)

    run_once(main())


class RawClient:
    """Hold a client on a bare socket, which can send any bytes as its proof."""

    def __init__(self, port: int, cookie: str) -> None:
        self._sock = socket.create_connection(("127.0.0.1", port))
        self._sock.setblocking(False)
        self.connection = Connection(Side.CLIENT)
        self.cookie = cookie

    async def send(self, data: bytes) -> None:
        await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def next(self) -> Message:
        while not isinstance(message := self.connection.next_message(), Message):
            data = await asyncio.get_running_loop().sock_recv(self._sock, 65536)
            assert data
            self.connection.receive_data(data)
        return message

    async def challenged(self) -> bytes:
        """Go on until the server's challenge, and return its nonce."""
        parameters = nm_parameters()
        await self.send(self.connection.send(Kind.COOKIE, self.cookie))
        assert (await self.next()).kind is Kind.PARAM_EXCHANGE
        await self.send(self.connection.send(Kind.PARAMETERS, parameters))
        message = await self.next()
        assert message.kind is Kind.CHALLENGE
        nonce: bytes = message.payload.nonce
        return nonce

    def close(self) -> None:
        self._sock.close()


def nm_parameters() -> Any:
    from netmeasure.peer.parameters import client_parameters

    return client_parameters(spec(None), secret=True)


def test_a_proof_is_good_for_one_connection(run_once: RunLoop) -> None:
    """The bytes of an accepted proof are refused on the next connection, even with the same cookie
    and parameters. The server's own proof is refused as well."""

    async def main() -> None:
        async with guarded() as (server, said):
            nonces, recorded, echo = [], b"", b""
            for attempt in ("good", "replayed", "reflected"):
                client = RawClient(server.port, "a" * 36)
                with contextlib.closing(client):
                    nonces.append(await client.challenged())
                    good = proof(KEY, Side.CLIENT, client.connection.transcript)
                    mac = {"good": good, "replayed": recorded, "reflected": echo}[attempt]
                    await client.send(client.connection.send(Kind.PROOF, Proof(mac)))
                    message = await client.next()
                    if attempt == "good":
                        assert message.kind is Kind.EXTENSION
                        recorded, echo = mac, bytes.fromhex(message.payload.proof)
                    else:
                        assert message.payload.code == ErrorCode.SECRET_WRONG
                await until(lambda: not len(server._sessions))
            assert len(set(nonces)) == 3
            assert len(said) == 2

    run_once(main())


def test_a_proof_covers_the_parameters() -> None:
    """A change of the parameters on the path invalidates the proof."""
    ends = [Connection(Side.CLIENT) for _ in range(2)]
    for end, direction in zip(ends, ("upload", "download"), strict=True):
        from netmeasure.peer.parameters import client_parameters

        end.send(Kind.COOKIE, "a" * 36)
        end.receive_data(b"\x09")
        end.next_message()
        assert end.state is State.ASKED
        end.send(Kind.PARAMETERS, client_parameters(spec(None, direction=direction)))
    assert ends[0].transcript != ends[1].transcript


def test_after_many_wrong_secrets_the_right_one_is_refused_too(run_once: RunLoop) -> None:
    async def main() -> None:
        async with guarded() as (server, _):
            numbers = [
                (await refused(server.address, spec(key))).number
                for key in (b"a", b"b", b"c", b"d", b"e", KEY)
            ]
        assert numbers == [ErrorCode.SECRET_WRONG] * 5 + [ErrorCode.TOO_MANY_FAILURES]

    run_once(main())


@pytest.mark.interop
@pytest.mark.parametrize("allowed", [False, True])
def test_iperf3_clients(run_once: RunLoop, allowed: bool) -> None:
    """iperf3 clients know no secret: they are refused with iperf3's own number, or accepted if the
    server allows it."""

    async def main() -> None:
        async with guarded(allow_iperf3=allowed) as (server, said):
            words = ("iperf3", "-c", "127.0.0.1", "-p", str(server.port), "-n", "100K")
            client = await asyncio.create_subprocess_exec(
                *words, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
            )
            printed, _ = await client.communicate()
            assert (client.returncode == 0) is allowed
            if not allowed:
                assert b"authorization failed" in printed
                await until(lambda: said)
                assert "can't know the secret" in said[0]
            # accepting iperf3 clients does not let a netmeasure client bypass the secret
            assert (await refused(server.address, spec(None))).number == ErrorCode.SECRET_WANTED

    run_once(main())


@pytest.mark.interop
def test_an_iperf3_server_is_refused(run_once: RunLoop) -> None:
    with iperf3.server() as server:
        error = run_once(refused(f"127.0.0.1:{server.port}", spec()))
    assert "does not ask for the secret" in str(error)


def test_the_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The secret may be in a file or the environment at both ends; a wrong secret gives one line
    and exit code 4."""
    monkeypatch.delenv("NETMEASURE_SECRET", raising=False)
    right, wrong, empty = (tmp_path / name for name in ("right", "wrong", "empty"))
    right.write_bytes(KEY + b"\n")
    wrong.write_bytes(b"wrong\n")
    empty.write_bytes(b"\n")
    for path in (right, wrong, empty):
        path.chmod(0o600)
    with program("--secret-file", str(right)) as (_, address):
        client = ("client", address, "-n", "100K")
        assert netmeasure(*client, "--secret-file", str(right)).returncode == 0
        for words in ((), ("--secret-file", str(wrong))):
            done = netmeasure(*client, *words)
            assert done.returncode == 4
            assert "secret" in one_line(done.stderr)
        assert "holds no secret" in one_line(
            netmeasure(*client, "--secret-file", str(empty)).stderr
        )
        monkeypatch.setenv("NETMEASURE_SECRET", KEY.decode())
        assert netmeasure(*client).returncode == 0
    with program() as (process, address):  # the server has this environment, too
        assert netmeasure("client", address, "-n", "100K").returncode == 0
        monkeypatch.delenv("NETMEASURE_SECRET")
        assert netmeasure("client", address, "-n", "100K").returncode == 4
        process.terminate()
        assert KEY.decode() not in "".join(process.communicate())
