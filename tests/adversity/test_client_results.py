"""Test results of a server that are malformed, or that cannot be true."""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from msgspec.structs import replace

import netmeasure as nm
from support.optional import known
from support.scripted_server import (
    DISPLAY_RESULTS,
    EXCHANGE_RESULTS,
    TEST_END,
    TEST_RUNNING,
    TEST_START,
    UNHURRIED,
    Fake,
    assert_measured,
    failure_with,
    fake,
    reset,
    spec,
)

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


CPU = dict.fromkeys(("cpu_util_total", "cpu_util_user", "cpu_util_system"), 0.5)
STREAM = {"id": 1, "bytes": 1, "retransmits": 0, "jitter": 0, "errors": 0, "packets": 0}
GOOD = {**CPU, "sender_has_retransmits": -1, "streams": [STREAM]}
BAD_RESULTS: dict[str, object] = {
    "not-json": b"{bad}",
    "empty": b"",
    "not-an-object": [1],
    "no-streams": {k: v for k, v in GOOD.items() if k != "streams"},
    "text-for-a-number": {**GOOD, "streams": [{**STREAM, "bytes": "many"}]},
    "too-deep": b'{"streams":' + b"[" * 50_000,
    "extension-not-an-object": {**GOOD, "netmeasure": 1},
}


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_results_that_make_no_sense(run_once: RunLoop, name: str) -> None:
    async def script(it: Fake) -> None:
        await it.finish()
        await it.take_json()
        await it.say_json(BAD_RESULTS[name])
        await it.stay()

    error = run_once(failure_with(script, spec(total_bytes=100_000, deadlines=UNHURRIED)))
    assert type(error) is nm.RemoteProtocolError
    assert_measured(error)


@pytest.mark.parametrize("ids", [[], [7], [1, 1], [-1]], ids=str)
def test_results_of_other_streams_than_there_were(run_once: RunLoop, ids: list[int]) -> None:
    async def script(it: Fake) -> None:
        await it.finish()
        await it.take_json()
        await it.say_json({**GOOD, "streams": [{**STREAM, "id": number} for number in ids]})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    async def main() -> nm.Result:
        async with fake(script) as it:
            try:
                return await nm.measure(it.address, spec(total_bytes=100_000, deadlines=UNHURRIED))
            except nm.RemoteProtocolError as exc:  # an error would be correct as well
                result: nm.Result = exc.result
                return result

    result = run_once(main())
    assert [stream.id for stream in result.client.streams] == [1]
    assert result.flow.sender.bytes > 0
    assert nm.Result.from_json(result.to_json()) == result


SERIES = {"origin_ns": 0, "width_ns": 1_000_000, "bytes": [1000, 4000]}
HOSTILE: dict[str, dict[str, Any]] = {
    "width-zero": {"series": {**SERIES, "width_ns": 0}},
    "width-huge": {"series": {**SERIES, "width_ns": 2**62}},
    "long-ago": {"series": {**SERIES, "origin_ns": -(2**62)}},
    "far-away": {"series": {**SERIES, "origin_ns": 2**62}},
    "no-buckets": {"series": {**SERIES, "bytes": []}},
    "bytes-negative": {"series": {**SERIES, "bytes": [-5]}},
    "bytes-huge": {"series": {**SERIES, "bytes": [2**63 - 1] * 3}},
    "total-negative": {"bytes": -1},
    "last-before-first": {"first_ns": 5, "last_ns": -5},
    "columns-ragged": {"tcp_info": {"at_ns": [1], "min_rtt_ns": [], "rtt_ns": [1, 2, 3]}},
    "another-number": {"id": 7},
    "other-role": {"role": "sender"},
}


def reporting(stream: dict[str, Any]) -> Callable[[Fake], Coroutine[Any, Any, None]]:
    """Return the script of a server that reports `stream` about its only stream."""

    async def script(it: Fake) -> None:
        await it.start(extended=True)
        assert await it.take(it.control, 1) == TEST_END
        await it.say(EXCHANGE_RESULTS)
        await it.take_json()
        await it.say_json({**GOOD, "netmeasure": {"streams": [stream]}})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    return script


@pytest.mark.parametrize("name", HOSTILE)
def test_a_report_that_cannot_be_true(run_once: RunLoop, name: str) -> None:
    stream = {"id": 1, "role": "receiver", "bytes": 5000, "series": SERIES, **HOSTILE[name]}

    async def main() -> nm.Result:
        async with fake(reporting(stream)) as it:
            try:
                return await nm.measure(it.address, spec(total_bytes=100_000, deadlines=UNHURRIED))
            except nm.MeasureError as exc:  # accepted or refused, but never a crash
                result: nm.Result = exc.result
                return result

    result = run_once(main())
    assert result.peer_extended
    assert result.client.streams[0].acked_bytes > 0
    assert nm.Result.from_json(result.to_json()) == result


def test_a_server_that_received_less_than_was_acknowledged(run_once: RunLoop) -> None:
    stream = {"id": 1, "role": "receiver", "bytes": 5000, "end_reason": "eof", "series": SERIES}

    error = run_once(
        failure_with(reporting(stream), spec(total_bytes=100_000, deadlines=UNHURRIED))
    )
    assert type(error) is nm.StreamError
    assert "5000 of" in str(error)


