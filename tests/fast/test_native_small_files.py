"""The native parser of simple requests, and the arguments of the loop that answers them."""

from __future__ import annotations

import os
import select
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, strategies as st

from netmeasure._fast.small_files import SmallFiles, simple_request, simple_size
from netmeasure.clock import SECOND_NS
from netmeasure.origins.catalog import size_of
from support.census import settle
from support.tcp_rig import PATIENCE_S, tcp_pair

MOST = 256 * 1024
LIMIT = 2**63
HEAD = b"GET /1K.dat HTTP/1.1\r\nHost: a\r\n\r\n"

#: Texts that are nearly names, or names.
_names = st.one_of(
    st.text(),
    st.from_regex(r"[0-9]{1,12}[bBkKmMgGiI]{0,3}(\.[a-zA-Z]{0,9})?", fullmatch=True),
    st.from_regex(r"bytes/[0-9]{0,21}", fullmatch=True),
    st.text("0123456789.bBkKiIm/\n", max_size=8),
)


@given(_names)
def test_a_simple_size_is_the_size_of_the_catalog(name: str) -> None:
    size = simple_size(f"/{name}".encode())
    assert size is None or size == size_of(f"/{name}", LIMIT)


@given(
    st.integers(0, MOST),
    st.sampled_from(["", "b", "B", "k", "K", "kB", "KB", "KiB", "kib"]),
    st.sampled_from(["", ".dat", ".b", ".Abcdefgh"]),
)
def test_the_usual_names_are_simple(number: int, unit: str, extension: str) -> None:
    path = f"/{number}{unit}{extension}"
    assert simple_size(path.encode()) == size_of(path, LIMIT)
    assert simple_size(b"/bytes/%d" % number) == number


@pytest.mark.parametrize("path", ["/1K.abcdefghi", "/1K.", "/1K.d4", "/1K.a.b", "/1KK", "/1Kib/"])
def test_names_that_the_catalog_does_not_have(path: str) -> None:
    assert simple_size(path.encode()) is size_of(path, LIMIT) is None


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (HEAD, (len(HEAD), 1024, False)),
        (HEAD.replace(b"GET", b"HEAD"), (len(HEAD) + 1, 1024, True)),
        (HEAD + b"anything", (len(HEAD), 1024, False)),
        (HEAD.replace(b"Host: a", b"hOST:[::1]:80 "), (len(HEAD) + 7, 1024, False)),
        (b"GET /bytes/262144 HTTP/1.1\r\nHost: a\r\n\r\n", (39, MOST, False)),
    ],
)
def test_a_simple_request(text: bytes, found: tuple[int, int, bool]) -> None:
    assert simple_request(text, MOST) == found


@pytest.mark.parametrize(
    "line",
    [
        "User-Agent: curl/8.14",
        "Accept: */*",
        "Accept-Encoding: gzip, deflate",
        "Accept-Language: en",
        "Cache-Control: no-cache",
        "Pragma: no-cache",
        "Referer: http://a/b?c#d",
        "Connection: keep-alive",
        "CONNECTION:Keep-Alive ",
        "Accept:",
    ],
)
def test_fields_that_change_nothing(line: str) -> None:
    text = HEAD[:-2] + line.encode() + b"\r\n\r\n"
    assert simple_request(text, MOST) == (len(text), 1024, False)
    twice = HEAD[:-2] + 2 * (line.encode() + b"\r\n") + b"\r\n"
    assert simple_request(twice, MOST) is None


@pytest.mark.parametrize(
    "line",
    [
        "Range: bytes=0-1",
        "If-Range: x",
        "Expect: 100-continue",
        "Content-Length: 0",
        "Transfer-Encoding: chunked",
        "Content-Encoding: gzip",
        "Upgrade: websocket",
        "Connection: close",
        "Connection: keep-alive, Upgrade",
        "Connection:",
        "Host: a",  # the second one
        "Unknown: x",
        "Accept: \x7f",
        "Accept: \t",
        "Accept: \xe4",
        "Accept: \0",
        "Accept : x",
        " folded",
        "no colon",
        "Accept: x\ry",
        "Accept: x\ny",
    ],
)
def test_fields_that_are_not_simple(line: str) -> None:
    assert simple_request(HEAD[:-2] + line.encode("latin-1") + b"\r\n\r\n", MOST) is None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"get /1K HTTP/1.1\r\nHost: a\r\n\r\n",
        b"POST /1K HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET  /1K HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /1K HTTP/1.0\r\nHost: a\r\n\r\n",
        b"GET /1K HTTP/1.1\nHost: a\n\n",
        b"GET /1K HTTP/1.1\r\n\r\n",
        b"GET /1K HTTP/1.1\r\nHost: \r\n\r\n",
        b"GET /1K HTTP/1.1\r\nHost: a/b\r\n\r\n",
        b"GET /1K?x HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /%31K HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET http://a/1K HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /bytes/262145 HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /1M HTTP/1.1\r\nHost: a\r\n\r\n",
        b"\r\nGET /1K HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /1K HTTP/1.1\r\nHost: a\r\nReferer: " + b"x" * 2048 + b"\r\n\r\n",
    ],
)
def test_what_is_not_simple(text: bytes) -> None:
    assert simple_request(text, MOST) is None


