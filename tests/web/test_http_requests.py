"""Test HTTP requests: their lines and headers, proxies, and responses that refuse them."""

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

# ---- ranges, refusals, requests ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "size"),
    [
        (0, 0, 1),
        (0, None, 100_000),
        (10, 19, 10),
        (99_999, None, 1),
        (None, 4, 5),
        (50_000, 10**9, 50_000),
    ],
)
def test_a_part_of_a_file(
    run_once: RunLoop, first: int | None, last: int | None, size: int
) -> None:
    with Web(100_000) as web:
        result = measured(run_once, web.url(), first_byte=first, last_byte=last)
    assert moved(result) == size
    assert transfer(result).status == 206
    assert web.requests[0].headers["range"] == f"bytes={first or 0}-{'' if last is None else last}"


def test_a_server_that_ignores_the_range(run: RunLoop) -> None:
    with Scripted(answering(head("200 OK", "Content-Length: 10"), bytes(10))) as server:
        error = refused(run, server.url(), first_byte=5)
    assert type(error) is nm.FileRefusedError
    assert "ignores the range" in str(error)


@pytest.mark.parametrize(
    ("status", "hint"),
    [
        ("401 Unauthorized", "user and a password"),
        ("403 Forbidden", "user and a password"),
        ("404 Not Found", "path"),
        ("405 Method Not Allowed", "no uploads"),
        ("416 Range Not Satisfiable", "shorter"),
        ("500 Internal Server Error", "server's log"),
        ("503 Service Unavailable", "server's log"),
        ("304 Not Modified", ""),
    ],
)
def test_a_server_that_refuses(run_once: RunLoop, status: str, hint: str) -> None:
    answer = head(status, "Content-Length: 2", "WWW-Authenticate: Basic"), b"no"
    with Scripted(answering(*answer)) as server:
        error = refused(run_once, server.url("/secret"))
    assert type(error) is nm.FileRefusedError
    assert status in str(error)
    assert (error.code, error.phase) == ("file_refused", "request")
    assert hint in (error.hint or "")
    assert steps(error.result) == ["resolve", "connect", "request", "first_byte"]


def test_the_request(run: RunLoop) -> None:
    headers = ("X-One: 1", "user-agent: curl/8", "Accept-Encoding:gzip")
    with Web(1) as web:
        measured(run, web.url("/a%20b?c=d%26"), headers=headers, method="POST")
    (asked,) = web.requests
    assert (asked.method, asked.path) == ("POST", "/a%20b?c=d%26")
    assert asked.headers["host"] == web.address
    assert asked.headers["x-one"] == "1"
    assert asked.headers["user-agent"] == "curl/8"
    assert asked.headers["accept-encoding"] == "gzip"
    assert "authorization" not in asked.headers


def test_the_request_without_options(run: RunLoop) -> None:
    with Web(1) as web:
        measured(run, web.url())
    (asked,) = web.requests
    assert asked.method == "GET"
    assert asked.headers["user-agent"].startswith("netmeasure/")
    assert asked.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("in_url", "user", "password", "sent"),
    [
        ("", "anna", "secret", ("anna", "secret")),
        ("", "anna", None, ("anna", "")),
        ("bert:word@", None, None, ("bert", "word")),
        ("bert:word@", "anna", "secret", ("bert", "word")),
        ("bert@", None, "secret", ("bert", "secret")),
        ("b%40rt:w%3Ard@", None, None, ("b@rt", "w:rd")),
    ],
)
def test_user_and_password(
    run_once: RunLoop, in_url: str, user: str | None, password: str | None, sent: tuple[str, str]
) -> None:
    with Web(1) as web:
        url = web.url().replace("//", f"//{in_url}")
        result = measured(run_once, url, user=user, password=password)
    assert web.requests[0].headers["authorization"] == basic(*sent)
    assert result.target == transfer(result).url == web.url()


def test_no_secret_is_kept(run_once: RunLoop) -> None:
    headers = ("Authorization: Bearer pssst", "Cookie: pssst", "PROXY-Authorization : pssst")
    asked = []

    def script(peer: Peer) -> None:
        asked.append(request(peer))
        if len(asked) == 1:
            there = server.url("/there").replace("//", "//bert:pssst@")
            peer.send(head("302 Found", f"Location: {there}", "Content-Length: 0"))
        elif len(asked) == 2:
            peer.send(head("200 OK", "Content-Length: 5"), b"hello")
        else:
            peer.send(head("200 OK", "Content-Length: 5"), b"hell")

    with Scripted(script) as server:
        url = server.url().replace("//", "//anna:pssst@")
        good = measured(run_once, url, headers=headers, user="carl", password="pssst")
        bad = refused(run_once, url, headers=headers)
    for text in (good.to_json().decode(), bad.result.to_json().decode(), str(bad)):
        assert "pssst" not in text
        assert isinstance(good.spec, nm.HttpSpec)
        assert good.spec.user == "carl"


@pytest.mark.parametrize(
    "target", ["ftp://anna:pssst@h/", "http://anna:pssst@127.0.0.1:99999/", "http://anna:pssst@[/"]
)
def test_no_secret_in_the_refusal_of_a_redirect(run_once: RunLoop, target: str) -> None:
    with Scripted(answering(head("302 Found", f"Location: {target}"))) as server:
        error = refused(run_once, server.url().replace("//", "//anna:pssst@"))
    assert "pssst" not in str(error)
    assert "pssst" not in error.result.to_json().decode()


# ---- where the server is -------------------------------------------------------------------------


def test_a_pin_replaces_the_look_up(run: RunLoop) -> None:
    with Web(10) as web:
        pins = ("other.invalid:80:192.0.2.1", f"Files.invalid:{web.port}:127.0.0.1")
        result = measured(run, f"http://files.INVALID:{web.port}/x", pins=pins)
    assert moved(result) == 10
    assert web.requests[0].headers["host"] == f"files.invalid:{web.port}"
    (connect,) = (phase for phase in result.setup if phase.name == "connect")
    assert connect.address == web.address


def test_a_pin_of_another_port_does_not_count(run: RunLoop) -> None:
    error = refused(run, "http://files.invalid:81/", pins=("files.invalid:80:127.0.0.1",))
    assert type(error) is nm.NameNotFoundError


@pytest.mark.parametrize("pinned", [False, True])
def test_ipv6(run: RunLoop, pinned: bool) -> None:
    with Web(100_000, host="::1") as web:
        pins = (f"six.invalid:{web.port}:[::1]",) if pinned else ()
        url = f"http://six.invalid:{web.port}/" if pinned else web.url()
        result = measured(run, url, pins=pins)
    assert moved(result) == 100_000
    assert known(result.client.streams[0].socket).remote == web.address
