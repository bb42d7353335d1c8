"""Test control connections over TLS, on the port of the plain ones: certificates, downgrades, and
OpenSSL's own tools at either end."""

from __future__ import annotations

import asyncio
import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol import ErrorCode
from support import certificates, iperf3
from support.certificates import Certificate
from support.program import netmeasure, one_line, server as program
from support.waiting import until

pytestmark = pytest.mark.skipif(certificates.available() is not None, reason="there is no openssl")

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
BRIEF = nm.Timing(total_bytes=100_000)


def spec(ca: Certificate | None, **more: Any) -> nm.TcpSpec:
    return nm.TcpSpec(timing=BRIEF, tls=True, ca_file=str(ca.pem) if ca else None, **more)


@contextlib.asynccontextmanager
async def serving(
    certificate: Certificate | None = None, *, required: bool = False, **more: Any
) -> AsyncIterator[tuple[nm.Server, list[str]]]:
    said: list[str] = []
    its = certificate or certificates.certificate()
    more.setdefault(
        "tls", nm.ServerTls(certificate=str(its.pem), key=str(its.key), required=required)
    )
    async with nm.serve("127.0.0.1", 0, on_refusal=said.append, **more) as server:
        yield server, said


async def failed(address: str, wanted: nm.TcpSpec, kind: type[nm.MeasureError]) -> nm.MeasureError:
    with pytest.raises(kind) as caught:
        await nm.measure(address, wanted)
    assert caught.value.hint
    assert "\n" not in str(caught.value)
    return caught.value


@pytest.mark.parametrize("direction", ["upload", "both"])
def test_encrypted_and_plain_clients_on_one_port(run: RunLoop, direction: Any) -> None:
    async def main() -> None:
        its = certificates.certificate()
        async with serving() as (server, said):
            result = await nm.measure(server.address, spec(its, direction=direction, streams=2))
            assert result.complete
            (phase,) = (phase for phase in result.setup if phase.name == "tls")
            assert phase.connection == "control"
            udp = nm.UdpSpec(timing=nm.Timing(duration_s=0.2), tls=True, ca_file=str(its.pem))
            assert (await nm.measure(server.address, udp)).complete
            assert (await nm.measure(server.address, nm.TcpSpec(timing=BRIEF))).complete
        assert not said

    run(main())


def test_nothing_of_the_control_connection_can_be_read(run_once: RunLoop) -> None:
    """A relay between the two ends can read the title of a plain test, but not of an encrypted
    one."""

    async def main() -> None:
        its = certificates.certificate()
        async with serving() as (server, _):
            for wanted, seen in (
                (nm.TcpSpec(timing=BRIEF, title="a-very-plain-title"), True),
                (spec(its, title="a-very-plain-title"), False),
            ):
                async with recording(server.port) as (port, recorded):
                    assert (await nm.measure(f"127.0.0.1:{port}", wanted)).complete
                assert (b"a-very-plain-title" in bytes(recorded)) is seen

    run_once(main())


@contextlib.asynccontextmanager
async def recording(target: int) -> AsyncIterator[tuple[int, bytearray]]:
    """A relay that keeps what clients send."""
    recorded = bytearray()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, keep: bool) -> None:
        while data := await reader.read(65536):
            if keep:
                recorded.extend(data)
            writer.write(data)
            await writer.drain()
        with contextlib.suppress(OSError):
            writer.write_eof()

    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", target)
        await asyncio.gather(
            pump(reader, back, True), pump(there, writer, False), return_exceptions=True
        )
        for end in (writer, back):
            end.close()

    async with await asyncio.start_server(relay, "127.0.0.1", 0) as relaying:
        yield relaying.sockets[0].getsockname()[1], recorded