def test_a_part_of_a_head_is_not_simple() -> None:
    assert [n for n in range(len(HEAD) + 1) if simple_request(HEAD[:n], MOST)] == [len(HEAD)]


# ---- the loop -----------------------------------------------------------------------------------

CONTENT = bytes(range(256)) * 4
WORDS = (b"HTTP/1.1 200 OK\r\nContent-Length: ", b"\r\nDate: ", b"\r\nServer: x\r\n\r\n")


@pytest.fixture
def served() -> Iterator[SmallFiles]:
    files = SmallFiles(
        CONTENT, most=len(CONTENT), head=WORDS, idle_ns=60 * SECOND_NS, stall_ns=60 * SECOND_NS
    )
    thread = threading.Thread(target=files.run)
    thread.start()
    yield files
    files.stop()
    thread.join(PATIENCE_S)
    assert not thread.is_alive()
    files.close()
    assert files.connections == 0


def handed_over(files: SmallFiles) -> list[int]:
    assert select.select([files], [], [], PATIENCE_S)[0]
    return files.handed_over()


def test_requests_are_answered_and_a_connection_is_handed_over(served: SmallFiles) -> None:
    left, right = tcp_pair()
    right.setblocking(False)
    number = right.detach()
    served.add(number)
    with left:
        left.settimeout(PATIENCE_S)
        for _ in range(3):
            left.sendall(HEAD)
            received = b""
            while not received.endswith(CONTENT):
                received += left.recv(4096)
            assert received.startswith(b"HTTP/1.1 200 OK\r\nContent-Length: 1024\r\nDate: ")
        # a response is counted after its sending
        assert settle(lambda: (served.connections, served.answered) == (1, 3))
        left.sendall(b"PUT")
        assert handed_over(served) == [number]
        assert (served.connections, served.handed_over()) == (0, [])
        with socket.socket(fileno=number) as back:
            assert back.recv(9) == b"PUT"


def answer(left: socket.socket) -> bytes:
    left.sendall(HEAD)
    received = b""
    while not received.endswith(CONTENT):
        received += left.recv(4096)
    return received


def test_a_connection_that_a_forked_child_holds_too_can_end(served: SmallFiles) -> None:
    """A descriptor in a child, as this one, keeps the connection in an epoll set after close(): its
    events named memory that was freed."""
    left, right = tcp_pair()
    right.setblocking(False)
    with right.dup():
        served.add(right.detach())
        with left:
            left.settimeout(PATIENCE_S)
            assert answer(left)
        assert settle(lambda: served.connections == 0)
        for _ in range(20):  # memory is used again, and no event of the ended connection comes
            other, its_end = tcp_pair()
            its_end.setblocking(False)
            served.add(its_end.detach())
            with other:
                other.settimeout(PATIENCE_S)
                assert answer(other)
        assert settle(lambda: (served.connections, served.answered) == (0, 21))


def test_what_the_kernel_cannot_wait_for_is_handed_over(served: SmallFiles, tmp_path: Path) -> None:
    number = os.open(tmp_path / "file", os.O_CREAT | os.O_RDWR)  # epoll_ctl(2) refuses it
    served.add(number)
    assert handed_over(served) == [number]
    os.close(number)


def test_arguments_are_checked() -> None:
    right = {"most": 5, "head": (b"", b"", b""), "idle_ns": 1, "stall_ns": 1}
    SmallFiles(bytes(5), **right).close()  # type: ignore[arg-type]
    for wrong in (
        {"most": 6},
        {"idle_ns": 0},
        {"stall_ns": 0},
        {"head": (bytes(200), bytes(80), b"")},
    ):
        with pytest.raises(ValueError, match=r"."):
            SmallFiles(bytes(5), **{**right, **wrong})  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        SmallFiles(bytes(5), **{**right, "head": (None, b"", b"")})  # type: ignore[arg-type]
