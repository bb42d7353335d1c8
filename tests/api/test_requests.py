"""Tests of requests by HTTP, from the specification to the result."""

from __future__ import annotations

import shutil
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.client import make_run
from support import servers
from support.ports import nobody
from support.scripted import Peer, Scripted
from support.web import request

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]
LONG = nm.Timing(duration_s=60, interval_s=0.02)


def numbered(count: int) -> nm.Timing:
    return nm.Timing(total_blocks=count)


def url_of(origin: nm.HttpOrigin, name: str) -> str:
    return f"http://{origin.address}/{name}"


def statuses(result: nm.Result) -> dict[int, int]:
    assert result.requests is not None
    return {one.status: one.count for one in result.requests.statuses}


async def measured(name: str, spec: nm.RequestSpec) -> nm.Result:
    async with nm.serve_http("127.0.0.1", 0) as origin:
        return await nm.measure(url_of(origin, name), spec)


def test_every_response_counts(run: RunLoop) -> None:
    result = run(measured("1K.dat", nm.RequestSpec(streams=7, threads=3, timing=numbered(300))))
    trips, requests = result.round_trips, result.requests
    assert result.complete
    assert (trips.transactions, trips.begun, trips.unanswered) == (300, 300, 0)
    assert sum(trips.series.transactions) == 300
    assert sum(trips.series.sum_ns) == trips.latency.sum_ns
    assert (requests.connections, requests.threads) == (7, 3)
    assert (statuses(result), requests.body_bytes) == ({200: 300}, 300 * 1024)
    assert requests.errors.total == 0
    assert requests.connected >= 7
    assert requests.connect_error is None
    assert result.flow.sender.acked_bytes == 300 * result.spec.request_bytes
    assert result.flow.limits is None
    assert [phase.name for phase in result.setup if phase.name != "host"] == ["resolve", "connect"]
    assert nm.Result.from_json(result.to_json()) == result


def test_nginx_answers_on_fresh_connections(run: RunLoop) -> None:
    if shutil.which("nginx") is None:
        pytest.skip("there is no nginx")
    with servers.nginx() as server:
        server.add("small", 100)
        spec = nm.RequestSpec(
            streams=4,
            keep_connections=False,
            timing=numbered(50),
            options=nm.SocketOptions(bind_address="127.0.0.1", tos=8, mss_bytes=1000),
        )
        result = run(nm.measure(server.url("small"), spec))
    assert (statuses(result), result.requests.connected) == ({200: 50}, 50)
    assert result.requests.body_bytes == 5000


def test_a_refusal_is_an_error_of_its_own_kind(run: RunLoop) -> None:
    with pytest.raises(nm.FileRefusedError, match=r"refused every request \(20 x 404\)") as told:
        run(measured("no-such-file", nm.RequestSpec(method="HEAD", timing=numbered(20))))
    result = told.value.result
    assert (statuses(result), result.requests.errors.status) == ({404: 20}, 20)
    assert (result.round_trips.transactions, result.round_trips.steady_per_s) == (0, None)
    assert (result.error.code, result.error.phase, result.flows) == (
        "file_refused",
        "first_byte",
        (),
    )


def answers_and_closes(peer: Peer) -> None:
    request(peer)
    peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: close\r\n\r\nhello")
    peer.finish()


def closes(peer: Peer) -> None:
    request(peer)
    peer.finish()


def speaks_something_else(peer: Peer) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    peer.finish()


@pytest.mark.parametrize(
    ("script", "error", "said"),
    [
        (closes, nm.PeerClosedError, "ended every connection before its whole response"),
        (speaks_something_else, nm.RemoteProtocolError, "no response was HTTP/1.1"),
    ],
)
def test_a_test_without_any_response_has_failed(
    run_once: RunLoop, script: Callable[[Peer], None], error: type[nm.MeasureError], said: str
) -> None:
    with Scripted(script) as server, pytest.raises(error, match=said) as told:
        run_once(nm.measure(server.url(), nm.RequestSpec(timing=numbered(5))))
    result = told.value.result
    assert result is not None
    assert (result.requests.errors.total, result.flows) == (5, ())
    assert told.value.phase == "first_byte"


def test_a_note_counts_the_connections_that_the_server_closes(run_once: RunLoop) -> None:
    with Scripted(answers_and_closes) as server:
        result = run_once(nm.measure(server.url(), nm.RequestSpec(timing=numbered(6))))
        fresh = nm.RequestSpec(timing=numbered(6), keep_connections=False)
        asked_for = run_once(nm.measure(server.url(), fresh))
    opened = result.requests.connected
    assert opened >= 6
    assert result.notes == (
        f"the server closed connections that were to be kept: {opened} were opened for 6 responses",
    )
    assert asked_for.notes == ()


