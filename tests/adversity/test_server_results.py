"""Test results of a client that are malformed, or that cannot be true."""

from __future__ import annotations

import gc
import socket
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol import Connection, Kind, PeerResults, Side, connection
from support.hostile_client import (
    EXCHANGE_RESULTS,
    IPERF_DONE,
    SERVER_ERROR,
    TEST_END,
    TEST_RUNNING,
    TEST_START,
    Peer,
    after_test_end,
    drained,
    framed,
    read,
    results,
    watched,
)
from support.optional import known
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


BAD_RESULTS: dict[str, bytes] = {
    "not-json": framed(b"{bad}"),
    "empty": framed(b""),
    "no-streams": framed({k: v for k, v in results(0).items() if k != "streams"}),
    "text-for-a-number": framed({**results(0), "cpu_util_total": "many"}),
    "streams-not-a-list": framed({**results(0), "streams": {"id": 1}}),
    "too-deep": framed(b'{"streams":' + b"[" * 50_000),
    "a-state-byte": b"\x77",
    "extension-not-an-object": framed({**results(0), "netmeasure": 1}),
}


@pytest.mark.parametrize("name", BAD_RESULTS)
def test_results_that_make_no_sense(run_once: RunLoop, name: str) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(BAD_RESULTS[name])
                assert await read(peer.control, 64) in (b"", SERVER_ERROR + b"\0\0\0\x75\0\0\0\0")
            result = await it.failed("remote_protocol")
            # what the server counted by itself is still there
            assert result.flow.receiver.bytes == 5000

    run_once(main())


@pytest.mark.parametrize("ids", [[], [7], [1, 1], [-1]], ids=str)
def test_results_of_other_streams_than_there_were(run_once: RunLoop, ids: list[int]) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                told = results(5000)
                told["streams"] = [{**told["streams"][0], "id": number} for number in ids]
                await peer.send(framed(told))
                assert (await peer.take_results())["streams"][0]["bytes"] == 5000
                await peer.send(IPERF_DONE)
                await peer.expect_end()
            await it.idle()
            (result,) = it.results
            assert result.flow.receiver.bytes == 5000
            it.results.clear()

    run_once(main())


