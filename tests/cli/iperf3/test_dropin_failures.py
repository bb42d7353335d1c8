"""Compare tests that fail while they run with the real iperf3: words, streams and exit codes."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from support import census, warm
from support.iperf3 import OURS, REAL, Server, server
from support.ports import deaf, free_port, nobody
from support.scripted import Peer, Scripted

pytestmark = pytest.mark.interop

_UNABLE = "iperf3: error - unable to connect to server"


class Ran(NamedTuple):
    code: int
    out: str
    err: str


def run(program: tuple[str, ...], *words: str, timeout: float = 30) -> Ran:
    ran = warm.run((*program, *words), capture_output=True, text=True, timeout=timeout, check=False)
    return Ran(ran.returncode, ran.stdout, ran.stderr)


def both(*words: str) -> tuple[Ran, Ran]:
    """Run the real program and ours at the same time."""
    with ThreadPoolExecutor(2) as pool:
        real, ours = pool.map(lambda program: run(program, *words), (REAL, OURS))
    return real, ours


def same_failure(words: list[str]) -> tuple[str, str]:
    """Check that both fail before they print anything; return their sentences without the common
    beginning."""
    real, ours = both(*words)
    assert (real.code, real.out) == (ours.code, ours.out) == (1, "")
    assert real.err.count("\n") == ours.err.count("\n") == 1
    return real.err.strip(), ours.err.strip()


@pytest.mark.parametrize(
    "options",
    [
        ["-c", "127.0.0.1"],
        ["-c", "127.0.0.1", "-6"],
        ["-c", "::1", "-4"],
        ["-c", "127.0.0.1", "-B", "192.0.2.1"],
    ],
    ids=" ".join,
)
def test_no_connection(options: list[str]) -> None:
    """3.21 has a longer sentence than 3.12, with the same reason of the system at its end."""
    with nobody() as port:
        real, ours = same_failure([*options, "-p", str(port)])
    assert real.startswith(f"{_UNABLE}: ")
    assert ours.startswith(f"{_UNABLE} - server may have stopped running")
    assert ours.rpartition(": ")[2] == real.rpartition(": ")[2]


def no_address(host: str) -> str:
    """Return the resolver's reason on this host: without a name server, it can't tell whether the
    name exists."""
    with pytest.raises(socket.gaierror) as found:
        socket.getaddrinfo(host, 1)
    return str(found.value.strerror)


@pytest.mark.parametrize("host", ["nowhere.invalid", "", "http://x", "[::1]"])
def test_a_name_without_an_address(host: str) -> None:
    """The real iperf3 prints the errno that the resolver's modules left, which differs between
    hosts.

    It prints the resolver's own reason only if the modules left no errno.
    """
    with nobody() as port:
        real, ours = same_failure(["-c", host, "-p", str(port), "--connect-timeout", "3000"])
    assert real.startswith(f"{_UNABLE}: ")
    assert ours.startswith(f"{_UNABLE} - server may have stopped running")
    assert ours.endswith(f": {no_address(host)}")


def test_connect_timeout() -> None:
    with deaf() as port:
        words = ["-c", "127.0.0.1", "-p", str(port), "--connect-timeout", "300"]
        real, ours = same_failure(words)
    assert real.startswith(f"{_UNABLE}: ")
    assert ours.startswith(f"{_UNABLE} - ")
    assert ours.endswith(": Connection timed out")


def test_without_the_congestion_control() -> None:
    with server() as running:
        words = ["-c", "127.0.0.1", "-p", str(running.port), "-C", "nosuch"]
        real = run(REAL, *words)
        running.wait_listening()
        ours = run(OURS, *words)
    assert (real.code, ours.code) == (1, 1)
    assert ours.err == real.err


def test_a_window_that_is_not_to_be_had() -> None:
    with server() as running:
        words = ["-c", "127.0.0.1", "-p", str(running.port), "-w", "500M"]
        real = run(REAL, *words)
        running.wait_listening()
        ours = run(OURS, *words)
    assert (real.code, ours.code) == (1, 1)
    assert ours.err == real.err == "iperf3: error - socket buffer size not set correctly\n"


def _after_the_cookie(answer: bytes) -> Callable[[Peer], None]:
    def script(peer: Peer) -> None:
        peer.count(37)
        peer.send(answer)

    return script


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "control socket has closed unexpectedly"),
        (b"\xff", "the server is busy running a test. try again later"),
        (b"\x0b", "the server has terminated"),
        (b"\xfe\0\0\0\x1b\0\0\0\0", "total required bandwidth is larger than server limit"),
        (b"\xfe\0\0\0\x8e", "test authorization failed"),
    ],
)
def test_a_server_that_ends_it(answer: bytes, sentence: str) -> None:
    with Scripted(_after_the_cookie(answer)) as scripted:
        words = ["-c", "127.0.0.1", "-p", str(scripted.port)]
        real, ours = both(*words)
        document = run(OURS, *words, "-J")
    expected = f"iperf3: error - {sentence}\n"
    assert (ours.code, ours.err) == (1, expected)
    if len(answer) != 5:  # 3.12 does not understand the short form that its own server sends
        assert (real.code, real.err) == (1, expected)
    assert (document.code, document.err) == (1, "")
    assert json.loads(document.out)["error"] == sentence
    assert json.loads(document.out)["end"] == {}


def _silent_server() -> Callable[[Peer], None]:
    """Open the streams of a TCP test, let it run, and send nothing more."""
    opened = threading.Event()

    def script(peer: Peer) -> None:
        peer.count(37)
        if peer.number > 0:
            opened.set()
            peer.hold()
            return
        peer.send(b"\x09")
        _read(peer, int.from_bytes(_read(peer, 4), "big"))
        peer.send(b"\x0a")
        while not opened.wait(0.01):
            if peer.ending.is_set():
                return
        peer.send(b"\x01\x02")
        peer.hold()

    return script


def _read(peer: Peer, size: int) -> bytes:
    data = b""
    while len(data) < size:
        data += peer.receive()
    peer.buffer = data[size:]
    return data[:size]


def test_a_server_that_sends_nothing() -> None:
    with Scripted(_silent_server()) as scripted:
        real = run(REAL, "-c", "127.0.0.1", "-p", str(scripted.port), "-R", "--rcv-timeout", "400")
    with Scripted(_silent_server()) as scripted:
        ours = run(OURS, "-c", "127.0.0.1", "-p", str(scripted.port), "-R", "--rcv-timeout", "400")
    assert (real.code, ours.code) == (1, 1)
    assert ours.err == real.err == "iperf3: error - idle timeout for receiving data\n"


def test_a_server_that_does_not_answer_datagrams() -> None:
    with Scripted(_silent_server(), port=free_port()) as scripted:
        words = ("-c", "127.0.0.1", "-p", str(scripted.port), "-u", "--connect-timeout", "500")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as silent:
            silent.bind(("127.0.0.1", scripted.port))
            ran = run(OURS, *words)
    sentence = "unable to read from stream socket: Resource temporarily unavailable"
    assert (ran.code, ran.err) == (1, f"iperf3: error - {sentence}\n")


@pytest.mark.parametrize(
    ("said", "sentence"),
    [
        (b"", "the client has unexpectedly closed the connection"),
        (b"\0\0\0\x02{]", "error - unable to receive parameters from client: "),
        (b'\0\0\0\x10{"parallel":999}', "error - invalid number of parallel streams"),
    ],
)
def test_a_client_that_asks_for_nothing_good(said: bytes, sentence: str) -> None:
    with server(program=OURS) as running:
        with socket.create_connection(("127.0.0.1", running.port)) as sock:
            sock.sendall(b"a" * 36 + b"\0")
            assert sock.recv(1) == b"\x09"
            sock.sendall(said)
            if said:
                assert sock.recv(1) == b"\xfe"
        assert census.settle(lambda: "(test #2)" in running.output, 30)
        assert f"\niperf3: {sentence}" in running.output


def test_a_server_of_something_else() -> None:
    with Scripted(_after_the_cookie(b"\x7f")) as scripted:
        words = ["-c", "127.0.0.1", "-p", str(scripted.port)]
        real, ours = both(*words)
    assert (real.code, ours.code) == (1, 1)
    sentence = "iperf3: error - received an unknown control message"
    assert real.err.strip() == sentence
    assert ours.err == f"{sentence} (ensure other side is iperf3 and not iperf)\n"


def test_json_of_a_refused_connection() -> None:
    with nobody() as port:
        real, ours = both("-c", "127.0.0.1", "-p", str(port), "-J")
    assert (real.code, ours.code) == (0, 1)  # 3.12's 0 was mended in 3.14
    assert (real.err, ours.err) == ("", "")
    theirs, document = json.loads(real.out), json.loads(ours.out)
    assert list(document) == list(theirs) == ["start", "intervals", "end", "error"]
    assert list(document["start"]) == list(theirs["start"])
    assert (document["intervals"], document["end"]) == ([], {})
    assert document["error"].startswith("unable to connect to server - ")
    assert document["error"].endswith(": Connection refused")
    assert ours.out.startswith("{\n\t")
    assert ours.out.endswith("\n}\n")


def test_events_of_a_refused_connection() -> None:
    with nobody() as port:
        ran = run(OURS, "-c", "127.0.0.1", "-p", str(port), "--json-stream")
    events = [json.loads(line) for line in ran.out.splitlines()]
    assert (ran.code, ran.err) == (1, "")
    assert [event["event"] for event in events] == ["error", "end"]
    assert events[0]["data"].endswith(": Connection refused")
    assert events[1]["data"] == {}


def test_a_busy_server() -> None:
    """Each program's server is busy with a client of the other kind."""
    for program, other in ((REAL, OURS), (OURS, REAL)):
        with server(program=program) as running:
            port = str(running.port)
            first = warm.start(
                (*other, "-c", "127.0.0.1", "-p", port, "-t", "30"),
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                text=True,
            )
            try:
                assert first.stdout is not None
                if other is OURS:
                    assert first.stdout.readline().startswith("Connecting to host")
                else:
                    _until_accepted(running)
                ran = run(OURS, "-c", "127.0.0.1", "-p", port)
                assert ran == (
                    1,
                    "",
                    "iperf3: error - the server is busy running a test. try again later\n",
                )
            finally:
                first.kill()
                first.communicate()


