"""Test the embedded HTTP server with curl, wget, wrk, http.client, and clients that misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import socket
import ssl
import time
from pathlib import Path

import pytest

import netmeasure as nm
from support.downloads import (
    GIB,
    HOST,
    KIB,
    MIB,
    RawClient,
    RunLoop,
    beside,
    curl,
    curl_bytes,
    curl_fails,
    expected,
    need,
    no_transfer,
    over,
    program,
    together,
)

HURRIED = nm.OriginLimits(stall_s=0.3, idle_s=0.3)
READINESS = {True: "ready\n200", False: "not ready\n503"}
GET_GIB = "GET /1G.dat HTTP/1.1\r\nHost: x\r\n\r\n"


# ---- downloads ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size", [0, 1, 65_535, 65_536, 256 * KIB, 256 * KIB + 1, 3 * MIB + 7], ids=str
)
def test_curl_gets_exactly_the_content(run: RunLoop, size: int) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            assert await curl_bytes(f"http://{origin.address}/bytes/{size}") == expected(size)

    run(scenario())


def test_a_gibibyte(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            words = ("-o", "/dev/null", "-w", "%{http_code} %{size_download}")
            assert await curl(f"http://{origin.address}/1GiB", *words) == f"200 {GIB}"

    run(scenario())


@pytest.mark.parametrize("ready", [True, False])
def test_health_and_readiness(run: RunLoop, ready: bool) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST, ready=lambda: ready) as origin:
            for path, answer in (("healthz", "alive\n200"), ("readyz", READINESS[ready])):
                assert await curl("-w", "%{http_code}", f"http://{origin.address}/{path}") == answer

    run(scenario())


@pytest.mark.parametrize("name", ["0", "1K.dat", "10G.dat"])
def test_head(run: RunLoop, name: str) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            answer = await curl("-I", f"http://{origin.address}/{name}")
            size = {"0": 0, "1K.dat": KIB, "10G.dat": 10 * GIB}[name]
            assert answer.startswith("HTTP/1.1 200 OK\r\n")
            assert f"Content-Length: {size}\r\n" in answer
            assert "Accept-Ranges: bytes\r\n" in answer

    run(scenario())


@pytest.mark.parametrize(
    ("part", "first", "last"),
    [
        ("0-0", 0, 0),
        ("5-104", 5, 104),
        ("-10", 4 * MIB - 10, 4 * MIB - 1),
        ("1000000-3999999", 1_000_000, 3_999_999),
        ("700001-", 700_001, 4 * MIB - 1),
    ],
)
def test_a_range_is_that_part(run: RunLoop, part: str, first: int, last: int) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            answer = await curl_bytes("-i", "-r", part, f"http://{origin.address}/4M.dat")
            head, _, body = answer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 206 ")
            assert f"Content-Range: bytes {first}-{last}/{4 * MIB}".encode() in head
            assert f"Content-Length: {last - first + 1}".encode() in head
            assert body == expected(4 * MIB)[first : last + 1]

    run(scenario())


def test_a_range_outside_is_416(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            answer = await curl("-i", "-r", "1024-", f"http://{origin.address}/1K.dat")
            assert answer.startswith("HTTP/1.1 416 ")
            assert "Content-Range: bytes */1024\r\n" in answer

    run(scenario())


def test_a_conditional_range_is_the_whole(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            words = ("-r", "0-1", "-H", 'If-Range: "x"', "-o", "/dev/null")
            answer = await curl(f"http://{origin.address}/1K", *words, "-w", "%{http_code}")
            assert answer == "200"

    run(scenario())


def test_wget_resumes(run: RunLoop, tmp_path: Path) -> None:
    async def scenario() -> None:
        file = tmp_path / "3M.dat"
        file.write_bytes(expected(1_234_567))
        async with nm.serve_http(HOST) as origin:
            words = ("-q", "-c", "-O", str(file), f"http://{origin.address}/3M.dat")
            ran = await beside(program, "wget", "--no-proxy", *words)
            assert ran.returncode == 0
        assert file.read_bytes() == expected(3 * MIB)

    run(scenario())


def test_names_are_listed(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            assert "/1G.dat\n" in await curl(f"http://{origin.address}/")

    run(scenario())


@pytest.mark.parametrize("name", ["x", "bytes/", "1K/2", "%2e%2e/1K", "2000T"])
def test_another_name_is_404(run: RunLoop, name: str) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            words = ("--path-as-is", "-o", "/dev/null", "-w", "%{http_code}")
            assert await curl(f"http://{origin.address}/{name}", *words) == "404"

    run(scenario())


def test_another_method_is_405(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            answer = await curl("-i", "-X", "DELETE", f"http://{origin.address}/1K")
            assert answer.startswith("HTTP/1.1 405 ")
            assert "Allow: GET, HEAD, PUT, POST\r\n" in answer

    run(scenario())


def test_http_1_0_closes(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            assert await curl_bytes("-0", f"http://{origin.address}/1M") == expected(MIB)

    run(scenario())


def test_ipv6(run: RunLoop) -> None:
    if not socket.has_ipv6 or not Path("/proc/net/if_inet6").exists():
        pytest.skip("no IPv6 here")

    async def scenario() -> None:
        async with nm.serve_http("::1") as origin:
            assert origin.address == f"[::1]:{origin.port}"
            assert await curl_bytes(f"http://{origin.address}/1M") == expected(MIB)

    run(scenario())


# ---- one connection, many requests --------------------------------------------------------------


def test_the_connection_is_kept_alive(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            names = ("64M.dat", "1K", "32M.dat", "nosuchfile", "1M")
            words = [w for name in names for w in ("-o", "/dev/null", f"{origin.address}/{name}")]
            answer = await curl(*words, "-w", "%{num_connects} %{http_code} %{size_download}\n")
            connects, codes, sizes = zip(*map(str.split, answer.splitlines()), strict=True)
            assert connects == ("1", "0", "0", "0", "0")
            assert codes == ("200", "200", "200", "404", "200")
            assert [int(s) for s in sizes[:3]] == [64 * MIB, KIB, 32 * MIB]

    run(scenario())


def test_content_is_right_on_a_connection_used_again(run: RunLoop) -> None:
    def client(host: str, port: int) -> None:
        connection = http.client.HTTPConnection(host, port, timeout=20)
        for name, size in (("2M", 2 * MIB), ("1K", KIB), ("700K", 700 * KIB), ("2M", 2 * MIB)):
            connection.request("GET", f"/{name}")
            assert connection.getresponse().read() == expected(size)
        connection.request("PUT", "/x", body=b"12345")
        assert json.loads(connection.getresponse().read()) == {"received_bytes": 5}
        connection.request("GET", "/3M")
        assert connection.getresponse().read() == expected(3 * MIB)
        connection.close()

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            await beside(client, HOST, origin.port)

    run(scenario())


def test_pipelined_requests_are_answered_in_order(run: RunLoop) -> None:
    sizes = (2 * MIB, 10, 300 * KIB, 0, MIB)

    def client(address: str) -> None:
        with RawClient(address) as raw:
            raw.say("".join(f"GET /bytes/{s} HTTP/1.1\r\nHost: x\r\n\r\n" for s in sizes))
            for size in sizes:
                assert f"Content-Length: {size}\r\n".encode() in raw.until(b"\r\n\r\n")
                assert raw.read(size) == expected(size)

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


# ---- uploads ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["PUT", "POST"])
@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, 5 * MIB + 3], ids=str)
def test_an_upload_is_counted(run: RunLoop, tmp_path: Path, method: str, size: int) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(size))

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            url = f"http://{origin.address}/any/name"
            answer = await curl("-X", method, "-T", str(file), url)
            assert json.loads(answer) == {"received_bytes": size}

    run(scenario())


def test_a_chunked_upload_is_counted(run: RunLoop, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(2 * MIB))

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            words = ("-H", "Transfer-Encoding: chunked", "-T", str(file))
            answer = await curl(*words, f"http://{origin.address}/x")
            assert json.loads(answer) == {"received_bytes": 2 * MIB}

    run(scenario())


def test_what_follows_an_upload_is_not_taken_for_it(run: RunLoop) -> None:
    """Small uploads leave the connection usable, even if the next request has already arrived."""

    def client(address: str) -> None:
        with RawClient(address) as raw:
            raw.say("PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
            raw.say("GET /bytes/5 HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.until(b"\r\n\r\n")
            assert json.loads(raw.until(b"}\n")) == {"received_bytes": 3}
            raw.until(b"\r\n\r\n")
            assert raw.read(5) == expected(5)

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            await beside(client, origin.address)

    run(scenario())


def test_an_upload_that_stops_is_given_up(run: RunLoop) -> None:
    def client(address: str, length: int) -> None:
        with RawClient(address) as raw:
            raw.say(f"PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\nabc")
            assert raw.rest() == 0

    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=HURRIED) as origin:
            for length in (1000, 10 * MIB):
                await beside(client, origin.address, length)

    run(scenario())


# ---- TLS ----------------------------------------------------------------------------------------


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    pem = tmp_path / "server.pem"
    words = ("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x")
    ran = program("openssl", *words, "-keyout", str(pem), "-out", f"{pem}.crt")
    assert ran.returncode == 0, ran.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(f"{pem}.crt", pem)
    return context


def test_tls(run: RunLoop, certificate: ssl.SSLContext, tmp_path: Path) -> None:
    file = tmp_path / "file"
    file.write_bytes(bytes(MIB))

    async def scenario() -> None:
        async with nm.serve_http(HOST, tls=certificate) as origin:
            url = f"https://{origin.address}"
            assert await curl_bytes("-k", f"{url}/3M.dat") == expected(3 * MIB)
            answer = await curl("-k", "-T", str(file), f"{url}/x")
            assert json.loads(answer) == {"received_bytes": MIB}

    run(scenario())


# ---- clients that misbehave ---------------------------------------------------------------------


def test_a_client_that_leaves_takes_its_thread_along(run: RunLoop) -> None:
    def client(address: str) -> None:
        with RawClient(address) as raw:
            raw.say(GET_GIB)
            raw.read(MIB)

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            await beside(client, origin.address)
            await over()
            assert len(await curl_bytes(f"http://{origin.address}/1M")) == MIB

    run(scenario())


def test_a_client_that_stalls_is_given_up(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=HURRIED) as origin:
            with RawClient(origin.address) as raw:
                await beside(raw.say, GET_GIB)
                await beside(raw.until, b"\r\n\r\n")
                assert not no_transfer()
                await over()
                assert 0 < await beside(raw.rest) < GIB

    run(scenario())


@pytest.mark.parametrize("chunked", [False, True])
def test_an_upload_that_trickles_is_given_up(run: RunLoop, chunked: bool) -> None:
    """A single byte from time to time does not count as a transfer, and does not keep a place."""
    framing = "Transfer-Encoding: chunked" if chunked else "Content-Length: 1000000"
    limits = nm.OriginLimits(stall_s=0.4, idle_s=0.4)

    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=limits) as origin:
            with RawClient(origin.address) as raw:
                await beside(raw.say, f"PUT /x HTTP/1.1\r\nHost: x\r\n{framing}\r\n\r\n")
                with contextlib.suppress(OSError):
                    for _ in range(400):
                        await beside(raw.say, "1\r\nx\r\n" if chunked else "x")
                        await asyncio.sleep(0.02)
                    raise AssertionError("it was not given up")
            await over()

    run(scenario())


def test_a_slow_client_gets_everything(run: RunLoop) -> None:
    """The transfer takes longer than the stall deadline, but no single byte does."""

    def client(address: str) -> float:
        begin = time.monotonic()
        with RawClient(address, receive_buffer=64 * KIB) as raw:
            raw.say("GET /12M HTTP/1.1\r\nHost: x\r\n\r\n")
            raw.until(b"\r\n\r\n")
            for _ in range(24):
                assert len(raw.read(512 * KIB)) == 512 * KIB
                time.sleep(0.02)  # this is how slow it is
        return time.monotonic() - begin

    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=HURRIED) as origin:
            assert await beside(client, origin.address) > HURRIED.stall_s

    run(scenario())


@pytest.mark.parametrize("words", ["", "GET /1K HTTP/1.1\r\nHost: x\r\n"], ids=["silent", "half"])
def test_a_client_that_asks_nothing_is_closed(run: RunLoop, words: str) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST, limits=HURRIED) as origin:
            with RawClient(origin.address) as raw:
                await beside(raw.say, words)
                assert await beside(raw.rest) == 0

    run(scenario())


def test_nonsense_is_400_and_nothing_is_printed(
    run: RunLoop, capfd: pytest.CaptureFixture[str]
) -> None:
    def client(address: str, words: str) -> bytes:
        with RawClient(address) as raw:
            raw.say(words)
            return raw.until(b"\r\n")

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            for words in ("\x00\x01\r\n\r\n", "GET\r\n\r\n", "PUT / HTTP/1.1\r\nA b: c\r\n\r\n"):
                assert b" 400 " in await beside(client, origin.address, words)

    run(scenario())
    assert capfd.readouterr() == ("", "")


def test_bad_clients_harm_nobody_else(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with RawClient(origin.address) as stuck:
                await beside(stuck.say, GET_GIB)
                await beside(stuck.until, b"\r\n\r\n")
                assert len(await curl_bytes(f"http://{origin.address}/30M")) == 30 * MIB

    run(scenario())


def test_more_transfers_than_allowed_are_503(run: RunLoop) -> None:
    async def scenario() -> None:
        limits = nm.OriginLimits(max_transfers=1)
        async with nm.serve_http(HOST, limits=limits) as origin:
            url = f"http://{origin.address}"
            words = ("-o", "/dev/null", "-w", "%{http_code}")
            with RawClient(origin.address) as raw:
                await beside(raw.say, GET_GIB)
                await beside(raw.until, b"\r\n\r\n")
                assert await curl(f"{url}/1M", *words) == "503"
                assert await curl("-d", "x", f"{url}/x", *words) == "503"
                assert await curl(f"{url}/1K", *words) == "200"
            await over()
            assert await curl(f"{url}/1M", *words) == "200"

    run(scenario())


def test_more_connections_than_allowed_are_closed(run: RunLoop) -> None:
    async def scenario() -> None:
        limits = nm.OriginLimits(max_connections=1)
        async with nm.serve_http(HOST, limits=limits) as origin:
            with RawClient(origin.address) as raw:
                await beside(raw.say, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
                await beside(raw.until, b"\r\n\r\n")
                assert await curl_fails(f"http://{origin.address}/1") in (52, 56)

    run(scenario())


# ---- many, and the end --------------------------------------------------------------------------


def test_twenty_clients_at_a_time(run: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            words = ("curl", "-sS", "-o", "/dev/null", "-w", "%{http_code} %{size_download}")
            commands = [(*words, f"http://{origin.address}/{20 + n}M") for n in range(20)]
            done = await beside(together, commands)
            assert done == [(0, f"200 {(20 + n) * MIB}".encode()) for n in range(20)]

    run(scenario())


@pytest.mark.parametrize("name", ["1K", "300K"], ids=["small", "native"])
def test_wrk_has_no_errors(run: RunLoop, name: str) -> None:
    need("wrk")

    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            words = ("-t1", "-c10", "-d1s", f"http://{origin.address}/{name}")
            ran = await beside(program, "wrk", *words)
            assert ran.returncode == 0
            assert b"Requests/sec" in ran.stdout
            assert b"Socket errors" not in ran.stdout
            assert b"Non-2xx" not in ran.stdout

    run(scenario())


@pytest.mark.rates
@pytest.mark.parametrize(
    "request_text",
    [
        "",
        GET_GIB,
        "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n",
        "PUT /x HTTP/1.1\r\nHost: x\r\nContent-Length: 9999999\r\n\r\n",
    ],
    ids=["idle", "download", "small upload", "upload"],
)
def test_the_end_comes_within_a_second(run: RunLoop, request_text: str) -> None:
    async def scenario() -> None:
        origin = nm.serve_http(HOST)
        async with origin:
            clients = [RawClient(origin.address) for _ in range(5)]
            for raw in clients:
                await beside(raw.say, request_text)
                if request_text == GET_GIB:
                    await beside(raw.until, b"\r\n\r\n")
            # once the server has answered a later client, it has seen all of these
            assert await curl_bytes(f"http://{origin.address}/1") == expected(1)
            begin = time.monotonic()
        assert time.monotonic() - begin < 1
        assert no_transfer()
        for raw in clients:
            assert await beside(raw.rest) < GIB
            raw.sock.close()

    run(scenario())


def test_cancelling_ends_everything(run: RunLoop) -> None:
    async def serve(started: asyncio.Future[str]) -> None:
        async with nm.serve_http(HOST) as origin:
            started.set_result(origin.address)
            await asyncio.Event().wait()

    async def scenario() -> None:
        started: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        task = asyncio.create_task(serve(started))
        with RawClient(await started) as raw:
            await beside(raw.say, GET_GIB)
            await beside(raw.until, b"\r\n\r\n")
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await beside(raw.rest) < GIB

    run(scenario())


def test_a_port_in_use_is_an_error(run_once: RunLoop) -> None:
    async def scenario() -> None:
        async with nm.serve_http(HOST) as origin:
            with pytest.raises(nm.ServeError, match="in use"):
                async with nm.serve_http(HOST, origin.port):
                    pass

    run_once(scenario())