SERIES = {"origin_ns": 0, "width_ns": 1_000_000, "bytes": [1000, 4000]}
HOSTILE: dict[str, dict[str, Any]] = {
    "width-zero": {"series": {**SERIES, "width_ns": 0}},
    "width-negative": {"series": {**SERIES, "width_ns": -1}},
    "width-huge": {"series": {**SERIES, "width_ns": 2**62}},
    "long-ago": {"series": {**SERIES, "origin_ns": -(2**62)}},
    "far-away": {"series": {**SERIES, "origin_ns": 2**62}},
    "no-buckets": {"series": {**SERIES, "bytes": []}},
    "bytes-negative": {"series": {**SERIES, "bytes": [-5]}},
    "bytes-huge": {"series": {**SERIES, "bytes": [2**63 - 1] * 3}},
    "total-negative": {"bytes": -1, "acked_bytes": -1},
    "last-before-first": {"first_ns": 5, "last_ns": -5, "series": SERIES},
    "window-reversed": {"counted_bytes": 1, "counted_from_ns": 9, "counted_to_ns": -9},
    "columns-ragged": {"tcp_info": {"at_ns": [1], "min_rtt_ns": [], "rtt_ns": [1, 2, 3]}},
    "rtt-negative": {"tcp_info": {"at_ns": [1], "min_rtt_ns": [-(2**62)]}},
    "another-number": {"id": 7},
    "other-role": {"role": "receiver"},
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("reverse", [False, True], ids=["forward", "reverse"])
def test_a_report_that_cannot_be_true(run_once: RunLoop, name: str, reverse: bool) -> None:
    role = "receiver" if reverse else "sender"
    stream = {"id": 1, "role": role, "bytes": 5000, "series": SERIES, **HOSTILE[name]}

    async def main() -> nm.Result:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree_extended(**({"reverse": True} if reverse else {}))
                await peer.open_stream(tag=b"\0\0\0\1")
                await peer.expect(TEST_START + TEST_RUNNING)
                if reverse:
                    await read(peer.streams[0], 5000)
                else:
                    await peer.send_data()
                    peer.streams[0].shutdown(socket.SHUT_WR)
                await peer.send(TEST_END)
                if reverse:
                    await drained(peer.streams[0])
                await peer.expect(EXCHANGE_RESULTS)
                await peer.send(framed({**results(5000), "netmeasure": {"streams": [stream]}}))
                # accepted or refused, but never a crash, and always with an end
                await read(peer.control, 4)
                peer.control.close()
                await it.idle()
            (result,) = it.results
            it.results.clear()
            return result

    result = run_once(main())
    assert result.error is None or result.error.code in ("remote_protocol", "peer_closed")
    assert nm.Result.from_json(result.to_json()) == result
    assert sum(s.bytes for s in result.server.streams) >= 5000


def test_the_server_closes_at_once_after_iperf_done(run: RunLoop) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(framed(results(5000)))
                theirs = await peer.take_results()
                assert theirs["streams"][0]["bytes"] == 5000
                assert "netmeasure" not in theirs
                await peer.send(IPERF_DONE)
                await peer.expect_end()  # long before any deadline of the server
            await it.idle()
            (result,) = it.results
            assert result.complete
            assert not result.peer_extended
            it.results.clear()

    run(main())


def test_a_message_that_is_longer_than_its_test_can_give(run: RunLoop) -> None:
    """The server refuses the message because of its announced length, and keeps none of it."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send((2**24 - 1).to_bytes(4, "big") + b'{"a":[')
                await peer.expect_end()
            result = await it.failed("remote_protocol")
            assert "announced client results of 16777215 bytes" in known(result.error).message

    run(main())


@pytest.mark.parametrize("good", [True, False], ids=["good", "nonsense"])
def test_a_large_message_is_decoded_in_another_thread(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, good: bool
) -> None:
    threads: list[threading.Thread] = []
    decode = PeerResults.decode

    def noted(data: bytes) -> PeerResults:
        threads.append(threading.current_thread())
        return decode(data)

    monkeypatch.setitem(connection._DECODERS, Kind.CLIENT_RESULTS, noted)
    told = framed(results(5000))[4:] if good else b'{"streams":['
    told = len(told.ljust(300_000)).to_bytes(4, "big") + told.ljust(300_000)

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await after_test_end(peer)
                await peer.send(told)
                if good:
                    assert (await peer.take_results())["streams"][0]["bytes"] == 5000
                    await peer.send(IPERF_DONE)
                await peer.expect_end()
            await it.idle()
            assert [result.complete for result in it.results] == [good]
            it.results.clear()

    run(main())
    assert threads[0] is not threading.main_thread()


@pytest.mark.parametrize("nonsense", [b"{bad}", b'{"streams":['.ljust(400_000)], ids=["S", "L"])
def test_a_session_is_freed_when_its_client_is_gone(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, nonsense: bytes
) -> None:
    """No reference keeps the session: neither an exception's traceback nor a cycle of its parts."""
    seen: list[weakref.ref[Connection]] = []
    start = Connection.__init__

    def noted(self: Connection, side: Side) -> None:
        seen.append(weakref.ref(self))
        start(self, side)

    async def main() -> None:
        async with watched() as it:
            with monkeypatch.context() as patch, Peer(it) as peer:
                patch.setattr(Connection, "__init__", noted)
                await after_test_end(peer)
                await peer.send(framed(nonsense))
                await peer.expect_end()
            await it.failed("remote_protocol")
            # until its tasks' callbacks have run, and the thread that decoded is idle
            await until(lambda: [ref() for ref in seen] == [None])

    gc.collect()
    gc.disable()
    try:
        run(main())
    finally:
        gc.enable()