def test_a_rate_for_a_time(run: RunLoop) -> None:
    spec = nm.RequestSpec(
        streams=4, target_rps=200, timing=nm.Timing(duration_s=0.3, omit_s=0.1, interval_s=0.1)
    )
    result = run(measured("1K.dat", spec))
    trips = result.round_trips
    assert trips.begun + trips.skipped == 80
    assert 0 < trips.transactions < trips.begun


def test_a_run_that_is_stopped_or_cancelled_gives_what_it_has(run: RunLoop) -> None:
    async def stopped() -> nm.Result:
        async with nm.serve_http("127.0.0.1", 0) as origin:
            one = make_run(url_of(origin, "1K.dat"), nm.RequestSpec(timing=LONG))
            async with one:
                async for _ in one:
                    one.stop()
            assert one.result is not None
            return one.result

    async def cancelled() -> nm.Result:
        async with nm.serve_http("127.0.0.1", 0) as origin:
            one = make_run(url_of(origin, "1K.dat"), nm.RequestSpec(timing=LONG))
            async with one:
                async for _ in one:
                    await one.abort()
                    break
            assert one.result is not None
            return one.result

    whole, part = run(stopped()), run(cancelled())
    assert whole.complete
    assert "stopped early by the user" in whole.notes
    assert not part.complete
    for result in (whole, part):
        assert result.round_trips.transactions > 0
        assert result.requests.errors.total == 0
    assert not [t for t in threading.enumerate() if t.name.startswith("netmeasure-requests")]


def test_a_server_that_says_nothing_is_given_up(run: RunLoop) -> None:
    # the kernel accepts connections, but no program reads from them
    with socket.create_server(("127.0.0.1", 0), backlog=64) as silent:
        spec = nm.RequestSpec(
            timing=LONG, deadlines=nm.Deadlines(stall_s=0.1), answer_s=0.02, streams=2
        )
        with pytest.raises(nm.PeerTimeoutError, match=r"no response came for 0\.1 s") as told:
            run(nm.measure(f"http://127.0.0.1:{silent.getsockname()[1]}/", spec))
    result = told.value.result
    assert result is not None
    assert result.requests is not None
    assert result.requests.errors.timeout >= 1


def test_a_host_without_a_server(run: RunLoop) -> None:
    with nobody() as port, pytest.raises(nm.ConnectRefusedError):
        run(nm.measure(f"http://127.0.0.1:{port}/", nm.RequestSpec(timing=LONG)))


def test_more_connections_than_this_process_may_open(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("netmeasure.engine.limits.descriptors_left", lambda: 100)
    with pytest.raises(nm.HostLimitError, match="40 connections need more file descriptors"):
        run(nm.measure("http://127.0.0.1:1/", nm.RequestSpec(streams=40)))


def test_the_request_as_it_goes_out() -> None:
    spec = nm.RequestSpec(
        url="http://u%40:p@[fe80::1%25eth0]:81/a%28é?c=d%20e",
        method="POST",
        headers=("accept: text/html", "X-Y: z"),
        keep_connections=False,
    )
    head, *fields = spec.request().decode().split("\r\n")
    assert head == "POST /a%28%C3%A9?c=d%20e HTTP/1.1"
    assert fields[-2:] == ["", ""]
    assert set(fields) > {
        "Host: [fe80::1]:81",
        "accept: text/html",
        "Authorization: Basic dUA6cA==",
        "Content-Length: 0",
        "X-Y: z",
        "Connection: close",
    }


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"url": "ftp://h/"}, "not a URL of http"),
        ({"streams": 10_001}, "number of connections"),
        ({"streams": 3, "threads": 4}, "number of threads"),
        ({"headers": ("Content-Length: 3",)}, "has no content"),
        ({"headers": ("Host",)}, "not a header"),
        ({"method": "GE T"}, "not an HTTP method"),
        ({"timing": nm.Timing(total_bytes=5)}, "does not end by bytes"),
        ({"timing": nm.Timing(endless=True)}, "can't be endless"),
        ({"options": nm.SocketOptions(multipath=True)}, "not an option of requests"),
    ],
)
def test_requests_that_are_refused(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(nm.SpecError, match=said):
        nm.RequestSpec(**wrong)


def test_secrets_are_not_saved(run: RunLoop) -> None:
    async def asked() -> nm.Result:
        async with nm.serve_http("127.0.0.1", 0) as origin:
            url = url_of(origin, "1K.dat").replace("//", "//user:hidden@")
            spec = nm.RequestSpec(headers=("Cookie: hidden",), timing=numbered(1))
            return await nm.measure(url, spec)

    result = run(asked())
    assert b"hidden" not in result.to_json()
    assert result.spec.headers == ("Cookie: (not kept)",)
