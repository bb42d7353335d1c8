"""Test transfers by FTP, with the real vsftpd and with a server of our own: exact to the byte."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from typing import Any

import pytest

import netmeasure as nm
from support import certificates, servers
from support.ftp import Ftp
from support.held import steps
from support.optional import known
from support.scripted import Peer
from support.transfers import MIB, SIZES, RunLoop, measured, moved, needs_openssl, spec, transfer
from support.web import send_body

#: Numbers as names of uploads, since vsftpd refuses to overwrite a file.
NUMBERS = itertools.count()
LOG_IN = ["resolve", "connect", "greeting", "login", "type"]
FETCH = ["size", "passive", "connect", "transfer_start"]
needs_vsftpd = pytest.mark.skipif(
    servers.available("vsftpd") is not None, reason="vsftpd not installed"
)


# ---- the real server --------------------------------------------------------------------------


@pytest.fixture(scope="module")
def real() -> Iterator[servers.FileServer]:
    with servers.vsftpd() as server:
        yield server


@needs_vsftpd
@pytest.mark.parametrize("passive", ["epsv", "pasv"])
@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_a_real_server(
    run: RunLoop, real: servers.FileServer, size: int, passive: str
) -> None:
    real.add("file", size)
    result = measured(run, real.url("file"), passive=passive)
    assert moved(result) == size
    facts = transfer(result)
    assert (facts.protocol, facts.status, facts.content_bytes) == ("FTP", 226, size)
    assert "vsFTPd" in facts.server
    assert facts.drained_by == ("native" if size else None)


@needs_vsftpd
@pytest.mark.parametrize("size", [1, 65_536, 10 * MIB + 1])
def test_an_upload_to_a_real_server(run: RunLoop, real: servers.FileServer, size: int) -> None:
    name = f"up/{next(NUMBERS)}"
    result = measured(run, real.url(name), direction="upload", total_bytes=size)
    assert moved(result) == size == (real.root / name).stat().st_size
    assert transfer(result).status == 226


@needs_vsftpd
def test_an_upload_for_a_time_to_a_real_server(run: RunLoop, real: servers.FileServer) -> None:
    name = f"up/{next(NUMBERS)}"
    result = measured(run, real.url(name), direction="upload", duration_s=0.2)
    assert moved(result) == (real.root / name).stat().st_size > 0


@needs_vsftpd
@pytest.mark.parametrize("kept", [False, True])
def test_repeats_on_a_real_server(run: RunLoop, real: servers.FileServer, kept: bool) -> None:
    real.add("small", 5000)
    options = {"repeat": True, "keep_connections": kept, "total_bytes": 17_000}
    result = measured(run, real.url("small"), **options)
    assert moved(result) == 17_000
    assert transfer(result).transfers == 4


@needs_vsftpd
def test_a_part_of_a_file_of_a_real_server(run: RunLoop, real: servers.FileServer) -> None:
    real.add("part", 100_000)
    assert moved(measured(run, real.url("part"), first_byte=99_000)) == 1000
    assert moved(measured(run, real.url("part"), first_byte=10, last_byte=19)) == 10


@needs_vsftpd
def test_a_file_that_a_real_server_does_not_have(run: RunLoop, real: servers.FileServer) -> None:
    with pytest.raises(nm.FileRefusedError) as caught:
        run(nm.measure(real.url("nothing"), nm.FtpSpec()))
    assert re.search(r"\b550\b", str(caught.value))
    assert caught.value.phase == "transfer_start"


# ---- our own server ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", SIZES)
def test_a_file_of_some_size(run: RunLoop, size: int) -> None:
    with Ftp(size) as server:
        result = measured(run, server.url("/a%20b/c"))
    assert moved(result) == size == server.sent
    assert [c for c in server.commands if c[:4] in ("USER", "PASS", "TYPE", "SIZE", "RETR")] == [
        "USER anonymous",
        "PASS netmeasure@",
        "TYPE I",
        "SIZE a b/c",
        "RETR a b/c",
    ]
    names = steps(result)
    assert names == [*LOG_IN, *FETCH, *(["first_byte"] if size else []), "final_reply"]
    assert transfer(result).server == "scripted server"


def test_ipv6(run: RunLoop) -> None:
    with Ftp(70_000, host="::1") as server:
        assert moved(measured(run, server.url())) == 70_000


@pytest.mark.parametrize("refusal", ["500 what?", "502 not here", "522 no protocol"])
def test_a_server_without_epsv(run: RunLoop, refusal: str) -> None:
    """The server is asked for EPSV once, and not again on the same connection."""
    with Ftp(1000, answers={"EPSV": refusal}) as server:
        options = {"repeat": True, "keep_connections": True, "total_bytes": 3000}
        result = measured(run, server.url(), **options)
    assert moved(result) == 3000
    assert (server.did("EPSV"), server.did("PASV")) == (1, 3)


def test_an_address_of_another_host_is_ignored(run: RunLoop) -> None:
    def lies(peer: Peer) -> None:
        listener = server._more[-1]
        port = listener.getsockname()[1]
        peer.send(f"227 Passive (192,0,2,1,{port >> 8},{port & 255})\r\n".encode())

    with Ftp(1000, answers={"PASV": lies}) as server:
        result = measured(run, server.url(), passive="pasv")
    assert moved(result) == 1000
    assert known(known(result.client.streams[0].socket).remote).startswith("127.0.0.1:")


def test_a_server_that_does_not_know_sizes(run: RunLoop) -> None:
    with Ftp(100_000, answers={"SIZE": "502 no"}) as server:
        result = measured(run, server.url())
    assert moved(result) == 100_000
    assert transfer(result).content_bytes is None


@pytest.mark.parametrize(
    "greeting",
    ["220-Welcome\r\n220-to 220 files\r\n 220 not the end\r\n220 scripted server",
     "120 in a moment\r\n220 scripted server"],
)  # fmt: skip
def test_greetings(run: RunLoop, greeting: str) -> None:
    with Ftp(1000, answers={"greeting": greeting}) as server:
        result = measured(run, server.url())
    assert moved(result) == 1000
    assert transfer(result).server == "scripted server"


def test_a_user_who_needs_no_password(run: RunLoop) -> None:
    with Ftp(1000, answers={"USER": "230 come in"}) as server:
        assert moved(measured(run, server.url(), user="anna")) == 1000
    assert server.did("PASS") == 0


def test_a_file_longer_than_its_size(run: RunLoop) -> None:
    with Ftp(1000, sends=5000) as server:
        assert moved(measured(run, server.url())) == 5000


def test_the_final_reply_before_the_data(run: RunLoop) -> None:
    with Ftp(10 * MIB, early=True) as server:
        result = measured(run, server.url())
    assert moved(result) == 10 * MIB
    assert transfer(result).status == 226


@pytest.mark.parametrize(
    ("in_url", "user", "password", "sent"),
    [
        ("", "anna", "secret", ("anna", "secret")),
        ("bert:pssst@", "anna", "secret", ("bert", "pssst")),
        ("b%40rt:w%3Ard@", None, None, ("b@rt", "w:rd")),
    ],
)
def test_user_and_password(
    run: RunLoop, in_url: str, user: str | None, password: str | None, sent: tuple[str, str]
) -> None:
    with Ftp(1000) as server:
        url = server.url().replace("//", f"//{in_url}")
        result = measured(run, url, user=user, password=password)
    assert server.commands[:2] == [f"USER {sent[0]}", f"PASS {sent[1]}"]
    assert result.target == transfer(result).url == server.url()
    assert sent[1] not in result.to_json().decode()


# ---- parts, limits, repeats, streams ----------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "last", "size"),
    [(0, 0, 1), (10, 19, 10), (99_999, None, 1), (None, 4, 5), (50_000, 10**9, 50_000),
     (100_000, None, 0), (200_000, 300_000, 0)],
)  # fmt: skip
def test_a_part_of_a_file(run: RunLoop, first: int | None, last: int | None, size: int) -> None:
    with Ftp(100_000) as server:
        result = measured(run, server.url(), first_byte=first, last_byte=last)
    assert moved(result) == size
    assert server.did("REST") == (1 if first else 0)


@pytest.mark.parametrize(
    ("streams", "limit"), [(1, 1), (1, 99_999), (3, 100_000), (4, 2), (1, 10**9)]
)
def test_a_limit_is_exact(run: RunLoop, streams: int, limit: int) -> None:
    with Ftp(100_000) as server:
        result = measured(run, server.url(), streams=streams, total_bytes=limit)
    assert moved(result) == min(limit, 100_000)


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("kept", [False, True])
def test_repeats(run: RunLoop, kept: bool, streams: int) -> None:
    options = {"repeat": True, "keep_connections": kept, "streams": streams}
    with Ftp(5000) as server:
        result = measured(run, server.url(), total_bytes=5000 * 4 * streams, **options)
    assert moved(result) == 5000 * 4 * streams == server.sent
    assert [known(s.transfer).transfers for s in result.client.streams] == [4] * streams
    assert server.did("RETR") == 4 * streams
    assert server.connections == (streams if kept else 4 * streams)


def test_repeats_of_a_part_need_new_connections(run: RunLoop) -> None:
    """After a partial download, the server's final reply is still outstanding: the next transfer
    must not read it as its own reply."""
    options = {"repeat": True, "keep_connections": True, "first_byte": 10, "last_byte": 109}
    with Ftp(5000) as server:
        result = measured(run, server.url(), total_bytes=350, **options)
    assert moved(result) == 350
    assert server.did("RETR") == 4


def test_a_time_ends_repeats(run: RunLoop) -> None:
    with Ftp(5000) as server:
        options = {"repeat": True, "keep_connections": True, "duration_s": 0.2}
        result = measured(run, server.url(), **options)
    done = transfer(result).transfers
    assert done > 1
    assert done * 5000 <= moved(result) <= (done + 1) * 5000


def test_an_empty_file_never_reaches_a_limit(run: RunLoop) -> None:
    with Ftp(0) as server, pytest.raises(nm.StreamError, match="empty"):
        run(nm.measure(server.url(), spec(server.url(), repeat=True, total_bytes=1000)))
    assert server.did("RETR") == 1


def endless(peer: Peer) -> None:
    send_body(peer, 1 << 50)


@pytest.mark.rates
@pytest.mark.parametrize("streams", [1, 2])
def test_a_time_ends_an_endless_file(run: RunLoop, streams: int) -> None:
    with Ftp(1 << 50, data=endless) as server:
        result = measured(run, server.url(), duration_s=0.2, streams=streams)
    assert moved(result) > 0
    assert 0.19e9 < known(result.client.duration_ns) < 5e9


def test_intervals_and_stop(run: RunLoop) -> None:
    async def main(url: str) -> tuple[int, nm.Result]:
        total = 0
        async with nm.connect(url).run(spec(url, duration_s=60)) as running:
            async for interval in running:
                total += interval.bytes
                if interval.bytes:
                    running.stop()
        assert running.result is not None
        return total, running.result

    with Ftp(1 << 50, data=endless) as server:
        total, result = run(main(server.url()))
    assert result.complete
    assert "stopped early by the user" in result.notes
    assert total == moved(result)


# ---- uploads ----------------------------------------------------------------------------------


@pytest.mark.parametrize("send_mode", ["copy", "sendfile"])
@pytest.mark.parametrize(("size", "streams"), [(1, 1), (65_536, 2), (10 * MIB + 1, 3)])
def test_an_upload(run: RunLoop, size: int, streams: int, send_mode: str) -> None:
    options = {"direction": "upload", "total_bytes": size, "streams": streams}
    with Ftp() as server:
        result = measured(run, server.url(), send_mode=send_mode, **options)
    assert moved(result) == size == server.taken
    assert transfer(result).status == 226


def test_an_upload_for_a_time(run: RunLoop) -> None:
    with Ftp() as server:
        result = measured(run, server.url(), direction="upload", duration_s=0.2)
    assert moved(result) == server.taken > 0


# ---- TLS --------------------------------------------------------------------------------------


def secured(how: str) -> tuple[dict[str, Any], dict[str, Any]]:
    mine = certificates.certificate()
    server = {"tls": mine.server(), "implicit": how == "implicit"}
    return server, {"ca_file": str(mine.pem), "explicit_tls": how == "explicit"}


@needs_openssl
@pytest.mark.parametrize("how", ["explicit", "implicit"])
@pytest.mark.parametrize("size", [0, 1, 10 * MIB])
def test_tls(run: RunLoop, size: int, how: str) -> None:
    server_options, options = secured(how)
    with Ftp(size, **server_options) as server:
        result = measured(run, server.url(), **options)
    assert moved(result) == size
    assert transfer(result).tls == "TLSv1.3"
    assert "PROT P" in server.commands
    assert server.did("AUTH") == (how == "explicit")
    assert "tls" in steps(result)
    # servers require a resumed session: it shows that the client of the data has logged in
    assert server.resumed == [True]


@needs_openssl
@pytest.mark.parametrize("how", ["explicit", "implicit"])
def test_tls_upload(run: RunLoop, how: str) -> None:
    server_options, options = secured(how)
    for limit in ({"total_bytes": 3 * MIB}, {"duration_s": 0.15}):
        with Ftp(**server_options) as server:
            result = measured(run, server.url(), direction="upload", **options, **limit)
        assert moved(result) == server.taken > 0


@needs_openssl
def test_tls_repeated_on_one_control_connection(run: RunLoop) -> None:
    server_options, options = secured("explicit")
    with Ftp(5000, **server_options) as server:
        options |= {"repeat": True, "keep_connections": True, "total_bytes": 15_000}
        result = measured(run, server.url(), **options)
    assert moved(result) == 15_000
    assert server.connections == 1
    assert server.resumed == [True] * 3