def _until_accepted(running: Server) -> None:
    assert census.settle(lambda: "connected to" in running.output, 30)


def test_a_server_whose_port_is_taken() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        words = ["-s", "-B", "127.0.0.1", "-p", str(other.getsockname()[1])]
        real, ours = both(*words)
        document = run(OURS, *words, "-J")
    assert ours == real
    assert ours.err.splitlines() == [
        "iperf3: error - unable to start listener for connections: Address already in use",
        "iperf3: exiting",
    ]
    assert (document.code, document.err) == (1, "")
    assert json.loads(document.out)["error"] == (
        "error - unable to start listener for connections: Address already in use"
    )


@pytest.mark.parametrize(
    "option",
    [["-B", "192.0.2.9"], ["--bind-dev", "nodev"]],
    ids=" ".join,
)
def test_where_a_server_can_not_listen(option: list[str]) -> None:
    with nobody() as port:
        real, ours = both("-s", "-p", str(port), *option)
    assert (real.code, ours) == (1, real)


def test_a_name_where_a_server_can_not_listen() -> None:
    """For the real one's reason, see `test_a_name_without_an_address`."""
    with nobody() as port:
        real, ours = both("-s", "-p", str(port), "-B", "nowhere.invalid")
    assert (ours.code, ours.out) == (real.code, real.out) == (1, "")
    begins = "iperf3: error - unable to start listener for connections: "
    assert real.err.startswith(begins)
    assert ours.err == f"{begins}{no_address('nowhere.invalid')}\niperf3: exiting\n"


