"""Check what a terminal of 80x24 shows while a server of HTTP or FTP accepts the connection but
stays silent, and what Ctrl-C says then."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable

import pytest

from netmeasure.cli.exits import Exit
from support.ftp import Ftp
from support.screen import COLUMNS, terminal
from support.scripted import Peer, Scripted
from support.web import head, request

PROGRAM = (sys.executable, "-m", "netmeasure")


def silent(peer: Peer) -> None:
    peer.hold()


def only_a_head(peer: Peer) -> None:
    request(peer)
    peer.send(head("200 OK", "Content-Length: 1000000"))
    peer.hold()


def only_a_head_of_chunks(peer: Peer) -> None:
    request(peer)
    peer.send(head("200 OK", "Transfer-Encoding: chunked"))
    peer.hold()


def redirects_to_silence(peer: Peer) -> None:
    if peer.number == 0:
        request(peer)
        peer.send(head("302 Found", "Location: /elsewhere", "Content-Length: 0"))
    peer.hold()


def takes_a_body(peer: Peer) -> None:
    peer.count(1000)
    peer.hold()


NO_ANSWER = "the request is sent, no answer has come (stream 1)"
NO_DATA = "the answer has begun, but no data have come (stream 1)"
NO_LAST_REPLY = "the data are over, no final reply has come (stream 1)"
UPLOAD = ("-d", "upload", "-n", "1000")


@pytest.mark.parametrize(
    ("script", "scheme", "words", "told"),
    [
        (silent, "http", (), NO_ANSWER),
        (redirects_to_silence, "http", (), NO_ANSWER),
        (silent, "https", (), "agreeing on TLS (stream 1)"),
        (only_a_head, "http", (), NO_DATA),
        (only_a_head_of_chunks, "http", (), NO_DATA),
        (silent, "http", ("--requests",), "requests are sent, no response has come"),
        (silent, "https", UPLOAD, "agreeing on TLS (stream 1)"),
        (takes_a_body, "http", UPLOAD, NO_LAST_REPLY),
    ],
)
def test_a_silent_server_of_http(
    script: Callable[[Peer], None], scheme: str, words: tuple[str, ...], told: str
) -> None:
    with Scripted(script) as server:
        assert_told(server.url(scheme=scheme), words, told)


def test_a_silent_data_connection_of_ftp() -> None:
    with Ftp(1000, data=silent) as server:
        assert_told(server.url(), (), "no data have come (stream 1)")


@pytest.mark.parametrize("words", [(), UPLOAD], ids=["download", "upload"])
def test_a_last_reply_of_ftp_that_does_not_come(words: tuple[str, ...]) -> None:
    with Ftp(1000, answers={"final": silent}) as server:
        assert_told(server.url(), words, NO_LAST_REPLY)


def test_a_silent_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    with Scripted(silent) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url("/"))
        told = "connected, but the proxy has not answered (stream 1)"
        assert_told("https://far.test/", ("--proxy",), told)


def assert_told(url: str, words: tuple[str, ...], told: str) -> None:
    """Check that the block says what the program waits for, and how long, and that Ctrl-C says the
    same."""
    sentence = r"waiting for \d+\.\d s: " + re.escape(told)
    with terminal([*PROGRAM, "client", url, *words]) as one:
        during = one.shows(rf"(?m)^{sentence}$")
        assert max(map(len, during.splitlines())) <= COLUMNS
        one.ctrl_c()
        code = one.end()
        after = " ".join(one.paper.text.split())
    assert code == Exit.INTERRUPTED
    # a report follows once a body has begun, for it holds what the head says
    assert re.match(f"netmeasure: ended by the user, {sentence}( |$)", after), after