@pytest.mark.parametrize(
    "last",
    [b"", b"\xfe\0\0\0\x90\0\0\0\x6b", b"\xfe", bytes(1000), b"\x0b"],
    ids=["nothing", "stale-error", "half-of-it", "zeros", "terminate"],
)
@pytest.mark.parametrize("end", ["stays", "closes", "resets"])
def test_what_comes_after_the_results_is_ignored(run_once: RunLoop, last: bytes, end: str) -> None:
    async def script(it: Fake) -> None:
        await it.answer()
        await it.say(DISPLAY_RESULTS + last)
        if end == "closes":
            it.control.shutdown(socket.SHUT_WR)
        elif end == "resets":
            reset(it.control)
        await it.stay()

    async def main() -> nm.Result:
        async with fake(script) as it:
            return await nm.measure(it.address, spec(total_bytes=100_000, deadlines=UNHURRIED))

    result = run_once(main())
    assert result.complete
    assert not result.peer_extended
    assert any("plain iperf3" in note for note in result.notes)
    assert result.flow.receiver.bytes == result.flow.sender.acked_bytes > 0


# ---- impossible counts of a plain server ---------------------------------------------------------


def claims(of: Callable[[int], int]) -> Callable[[Fake], Coroutine[Any, Any, None]]:
    """Return the script of a server that claims to have received `of(sent)` bytes, where the client
    reports `sent` bytes."""

    async def script(it: Fake) -> None:
        # if the receive window grew to half of all bytes, a count of half of them would be possible
        it.listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        await it.finish()
        theirs = await it.take_json()
        said = {**STREAM, "bytes": of(theirs["streams"][0]["bytes"])}
        await it.say_json({**GOOD, "streams": [said]})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    return script


@pytest.mark.parametrize(
    "of",
    [lambda _: 2**62, lambda _: 2**61, lambda sent: sent // 2, lambda sent: sent * 2],
    ids=["2**62", "2**61", "half", "twice"],
)
def test_an_impossible_count_is_not_believed(run_once: RunLoop, of: Callable[[int], int]) -> None:
    """This end knows the acknowledged bytes: it reports them, with a note."""

    async def main() -> nm.Result:
        async with fake(claims(of)) as it:
            # a count of half of them would be possible if a kernel could hold the other half unread
            wanted = replace(spec(deadlines=UNHURRIED), timing=nm.Timing(total_bytes=100_000_000))
            return await nm.measure(it.address, wanted)

    result = run_once(main())
    assert result.complete
    acked = result.client.streams[0].acked_bytes
    assert acked is not None
    assert result.flow.delivered_bytes == acked
    assert result.flow.receiver.bytes is None
    (note,) = [note for note in result.notes if "impossible, not used" in note]
    assert note.startswith("the server reports that its stream 1 received ")


def test_a_possible_count_of_half_of_the_bytes_has_a_note(run_once: RunLoop) -> None:
    """A kernel could hold 10 MB unread, but the report must not leave the two counts side by side
    without a word."""

    async def main() -> nm.Result:
        async with fake(claims(lambda sent: sent // 2)) as it:
            wanted = replace(spec(deadlines=UNHURRIED), timing=nm.Timing(total_bytes=20_000_000))
            return await nm.measure(it.address, wanted)

    result = run_once(main())
    acked = result.client.streams[0].acked_bytes
    counted = known(result.flow.receiver.bytes)
    assert counted <= known(acked) // 2 + 2**20
    (note,) = [note for note in result.notes if "did not read the rest" in note]
    assert note == (
        f"the server's kernel acknowledged {acked} bytes of stream 1, and the server counted"
        f" {counted}: it did not read the rest, or its count is wrong"
    )


def test_a_possible_count_is_believed(run_once: RunLoop) -> None:
    async def main() -> nm.Result:
        async with fake(claims(lambda sent: sent - 1000)) as it:
            return await nm.measure(
                it.address, spec(duration_s=0.2, target_bps=100_000_000, deadlines=UNHURRIED)
            )

    result = run_once(main())
    assert result.flow.receiver.bytes == result.client.streams[0].acked_bytes - 1000
    assert not [note for note in result.notes if "impossible" in note or "did not read" in note]


@pytest.mark.parametrize("lasted_s", [0.1, 1.0])
def test_streams_that_end_early_where_the_server_sent_for_the_whole_time(
    run_once: RunLoop, lasted_s: float
) -> None:
    """A client that did not run for a while reads at once what the server sent over that time."""
    sent = {"id": 1, "role": "sender", "bytes": 5000, "acked_bytes": 5000, "last_ns": 0}

    async def script(it: Fake) -> None:
        await it.agree(extended=True)
        await it.say(TEST_START + TEST_RUNNING)
        await asyncio.get_running_loop().sock_sendall(it.streams[0], bytes(5000))
        it.streams[0].shutdown(socket.SHUT_WR)
        assert await it.take(it.control, 1) == TEST_END
        await it.say(EXCHANGE_RESULTS)
        await it.take_json()
        report = {"streams": [sent], "duration_ns": round(lasted_s * 1e9)}
        await it.say_json({**GOOD, "netmeasure": report})
        await it.say(DISPLAY_RESULTS)
        await it.stay()

    async def main() -> nm.Result:
        async with fake(script) as it:
            wanted = spec("download", 1, deadlines=UNHURRIED)
            try:
                return await nm.measure(it.address, wanted)
            except nm.StreamError as exc:
                result: nm.Result = exc.result
                return result

    result = run_once(main())
    assert result.flows[0].receiver.bytes == 5000
    assert result.complete is (lasted_s == 1.0)
    if result.error is not None:
        assert re.fullmatch(
            r"the server's streams ended after \d\.\d\d of 1 s", result.error.message
        )