@pytest.mark.parametrize("end", [["-s", "-B", "127.0.0.1"], ["-c", "127.0.0.1"]], ids=str)
def test_a_fifo_is_refused_before_anything_begins(end: list[str], tmp_path: Path) -> None:
    """Opening a FIFO waits for its other end, and streams read and write at offsets of their
    own."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    with nobody() as port:
        ours = run(OURS, *end, "-p", str(port), "-F", str(fifo))
    assert (ours.code, ours.out) == (1, "")
    assert ours.err.count("\n") == 1
    assert f"{fifo}: it is a FIFO or a socket, not a regular file" in ours.err


@pytest.mark.parametrize("end", [["-s"], ["-c", "127.0.0.1"]], ids=["server", "client"])
@pytest.mark.parametrize(
    "option", [["--logfile", "/nowhere/x"], ["-I", "/nowhere/x"], ["-A", "900"]], ids=" ".join
)
def test_what_this_host_does_not_have(end: list[str], option: list[str]) -> None:
    with nobody() as port:
        real, ours = both(*end, *option, "-p", str(port))
    assert (real.code, real.out) == (ours.code, ours.out) == (1, "")
    assert ours.err.splitlines()[0] == real.err.splitlines()[0]


def test_errors_go_to_the_log_file(tmp_path: Path) -> None:
    logs = [tmp_path / "real", tmp_path / "ours"]
    with nobody() as port:
        for program, log in zip((REAL, OURS), logs, strict=True):
            words = ["-c", "127.0.0.1", "-p", str(port), "--logfile", str(log), "--timestamps=%Y "]
            assert run(program, *words) == (1, "", "")
    for log in logs:
        assert "iperf3: error - unable to connect to server" in log.read_text()
    assert logs[1].read_text().startswith("20")  # 3.12 takes its own format here
