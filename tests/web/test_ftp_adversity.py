"""Test FTP servers that are silent, dying or absent, or that violate the protocol.

In each case, one exception must say what is wrong and carry a result of what was measured, come
within the deadline, and leave nothing behind.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.cli.exits import Exit, exit_code
from netmeasure.result import Result
from netmeasure.transfers import outcome
from support import certificates
from support.ftp import Answer, Ftp, closes, resets, silent
from support.optional import known
from support.ports import deaf, nobody
from support.scripted import GoneError, Peer, Scripted
from support.transfers import PATIENT, SHORT, RunLoop, failure, needs_openssl, received
from support.web import send_body


def spec(
    deadlines: dict[str, float] = PATIENT, timing: dict[str, Any] | None = None, **more: Any
) -> nm.FtpSpec:
    when = nm.Timing(**(timing or {}), interval_s=0.02)
    return nm.FtpSpec(timing=when, deadlines=nm.Deadlines(**deadlines), **more)


def failed(run: RunLoop, server: Scripted, wanted: nm.FtpSpec | None = None) -> nm.MeasureError:
    scheme = None if isinstance(server, Ftp) else "ftp"
    with server:
        error: nm.MeasureError = run(failure(server.url(scheme=scheme), wanted or spec()))
    return error


# ---- no connection ----------------------------------------------------------------------------


def test_a_host_without_a_server(run: RunLoop) -> None:
    error = run(failure("ftp://no-such-host.invalid/file", spec()))
    assert type(error) is nm.NameNotFoundError
    with nobody() as port:
        error = run(failure(f"ftp://127.0.0.1:{port}/file", spec()))
    assert type(error) is nm.ConnectRefusedError
    assert error.phase == "connect"
    with deaf() as port:
        error = run(failure(f"ftp://127.0.0.1:{port}/file", spec(SHORT)))
    assert type(error) is nm.ConnectTimeoutError


# ---- the control connection -------------------------------------------------------------------

STEPS = {
    "greeting": "greeting",
    "USER": "login",
    "PASS": "login",
    "TYPE": "type",
    "SIZE": "size",
    "EPSV": "passive",
    "RETR": "transfer_start",
    "final": "final_reply",
}


@pytest.mark.parametrize("step", STEPS)
def test_a_step_without_a_reply(run_once: RunLoop, step: str) -> None:
    error = failed(run_once, Ftp(1000, answers={step: silent}), spec(SHORT))
    assert type(error) is nm.PeerTimeoutError
    assert "in 0.4 s" in str(error)
    assert error.phase == STEPS[step]
    assert error.hint
    assert exit_code(error) == (Exit.CUT_SHORT if step == "final" else Exit.NOT_A_SERVER)
    if step == "final":
        assert received(error) == 1000


@pytest.mark.parametrize("how", [closes, resets])
@pytest.mark.parametrize("step", STEPS)
def test_a_control_connection_that_ends(
    run: RunLoop, step: str, how: Callable[[Peer], object]
) -> None:
    error = failed(run, Ftp(1000, answers={step: how}))
    if step == "greeting" and type(error) is nm.ConnectError:
        return  # the connection ended before the client noticed that it was open
    assert type(error) is nm.PeerClosedError
    assert error.phase == STEPS[step]
    assert error.hint
    if step == "final":
        assert received(error) == 1000


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("garbage", ["", "\xff\xfe", "2", "999 what", "22x no"], ids=repr)
def test_an_invalid_reply(run_once: RunLoop, step: str, garbage: str) -> None:
    """Bytes that are no reply may be the start of a longer reply, so the client waits for the
    rest."""
    answers: dict[str, Answer] = {step: garbage}
    if step in ("SIZE", "EPSV"):  # a refusal of these alone is no failure
        answers = {"EPSV": "500 no", "PASV": "500 no", **answers}
    deadlines = {**SHORT, "handshake_s": 0.15, "connect_s": 10.0}
    error = failed(run_once, Ftp(1000, answers=answers), spec(deadlines))
    kinds = (nm.RemoteProtocolError, nm.PeerTimeoutError, nm.PeerRefusedError, nm.StreamError)
    assert isinstance(error, kinds)
    assert error.hint


def test_a_reply_without_an_end(run: RunLoop) -> None:
    def floods(peer: Peer) -> None:
        while True:
            peer.send(b"x" * 100_000)

    error = failed(run, Ftp(1000, answers={"greeting": floods}), spec(SHORT))
    assert isinstance(error, nm.RemoteProtocolError | nm.PeerTimeoutError)
    assert error.phase == "greeting"


def test_a_reply_of_lines_without_an_end(run: RunLoop) -> None:
    def floods(peer: Peer) -> None:
        while not peer.ending.wait(0.001):
            peer.send(b"220-more\r\n" * 100)

    error = failed(run, Ftp(1000, answers={"greeting": floods}), spec(SHORT))
    assert isinstance(error, nm.RemoteProtocolError | nm.PeerTimeoutError)
    assert error.phase == "greeting"


def test_replies_of_many_lines_are_not_kept_until_the_deadline(run: RunLoop) -> None:
    def floods(peer: Peer) -> None:
        while True:
            peer.send(b"220-more\r\n" * 100)

    patient = {**SHORT, "handshake_s": 10.0}
    error = failed(run, Ftp(1000, answers={"greeting": floods}), spec(patient))
    assert type(error) is nm.RemoteProtocolError
    assert "a reply of more than 1000 lines" in str(error)


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
@pytest.mark.parametrize("step", STEPS)
def test_replies_of_a_server_are_cleaned(run_once: RunLoop, step: str, encoding: str) -> None:
    said = b"530 \x1b[2J" + "n\xf6\x9b".encode(encoding) + b"x" * 4000 + b"\r\n"
    server = Ftp(1000, answers={step: lambda peer: peer.send(said)})
    if step in ("SIZE", "EPSV"):  # the client can do without these
        with server:
            result: Result = run_once(nm.measure(server.url(), spec()))
        assert result.complete
        return
    error = failed(run_once, server)
    assert "530 \ufffd[2Jn\xf6\ufffdxxx" in str(error)
    assert len(str(error)) < 400


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1"])
def test_a_greeting_is_cleaned(run_once: RunLoop, encoding: str) -> None:
    """The greeting is the only identification of the server, and is in reports and results."""
    said = b"220 \x1b[2J" + "pr\xeat\x9b".encode(encoding) + b"x" * 4000 + b"\r\n"
    with Ftp(1000, answers={"greeting": lambda peer: peer.send(said)}) as server:
        result: Result = run_once(nm.measure(server.url(), spec()))
    greeting = known(known(result.server.host).program)
    assert greeting.startswith("\ufffd[2Jpr\xeat\ufffdxxx")
    assert len(greeting) <= 200


def test_an_invalid_size(run_once: RunLoop) -> None:
    error = failed(run_once, Ftp(1000, answers={"SIZE": "213 many \x1b[2J"}))
    assert type(error) is nm.RemoteProtocolError
    assert str(error).endswith("does not speak FTP: the file's size is 'many \ufffd[2J'")


@pytest.mark.parametrize(
    ("path", "name"),
    [("/caf%E9", b"caf\xe9"), ("/caf%C3%A9", b"caf\xc3\xa9"), ("/caf\xe9", b"caf\xc3\xa9")],
)
def test_names_of_any_bytes(run_once: RunLoop, path: str, name: bytes) -> None:
    with Ftp(1000) as server:
        result: Result = run_once(nm.measure(server.url(path), spec()))
    assert result.complete
    assert b"RETR " + name in [line.encode(errors="surrogateescape") for line in server.commands]


def test_a_server_of_ssh(run: RunLoop) -> None:
    """An SSH banner looks like the first line of a longer reply, of which no more lines follow."""

    def script(peer: Peer) -> None:
        peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
        peer.receive()

    error = failed(run, Scripted(script), spec(SHORT))
    assert type(error) is nm.RemoteProtocolError
    assert "does not speak FTP" in str(error)
    assert "SSH-2.0-OpenSSH_9.2" in str(error)


def test_a_server_of_http(run: RunLoop) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    error = failed(run, Scripted(script), spec(SHORT))
    assert error.phase == "greeting"


@pytest.mark.parametrize(
    ("step", "reply", "hint"),
    [
        ("greeting", "421 too many users", None),
        ("USER", "530 not you", "user and password"),
        ("PASS", "530 Login incorrect.", "user and password"),
        ("TYPE", "504 no", None),
        ("RETR", "550 no such file", None),
        ("RETR", "425 can't open data connection", None),
        ("RETR", "450 busy", None),
    ],
)
def test_a_refusal(run_once: RunLoop, step: str, reply: str, hint: str | None) -> None:
    error = failed(run_once, Ftp(1000, answers={step: reply}))
    assert type(error) is nm.FileRefusedError
    assert reply in str(error)
    assert (error.code, error.phase) == ("file_refused", STEPS[step])
    assert hint is None or hint in (error.hint or "")
    assert error.hint
    assert not error.result.flows


def test_a_server_without_rest(run: RunLoop) -> None:
    error = failed(run, Ftp(1000, answers={"REST": "502 no"}), spec(first_byte=10))
    assert type(error) is nm.FileRefusedError
    assert "REST" in (error.hint or "")


def test_a_server_without_tls(run: RunLoop) -> None:
    error = failed(run, Ftp(1000, answers={"AUTH": "502 no"}), spec(explicit_tls=True))
    assert type(error) is nm.FileRefusedError
    assert error.phase == "auth"
    assert "TLS" in (error.hint or "")


# ---- the data connection ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("passive", "asked"), [("auto", (1, 1)), ("epsv", (1, 0)), ("pasv", (0, 1))]
)
def test_no_passive_mode(run_once: RunLoop, passive: str, asked: tuple[int, int]) -> None:
    server = Ftp(1000, answers={"EPSV": "500 no", "PASV": "500 no"})
    error = failed(run_once, server, spec(passive=passive))
    assert type(error) is nm.FileRefusedError
    assert error.phase == "passive"
    assert (server.did("EPSV"), server.did("PASV")) == asked


@pytest.mark.parametrize(
    "reply",
    ["229 ok", "229 (|||x|)", "229 (|||0|)", "229 (|||99999|)", "229 ()", "229 (|1|::1|5|)"],
)
def test_an_invalid_epsv_reply(run_once: RunLoop, reply: str) -> None:
    error = failed(run_once, Ftp(1000, answers={"EPSV": reply}))
    assert isinstance(error, nm.RemoteProtocolError | nm.ConnectError)
    assert error.phase in ("passive", "connect")


@pytest.mark.parametrize(
    "reply", ["227 ok", "227 (1,2,3)", "227 (a,b,c,d,e,f)", "227 (127,0,0,1,999,999)", "227 ()"]
)
def test_an_invalid_pasv_reply(run_once: RunLoop, reply: str) -> None:
    error = failed(run_once, Ftp(1000, answers={"PASV": reply}), spec(passive="pasv"))
    assert isinstance(error, nm.RemoteProtocolError | nm.ConnectError)
    assert error.phase in ("passive", "connect")


def test_a_data_port_without_a_listener(run: RunLoop) -> None:
    with nobody() as port:
        error = failed(run, Ftp(1000, answers={"EPSV": f"229 Go (|||{port}|)"}))
    assert type(error) is nm.ConnectRefusedError
    last = error.result.setup[-1]
    assert (last.name, last.connection, last.detail) == ("connect", "stream 1 data", "refused")
    assert str(error).startswith("the server's FTP data connection: ")
    assert "passive ports" in (error.hint or "")


def test_a_port_that_does_not_answer(run: RunLoop) -> None:
    with deaf() as port:
        error = failed(run, Ftp(1000, answers={"EPSV": f"229 Go (|||{port}|)"}), spec(SHORT))
    assert type(error) is nm.ConnectTimeoutError
    assert error.result.setup[-1].connection == "stream 1 data"
    assert str(error).startswith("the server's FTP data connection: no answer from ")
    assert "passive ports" in (error.hint or "")


@pytest.mark.parametrize("final", ["226 done", "426 cut off", "451 disk error"])
@pytest.mark.parametrize("size", [0, 1, 100_000])
def test_a_file_shorter_than_its_size(run_once: RunLoop, size: int, final: str) -> None:
    server = Ftp(1_000_000, sends=size, answers={"final": final})
    error = failed(run_once, server)
    assert type(error) is nm.StreamError
    assert f"{size} of 1000000 bytes" in str(error)
    # the error quotes the reply, unless the reply claims success
    assert (final in str(error)) is not final.startswith("226")
    assert received(error) == size


def test_a_transfer_that_the_server_calls_broken(run: RunLoop) -> None:
    """The size is unknown and the data end normally: only the final reply shows the failure."""
    answers: dict[str, Answer] = {"SIZE": "502 no", "final": "426 cut off"}
    error = failed(run, Ftp(1000, answers=answers))
    assert type(error) is nm.StreamError
    assert "426 cut off" in str(error)
    assert received(error) == 1000


def some(peer: Peer) -> None:
    send_body(peer, 100_000)
    peer.wait_until_read()


def stalls(peer: Peer) -> None:
    some(peer)
    peer.ending.wait()
    raise GoneError


def breaks(peer: Peer) -> None:
    some(peer)
    peer.reset()


def test_a_data_connection_that_stalls(run: RunLoop) -> None:
    error = failed(run, Ftp(1_000_000, data=stalls), spec({**PATIENT, "stall_s": 0.4}))
    assert type(error) is nm.PeerTimeoutError
    assert "no data moved for 0.4 s" in str(error)
    assert error.phase == "data"
    assert received(error) == 100_000


def test_a_data_connection_that_is_reset(run: RunLoop, monkeypatch: pytest.MonkeyPatch) -> None:
    """The result also describes a broken transfer, and how each of its bytes was received."""
    monkeypatch.setattr(outcome, "NOTED_BYTES", 0)
    error = failed(run, Ftp(1_000_000, data=breaks))
    assert type(error) is nm.StreamError
    assert error.phase == "data"
    assert received(error) == 100_000
    transfer = error.result.flow.streams[0].receiver.transfer
    assert (transfer.drained_by, transfer.native_bytes) == ("native", 100_000)
    assert transfer.content_bytes == 1_000_000
    assert not [note for note in error.result.notes if "Python" in note]


def test_a_control_connection_that_ends_while_data_flow(run: RunLoop) -> None:
    """All data arrive; the missing final reply is the error."""

    def data(peer: Peer) -> None:
        server.peers[0].sock.close()
        send_body(peer, 1_000_000)

    server = Ftp(1_000_000, data=data)
    error = failed(run, server)
    assert type(error) is nm.PeerClosedError
    assert error.phase == "final_reply"
    assert received(error) == 1_000_000


@pytest.mark.parametrize("reply", ["550 not here", "553 bad name", "425 no"])
def test_an_upload_that_is_refused(run: RunLoop, reply: str) -> None:
    wanted = spec(direction="upload", timing={"total_bytes": 1000})
    error = failed(run, Ftp(answers={"STOR": reply}), wanted)
    assert type(error) is nm.FileRefusedError
    assert reply in str(error)
    assert error.phase == "transfer_start"


def test_an_upload_that_is_refused_at_its_end(run: RunLoop) -> None:
    wanted = spec(direction="upload", timing={"total_bytes": 1000})
    error = failed(run, Ftp(answers={"final": "552 quota"}), wanted)
    assert type(error) is nm.FileRefusedError
    assert "552 quota" in str(error)
    assert error.result.flow.sender.acked_bytes == 1000


@pytest.mark.parametrize("timing", [{"total_bytes": 1 << 30}, {"duration_s": 60}])
def test_an_upload_that_breaks_off(run: RunLoop, timing: dict[str, Any]) -> None:
    def data(peer: Peer) -> None:
        peer.count(1_000_000)
        peer.reset()

    server = Ftp(data=data, answers={"final": "552 quota"})
    error = failed(run, server, spec(direction="upload", timing=timing))
    assert type(error) is nm.StreamError
    assert "552 quota" in str(error)
    assert error.result.flow.sender.acked_bytes > 0


def test_an_upload_that_the_server_does_not_read(run: RunLoop) -> None:
    def data(peer: Peer) -> None:
        peer.ending.wait()

    wanted = spec(SHORT, direction="upload", timing={"total_bytes": 1 << 30})
    error = failed(run, Ftp(data=data), wanted)
    assert type(error) is nm.PeerTimeoutError
    assert error.phase == "data"


# ---- TLS --------------------------------------------------------------------------------------


@needs_openssl
@pytest.mark.parametrize("implicit", [False, True])
def test_an_untrusted_certificate(run: RunLoop, implicit: bool) -> None:
    tls = certificates.certificate().server()
    error = failed(run, Ftp(1000, tls=tls, implicit=implicit), spec(explicit_tls=not implicit))
    assert type(error) is nm.TlsError
    assert "self-signed" in str(error)
    assert error.phase == "tls"


@pytest.mark.parametrize("answer", [silent, closes, resets])
def test_a_server_that_agrees_to_tls_and_does_not_begin_it(
    run: RunLoop, answer: Callable[[Peer], object]
) -> None:
    def agrees(peer: Peer) -> None:
        peer.send(b"234 go ahead\r\n")
        peer.receive()
        answer(peer)

    server = Ftp(1000, answers={"AUTH": agrees})
    deadlines = SHORT if answer is silent else PATIENT
    error = failed(run, server, spec(deadlines, explicit_tls=True))
    assert isinstance(error, nm.TlsError | nm.PeerClosedError | nm.PeerTimeoutError)
    assert error.phase == "tls"


@pytest.mark.parametrize("answer", [silent, closes, resets])
def test_no_implicit_tls(run: RunLoop, answer: Callable[[Peer], object]) -> None:
    def script(peer: Peer) -> None:
        peer.receive()
        answer(peer)

    deadlines = SHORT if answer is silent else PATIENT
    with Scripted(script) as server:
        error = run(failure(server.url(scheme="ftps"), spec(deadlines)))
    assert isinstance(error, nm.TlsError | nm.PeerClosedError | nm.PeerTimeoutError)
    assert error.phase == "tls"


@needs_openssl
@pytest.mark.parametrize("data", [stalls, breaks])
def test_a_protected_data_connection_that_fails(
    run: RunLoop, data: Callable[[Peer], object]
) -> None:
    mine = certificates.certificate()

    def carry(peer: Peer) -> None:
        send_body(peer, 100_000)
        if data is breaks:
            peer.reset()
            return
        peer.ending.wait()
        raise GoneError

    wanted = spec({**PATIENT, "stall_s": 0.4}, explicit_tls=True, ca_file=str(mine.pem))
    error = failed(run, Ftp(1_000_000, tls=mine.server(), data=carry), wanted)
    assert isinstance(error, nm.StreamError | nm.PeerTimeoutError)
    assert error.phase == "data"


# ---- cancellation -----------------------------------------------------------------------------


@pytest.mark.parametrize("step", [*STEPS, "data"])
def test_cancelled_in_every_phase(run: RunLoop, step: str) -> None:
    async def main() -> nm.Run:
        there = asyncio.Event()
        loop = asyncio.get_running_loop()

        def arrived(peer: Peer) -> None:
            loop.call_soon_threadsafe(there.set)
            peer.hold()
            raise GoneError

        answers: dict[str, Answer] = {} if step == "data" else {step: arrived}
        with Ftp(1000, answers=answers, data=arrived if step == "data" else None) as server:
            running = nm.connect(server.url()).run(spec())

            async def use() -> None:
                async with running:
                    await running.wait()

            task = asyncio.ensure_future(use())
            await there.wait()
            assert not task.done()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        return running

    running = run(main())
    assert running.result is not None
    assert not running.result.complete
    assert running.result.error.code == "cancelled"
