"""Test wrong parameters: the server refuses them with iperf3's error number, and reports them."""

from __future__ import annotations

import struct
from collections.abc import Callable, Coroutine
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.protocol import stream_ids, stream_tag
from support.hostile_client import (
    CREATE_STREAMS,
    IPERF_DONE,
    TEST_END,
    Peer,
    framed,
    read,
    watched,
)
from support.optional import known
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]


WRONG: dict[str, tuple[object, int]] = {
    "oversize": (struct.pack(">I", 65_537) + b"{", 114),
    "huge": (struct.pack(">I", 2**24 - 1) + b"{", 114),
    "empty": (struct.pack(">I", 0), 114),
    "not-a-length": (b"\x7f\xff\xff\xff", 114),
    "not-json": (framed(b'{"tcp":tru'), 114),
    "not-utf-8": (framed(b'{"title":\xff\xfe}'), 114),
    "half-a-character": (framed(b'{"title":"\\ud800"}'), 114),
    "not-an-object": (framed([1, 2]), 114),
    "too-deep": (framed(b"[" * 50_000), 114),
    "text-for-a-number": ({"time": "1"}, 114),
    "beyond-64-bits": ({"num": 2**70}, 114),
    "time-negative": ({"time": -1}, 5),
    "time-too-long": ({"time": 86_401}, 5),
    "no-stream": ({"parallel": 0}, 6),
    "more-streams-than-usual": ({"parallel": 129}, 6),
    "too-many-streams": ({"parallel": 1025}, 6),
    "too-many-streams-both-ways": ({"parallel": 513, "bidirectional": True}, 6),
    "len-zero": ({"len": 0}, 7),
    "len-too-large": ({"len": 1024 * 1024 + 1}, 7),
    "window": ({"window": 512 * 1024 * 1024 + 1}, 8),
    "mss": ({"MSS": 32_768}, 10),
    "omit": ({"omit": 601}, 12),
    "sctp": ({"sctp": True}, 13),
    "mptcp": ({"mptcp": True}, 13),
    "burst": ({"burst": 1001}, 15),
    "udp-len": ({"udp": True, "len": 65_508}, 20),
    "tos": ({"TOS": 256}, 21),
    "both-ways": ({"reverse": True, "bidirectional": True}, 25),
    "bytes-negative": ({"num": -1}, 114),
    "blocks-negative": ({"blockcount": -1}, 114),
    "rate-negative": ({"bandwidth": -1}, 114),
    "flow-label": ({"flowlabel": 2**20}, 127),
    "affinity": ({"server_affinity": 1025}, 132),
    "extension-not-an-object": ({"netmeasure": 1}, 114),
    "extension-duration": ({"netmeasure": {"duration_ms": -1}}, 5),
    "extension-mode": ({"netmeasure": {"receive_mode": "x"}}, 114),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_parameters_are_answered_with_their_number(run_once: RunLoop, name: str) -> None:
    said, code = WRONG[name]

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.hello()
                if isinstance(said, dict):
                    await peer.ask(**said)
                else:
                    assert isinstance(said, bytes)
                    await peer.send(said)
                await peer.expect_error(code)
            await it.idle()
            assert it.results == []
            it.refusals.clear()

    run_once(main())


@pytest.mark.parametrize("name", ["not-json", "sctp"])
def test_wrong_parameters_are_reported_to_the_servers_operator(
    run_once: RunLoop, name: str
) -> None:
    said, code = WRONG[name]

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.hello()
                await peer.send(said if isinstance(said, bytes) else framed(said))
                await peer.expect_error(code)
                where = "{}:{}".format(*peer.control.getsockname())
            assert (await it.told()).startswith(where)

    run_once(main())


@pytest.mark.parametrize("count", [1, 4])
def test_an_unknown_congestion_control_is_refused(run: RunLoop, count: int) -> None:
    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.agree_extended(parallel=count, congestion="nonesuch")
                for tag in stream_ids(count):
                    await peer.open_stream(tag=stream_tag(tag))
                await peer.expect_error(134)
                for sock in peer.streams:
                    assert await read(sock, 1) == b""
            result = await it.failed("test_refused")
            assert "nonesuch" in known(result.error).message

    run(main())


def test_iperf3_is_served_without_an_unknown_congestion_control(run: RunLoop) -> None:
    """iperf3's own server does the same; the results have the congestion control that was used."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.start(congestion="nonesuch")
                await peer.send_data()
                await peer.send(TEST_END)
                await peer.give_results()
                theirs = await peer.take_results()
                assert theirs["congestion_used"] not in ("", "nonesuch")
                await peer.send(IPERF_DONE)
            await until(lambda: it.results)
            assert it.results.pop().complete

    run(main())


def test_a_title_and_data_that_are_no_utf_8(run_once: RunLoop) -> None:
    """iperf3 sends the bytes of its command line without a change."""

    async def main() -> None:
        async with watched() as it:
            with Peer(it) as peer:
                await peer.hello()
                await peer.send(framed(b'{"tcp":true,"time":9,"title":"\xff","extra_data":"\xfe"}'))
                await peer.expect(CREATE_STREAMS)
            await until(lambda: it.results)
            spec = it.results.pop().spec
            assert isinstance(spec, nm.TcpSpec)
            assert (spec.title, spec.extra_data) == ("\udcff", "\udcfe")

    run_once(main())
