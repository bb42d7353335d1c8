"""Test HTTP redirects: their targets, their limit, and which secrets are sent to the target."""

from __future__ import annotations

import pytest

import netmeasure as nm
from support.held import steps
from support.optional import known
from support.scripted import Peer, Scripted
from support.transfers import (
    RunLoop,
    measured,
    moved,
    refused,
    transfer,
)
from support.web import Web, answering, basic, head, request


@pytest.mark.parametrize("status", [301, 307])
@pytest.mark.parametrize(
    ("location", "path"),
    [("/there", "/there"), ("there?a=1", "/a/there?a=1"), ("../there", "/there"), ("", None)],
)
def test_a_redirect_on_one_server(
    run_once: RunLoop, status: int, location: str, path: str | None
) -> None:
    asked = []

    def script(peer: Peer) -> None:
        asked.append(request(peer).path)
        if len(asked) == 1:
            target = location or f"http://localhost:{server.port}/elsewhere"
            peer.send(head(f"{status} Moved", f"Location: {target}", "Content-Length: 4"), b"gone")
        else:
            peer.send(head("200 OK", "Content-Length: 5"), b"hello")

    with Scripted(script) as server:
        pin = f"localhost:{server.port}:127.0.0.1"
        result = measured(run_once, server.url("/a/b"), pins=(pin,))
    assert asked == ["/a/b", path or "/elsewhere"]
    assert moved(result) == 5
    assert transfer(result).redirects == 1
    assert transfer(result).url.endswith(asked[1])
    names = steps(result)
    hop = ["resolve", "connect", "request", "first_byte"]
    assert names == [*hop, "redirect", *hop]
    (redirect,) = (phase for phase in result.setup if phase.name == "redirect")
    assert known(redirect.detail).startswith(f"{status} to http://")


def test_a_redirect_to_another_server(run: RunLoop) -> None:
    with Web(70_000) as there:
        moved_there = head("302 Found", f"Location: {there.url('/b')}", "Content-Length: 0")
        with Scripted(answering(moved_there)) as here:
            result = measured(run, here.url("/a"))
    assert moved(result) == 70_000
    assert transfer(result).url == there.url("/b")
    addresses = [phase.address for phase in result.setup if phase.name == "connect"]
    assert addresses == [here.address, there.address]


def test_a_circle_of_redirects_ends(run: RunLoop) -> None:
    asked = []

    def script(peer: Peer) -> None:
        asked.append(request(peer))
        peer.send(head("302 Found", "Location: /file", "Content-Length: 0"))

    with Scripted(script) as server:
        error = refused(run, server.url(), max_redirects=4)
    assert type(error) is nm.RemoteProtocolError
    assert "more than 4 redirects" in str(error)
    assert error.phase == "request"
    assert error.hint
    assert len(asked) == 5


@pytest.mark.parametrize("target", ["ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "//"])
def test_a_redirect_to_no_http_server(run_once: RunLoop, target: str) -> None:
    with Scripted(answering(head("302 Found", f"Location: {target}"))) as server:
        error = refused(run_once, server.url())
    assert isinstance(error, nm.RemoteProtocolError | nm.SpecError | nm.NameNotFoundError)
    assert error.phase == "request"


@pytest.mark.parametrize("target", ["http://127.0.0.1:99999/", "http://[::1/", "http://a:b/"])
def test_a_redirect_to_an_invalid_url(run_once: RunLoop, target: str) -> None:
    with Scripted(answering(head("302 Found", f"Location: {target}"))) as server:
        error = refused(run_once, server.url())
    assert type(error) is nm.RemoteProtocolError
    assert error.phase == "request"


def test_a_redirect_that_does_not_say_where_to(run: RunLoop) -> None:
    with Scripted(answering(head("302 Found", "Content-Length: 0"))) as server:
        error = refused(run, server.url())
    assert type(error) is nm.FileRefusedError
    assert "302 Found" in str(error)


def test_credentials_do_not_follow_to_another_server(run_once: RunLoop) -> None:
    """A redirect to another server must not give that server the password."""
    secrets = ("Authorization: Bearer secret", "Cookie: secret")
    for options in ({"user": "anna", "password": "secret"}, {"headers": secrets}):
        with Web(10) as there:
            away = head("302 Found", f"Location: {there.url()}", "Content-Length: 0")
            with Scripted(answering(away)) as here:
                measured(run_once, here.url(), **options)
        (asked,) = there.requests
        assert "secret" not in str(asked)
        assert "authorization" not in asked.headers


def test_credentials_of_the_url_hold_on_the_same_server(run: RunLoop) -> None:
    seen = []

    def script(peer: Peer) -> None:
        asked = request(peer)
        seen.append(asked.headers.get("authorization"))
        if asked.path == "/a":
            peer.send(head("302 Found", "Location: /b", "Content-Length: 0"))
        else:
            peer.send(head("200 OK", "Content-Length: 1"), b"x")

    with Scripted(script) as server:
        measured(run, f"http://anna:secret@{server.address}/a")
    assert seen == [basic("anna", "secret")] * 2