OTHER = "DNS:elsewhere.example"
BAD: dict[str, tuple[Callable[[], Certificate], Callable[[], Certificate] | None, str, str]] = {
    "self-signed": (lambda: certificates.certificate(), None, "is self-signed", "--ca-file"),
    "another-ca": (
        lambda: certificates.certificate(),
        lambda: certificates.certificate(OTHER),
        "is self-signed",
        "--ca-file",
    ),
    "expired": (
        lambda: certificates.certificate(expired=True),
        lambda: certificates.certificate(expired=True),
        "has expired",
        "renew it",
    ),
    "another-name": (
        lambda: certificates.certificate(OTHER),
        lambda: certificates.certificate(OTHER),
        "another address",
        "subjectAltName",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_certificate_that_is_not_good(run: RunLoop, case: str) -> None:
    theirs, ca, words, advice = BAD[case]

    async def main() -> None:
        async with serving(theirs()) as (server, said):
            error = await failed(server.address, spec(ca() if ca else None), nm.TlsError)
            assert words in str(error)
            assert advice in str(error.hint)
            assert error.phase == "tls"
            assert error.result is not None
            await until(lambda: said)
            assert "the TLS handshake failed" in said[0]
            # a test that does not ask for TLS is served as before
            assert (await nm.measure(server.address, nm.TcpSpec(timing=BRIEF))).complete

    run(main())


def test_a_server_without_tls(run: RunLoop) -> None:
    """The client does not fall back to plain text: a man in the middle could force that."""

    async def main() -> None:
        async with serving(tls=None) as (server, said):
            error = await failed(server.address, spec(None), nm.TlsError)
            assert "--tls-cert" in str(error.hint)
            await until(lambda: said)
            assert "asks for TLS" in said[0]

    run(main())


@pytest.mark.interop
def test_an_iperf3_server(run_once: RunLoop) -> None:
    with iperf3.server() as server:
        error = run_once(failed(f"127.0.0.1:{server.port}", spec(None), nm.TlsError))
    assert "--tls" in str(error.hint)


def test_tls_that_is_required(run: RunLoop) -> None:
    async def main() -> None:
        its = certificates.certificate()
        async with serving(required=True) as (server, said):
            plain = nm.TcpSpec(timing=BRIEF)
            error = await failed(server.address, plain, nm.AuthenticationError)
            assert error.number == ErrorCode.TLS_WANTED
            assert "add --tls" in str(error.hint)
            await until(lambda: said)
            assert "does not speak TLS" in said[0]
            assert (await nm.measure(server.address, spec(its))).complete

    run(main())


@pytest.mark.interop
@pytest.mark.parametrize("required", [False, True])
def test_iperf3_clients(run_once: RunLoop, required: bool) -> None:
    async def main() -> None:
        async with serving(required=required) as (server, _):
            words = ("iperf3", "-c", "127.0.0.1", "-p", str(server.port), "-n", "100K")
            client = await asyncio.create_subprocess_exec(
                *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
            )
            assert (await client.wait() == 0) is not required

    run_once(main())


def test_a_secret_is_bound_to_the_certificate(run_once: RunLoop) -> None:
    """A man in the middle with a certificate that the client trusts can't forward the proof."""
    key = nm.Secret(key=b"0123456789abcdef0123456789abcdef")

    async def main() -> None:
        its, other = certificates.certificate(), certificates.certificate("IP:127.0.0.1")
        async with serving(secret=key) as (server, _):
            assert (await nm.measure(server.address, spec(its, secret=key))).complete

            async def between(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                context = nm_ssl(its)
                there, back = await asyncio.open_connection(
                    "127.0.0.1", server.port, ssl=context, server_hostname="127.0.0.1"
                )

                async def pump(one: asyncio.StreamReader, two: asyncio.StreamWriter) -> None:
                    while data := await one.read(65536):
                        two.write(data)
                        await two.drain()

                pumps = [
                    asyncio.ensure_future(p) for p in (pump(reader, back), pump(there, writer))
                ]
                await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
                for task in pumps:
                    task.cancel()
                await asyncio.gather(*pumps, return_exceptions=True)
                for end in (writer, back):
                    end.close()

            relay = await asyncio.start_server(between, "127.0.0.1", 0, ssl=other.server())
            async with relay:
                port = relay.sockets[0].getsockname()[1]
                wanted = spec(other, secret=key)
                error = await failed(f"127.0.0.1:{port}", wanted, nm.AuthenticationError)
                assert error.number == ErrorCode.SECRET_WRONG

    run_once(main())


def nm_ssl(its: Certificate) -> Any:
    import ssl

    return ssl.create_default_context(cafile=str(its.pem))


def test_a_certificate_is_renewed_while_the_server_runs(run_once: RunLoop, tmp_path: Path) -> None:
    async def main() -> None:
        old, new = certificates.certificate(), certificates.certificate("IP:127.0.0.1")
        files = Certificate(tmp_path / "cert.pem", tmp_path / "key.pem")

        def install(which: Certificate) -> None:
            for source, place in zip(which, files, strict=True):
                fresh = place.with_suffix(".new")
                shutil.copyfile(source, fresh)
                fresh.replace(place)

        install(old)
        async with serving(files) as (server, said):
            assert (await nm.measure(server.address, spec(old))).complete
            install(new)
            assert (await nm.measure(server.address, spec(new))).complete
            files.pem.write_text("no certificate")
            assert (await nm.measure(server.address, spec(new))).complete
            assert len(said) == 1
            assert "the previous certificate stays in use" in said[0]

    run_once(main())


# ---- OpenSSL's own tools ------------------------------------------------------------------------


def test_openssl_as_client(run_once: RunLoop) -> None:
    """OpenSSL's client verifies our certificate; its cookie is answered with PARAM_EXCHANGE."""

    async def main() -> None:
        its = certificates.certificate()
        async with serving(required=True) as (server, _):
            words = ["openssl", "s_client", "-connect", server.address, "-CAfile", str(its.pem)]
            words += ["-verify_return_error", "-verify_ip", "127.0.0.1", "-quiet"]
            client = await asyncio.create_subprocess_exec(
                *words,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.DEVNULL,
            )
            assert client.stdin is not None
            assert client.stdout is not None
            client.stdin.write(b"a" * 36 + b"\0")
            assert await client.stdout.readexactly(1) == b"\x09"
            client.stdin.close()
            client.terminate()
            await client.wait()

    run_once(main())


@contextlib.contextmanager
def s_server(its: Certificate) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """OpenSSL's server, and its address."""
    words = ["openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1"]
    words += ["-cert", str(its.pem), "-key", str(its.key)]
    process = subprocess.Popen(
        words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout is not None
        for line in process.stdout:
            if found := re.match(rb"ACCEPT (.*)$", line.strip()):
                yield process, found[1].decode()
                break
        else:
            raise AssertionError("s_server does not listen")
    finally:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("trusted", [True, False])
def test_openssl_as_server(trusted: bool) -> None:
    """The client sends its cookie only if it trusts the certificate of OpenSSL's server."""
    its = certificates.certificate()
    with s_server(its) as (process, address):
        assert process.stdout is not None
        words = ["client", address, "-n", "100K", "--tls"]
        words += ["--ca-file", str(its.pem)] if trusted else []
        if not trusted:
            done = netmeasure(*words)
            assert done.returncode == 3
            assert "is self-signed" in one_line(done.stderr)
            assert "--ca-file FILE" in done.stderr
            return
        client = subprocess.Popen(
            (sys.executable, "-m", "netmeasure", *words), stderr=subprocess.PIPE, text=True
        )
        shown = b""
        while b"netmeasure" not in shown:  # how our cookies begin
            shown += process.stdout.read1(4096)  # type: ignore[attr-defined]
        process.kill()
        _, said = client.communicate(timeout=30)
        assert client.returncode == 4
        one_line(said)


def test_the_programs(tmp_path: Path) -> None:
    its = certificates.certificate()
    tls = ("--tls-cert", str(its.pem), "--tls-key", str(its.key))
    with program(*tls, "--tls-required") as (_, address):
        client = ("client", address, "-n", "100K")
        assert netmeasure(*client, "--tls", "--ca-file", str(its.pem)).returncode == 0
        done = netmeasure(*client)
        assert done.returncode == 4
        assert "serves over TLS only" in one_line(done.stderr)
    alone = netmeasure("server", "-p", "0", "--tls-required")
    assert alone.returncode == 2
    assert "--tls-required needs --tls-cert" in one_line(alone.stderr)
    both = tmp_path / "both.pem"
    both.write_text(its.pem.read_text())
    wrong = netmeasure("server", "-p", "0", "--tls-cert", str(both))
    assert wrong.returncode == 2
    assert str(both) in wrong.stderr.splitlines()[-1]
    with pytest.raises(nm.SpecError):
        nm.TcpSpec(ca_file="x")
