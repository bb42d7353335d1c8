"""Test HTTP downloads that are repeated, parallel, and limited by bytes or time."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Callable

import pytest

import netmeasure as nm
from support.optional import known
from support.scripted import Peer, Scripted
from support.transfers import (
    MIB,
    RunLoop,
    measured,
    moved,
    refused,
    spec,
    transfer,
    transfers,
)
from support.web import Web, endless, endless_chunks, head, request, take_body


@pytest.mark.parametrize("streams", [2, 5])
def test_parallel_streams(run: RunLoop, streams: int) -> None:
    with Web(300_000) as web:
        result = measured(run, web.url(), streams=streams)
    assert moved(result) == 300_000 * streams == web.sent
    assert web.connections == streams
    assert [known(s.transfer).transfers for s in result.client.streams] == [1] * streams
    connects = [p.connection for p in result.setup if p.name == "connect"]
    assert sorted(connects) == [f"stream {1 + index}" for index in range(streams)]


@pytest.mark.parametrize("streams", [1, 3])
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
@pytest.mark.parametrize("size", [1, 1000, 65_536])
def test_repeated_on_new_connections(
    run_once: RunLoop, size: int, chunked: bool, streams: int
) -> None:
    with Web(size, chunked=chunked) as web:
        total = 8 * size * streams
        options = {"repeat": True, "streams": streams, "total_bytes": total}
        result = measured(run_once, web.url(), **options)
    assert moved(result) == total == web.sent
    assert transfers(result) == 8 * streams == len(web.requests) == web.connections
    spread = transfer(result).set_up
    assert spread.count == 8
    assert 0 < spread.min_ns <= spread.median_ns <= spread.p95_ns <= spread.max_ns


@pytest.mark.parametrize("says_close", [False, True], ids=["without-a-word", "says-close"])
@pytest.mark.parametrize("each", [1, 2, 3, 100])
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
def test_repeated_on_kept_connections(
    run_once: RunLoop, chunked: bool, each: int, says_close: bool
) -> None:
    options = {"requests_per_connection": each, "says_close": says_close, "chunked": chunked}
    with Web(5000, **options) as web:  # type: ignore[arg-type]
        result = measured(
            run_once, web.url(), repeat=True, keep_connections=True, total_bytes=5000 * 7
        )
    assert moved(result) == 5000 * 7 == web.sent
    assert transfers(result) == 7 == len(web.requests)
    assert web.connections == -(-7 // each)


def test_the_first_steps_of_repeats_are_kept_one_by_one(run_once: RunLoop) -> None:
    with Web(10) as web:
        result = measured(run_once, web.url(), repeat=True, total_bytes=400)
    connects = [p.connection for p in result.setup if p.name == "connect"]
    assert connects == ["stream 1", *(f"stream 1 #{number}" for number in range(2, 21))]
    assert transfer(result).set_up.count == 40


@pytest.mark.parametrize(
    ("streams", "limit"), [(1, 1), (1, 99_999), (3, 100_000), (4, 2), (2, 65_537), (1, 10**9)]
)
@pytest.mark.parametrize("chunked", [False, True], ids=["plain", "chunked"])
def test_a_limit_is_exact(run: RunLoop, streams: int, limit: int, chunked: bool) -> None:
    with Web(100_000, chunked=chunked) as web:
        result = measured(run, web.url(), streams=streams, total_bytes=limit)
    assert moved(result) == min(limit, 100_000 * streams)


@pytest.mark.parametrize("kept", [False, True])
def test_a_limit_in_the_middle_of_a_repeat(run_once: RunLoop, kept: bool) -> None:
    with Web(1000) as web:
        result = measured(
            run_once,
            web.url(),
            repeat=True,
            keep_connections=kept,
            streams=2,
            total_bytes=7_777,
        )
    assert moved(result) == 7_777
    assert len(web.requests) == 8


def test_a_limit_on_parts(run: RunLoop) -> None:
    with Web(1000) as web:
        options = {"first_byte": 100, "last_byte": 199, "repeat": True, "total_bytes": 550}
        result = measured(run, web.url(), **options)
    assert moved(result) == 550
    assert len(web.requests) == 6


@pytest.mark.parametrize("streams", [1, 2])
@pytest.mark.parametrize("script", [endless, endless_chunks])
def test_a_time_ends_an_endless_body(
    run: RunLoop, script: Callable[[Peer], None], streams: int
) -> None:
    with Scripted(script) as server:
        result = measured(run, server.url(), duration_s=0.2, streams=streams)
    assert moved(result) > 0
    assert 0.19e9 < known(result.client.duration_ns) < 5e9
    assert transfers(result) == 0
    assert all(s.bytes for s in result.client.streams)


def test_a_time_ends_repeats(run: RunLoop) -> None:
    for kept in (False, True):
        with Web(1000) as web:
            options = {"repeat": True, "keep_connections": kept, "duration_s": 0.2}
            result = measured(run, web.url(), **options)
        # the last repeat may have been cut off, at the client or at the server
        assert transfers(result) * 1000 <= moved(result) <= len(web.requests) * 1000
        assert len(web.requests) - transfers(result) in (0, 1)
        assert transfers(result) > 1


@pytest.mark.parametrize("kept", [False, True])
def test_an_empty_file_can_be_repeated_for_a_time(run: RunLoop, kept: bool) -> None:
    """Then only set-up is measured, and the time counts from the first response."""
    with Web(0) as web:
        options = {"repeat": True, "keep_connections": kept, "duration_s": 0.2}
        result = measured(run, web.url(), **options)
    assert moved(result) == 0
    assert len(web.requests) - transfers(result) in (0, 1)
    assert transfers(result) > 1


def test_an_empty_file_never_reaches_a_limit(run: RunLoop) -> None:
    with Web(0) as web:
        error = refused(run, web.url(), repeat=True, total_bytes=1000)
    assert type(error) is nm.StreamError
    assert "empty" in str(error)
    assert len(web.requests) == 1


def test_omitted_time(run: RunLoop) -> None:
    with Scripted(endless) as server:
        result = measured(run, server.url(), duration_s=0.2, omit_s=0.1)
    (stream,) = result.client.streams
    assert known(stream.counted_bytes) < known(stream.bytes) == moved(result)
    assert known(stream.counted_from_ns) >= known(stream.first_ns) + 100_000_000


@pytest.mark.parametrize("script", [endless, endless_chunks])
def test_intervals_sum_up_to_the_total(run: RunLoop, script: Callable[[Peer], None]) -> None:
    intervals = []

    async def main(url: str) -> nm.Result:
        async with nm.connect(url).run(spec(url, duration_s=0.3, streams=2)) as running:
            async for interval in running:
                intervals.append(interval)  # noqa: PERF401
        assert running.result is not None
        return running.result

    with Scripted(script) as server:
        result = run(main(server.url()))
    assert sum(interval.bytes for interval in intervals) == moved(result)
    assert len(intervals) > 1
    for interval in intervals:
        assert (interval.direction, interval.counted_by) == ("download", "receiver")
        assert sum(interval.stream_bytes) == interval.bytes
    for one, next_one in itertools.pairwise(intervals):
        assert one.end_ns == next_one.start_ns


def test_intervals_of_a_short_file_sum_up(run: RunLoop) -> None:
    async def main(url: str) -> tuple[int, nm.Result]:
        async with nm.connect(url).run(spec(url)) as running:
            total = sum([interval.bytes async for interval in running])
        assert running.result is not None
        return total, running.result

    with Web(100_000) as web:
        total, result = run(main(web.url()))
    # a run that ends before its first interval is read has none
    assert total in (0, 100_000)
    assert moved(result) == 100_000


@pytest.mark.parametrize("direction", ["download", "upload"])
def test_a_stop_gives_a_complete_result(run: RunLoop, direction: str) -> None:
    async def main(url: str) -> nm.Result:
        wanted = spec(url, duration_s=60, direction=direction)
        async with nm.connect(url).run(wanted) as running:
            async for interval in running:
                if interval.bytes:
                    running.stop()
        assert running.result is not None
        return running.result

    def script(peer: Peer) -> None:
        if direction == "download":
            endless(peer)
        taken.append(take_body(peer, request(peer)))
        peer.send(head("201 Created", "Content-Length: 0"))

    taken: list[int] = []
    with Scripted(script) as server:
        result = run(main(server.url()))
    assert result.complete
    assert "stopped early by the user" in result.notes
    assert moved(result) > 0
    if direction == "upload":
        assert taken == [moved(result)]


def test_many_at_the_same_time(run_once: RunLoop) -> None:
    async def main(urls: list[str]) -> list[nm.Result]:
        return await asyncio.gather(*(nm.measure(url, spec(url)) for url in urls))

    sizes = (1, 1000, 100_000, MIB)
    with contextlib.ExitStack() as stack:
        webs = [stack.enter_context(Web(size)) for size in sizes]
        results = run_once(main([web.url() for web in webs]))
    assert [moved(result) for result in results] == list(sizes)
