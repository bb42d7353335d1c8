"""Test that a large test does not block a server's event loop, which all tests of the server share.

How long a step blocks the loop depends on the machine, so these tests check where the steps run:
one stream is made in each turn of the loop, and threads are started, joined and reported on in
other threads.
`benchmarks.bench_handshake` gives the times.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.peer.server.session import Session
from netmeasure.workloads.base import Workload
from support.waiting import until

RunLoop = Callable[[Coroutine[Any, Any, Any]], Any]

STREAMS = 24


class Turns:
    """Count the turns of the running event loop."""

    def __init__(self) -> None:
        self.number = 0
        self._handle: asyncio.Handle | None = None

    def _turn(self) -> None:
        self.number += 1
        self._handle = asyncio.get_running_loop().call_soon(self._turn)

    @contextmanager
    def counted(self) -> Iterator[None]:
        self._turn()
        try:
            yield
        finally:
            assert self._handle is not None
            self._handle.cancel()


@pytest.mark.parametrize("direction", ["upload", "download"])
@pytest.mark.parametrize("kind", ["tcp", "udp"])
def test_a_large_test_leaves_the_loop_to_others(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch, direction: Any, kind: str
) -> None:
    turns = Turns()
    served: list[nm.Result] = []
    added: list[int] = []
    beside: dict[str, list[bool]] = {}

    def follow(owner: type, name: str, called: Callable[..., object]) -> None:
        original = getattr(owner, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            called(*args)
            return original(*args, **kwargs)

        monkeypatch.setattr(owner, name, call)

    def note(what: str) -> None:
        here = threading.current_thread() is threading.main_thread()
        beside.setdefault(what, []).append(not here)

    def note_thread(what: str) -> Callable[[threading.Thread], None]:
        return lambda thread: note(what) if traffic(thread) else None

    def traffic(thread: threading.Thread) -> bool:
        return thread.name.startswith(("netmeasure-sender", "netmeasure-receiver"))

    servers = "receiver" if direction == "upload" else "sender"
    follow(Workload, "add", lambda *args: added.append(turns.number) if servers in args else None)
    follow(threading.Thread, "start", note_thread("start"))
    follow(threading.Thread, "join", note_thread("join"))
    follow(Workload, "report", lambda *_: note("report"))
    follow(Session, "_build_result", lambda *_: note("result"))

    async def main() -> None:
        timing = nm.Timing(duration_s=0.2)
        spec: nm.TcpSpec | nm.UdpSpec = nm.TcpSpec(
            streams=STREAMS, direction=direction, timing=timing, target_bps=10**6
        )
        if kind == "udp":
            spec = nm.UdpSpec(streams=STREAMS, direction=direction, timing=timing, target_bps=10**6)
        async with nm.serve("127.0.0.1", 0, on_result=served.append) as server:
            with turns.counted():
                assert (await nm.measure(server.address, spec)).complete
                await until(lambda: served)  # the server's part ends a little later

    run(main())
    assert len(added) == len(set(added)) == STREAMS
    assert set(beside) == {"start", "join", "report", "result"}
    assert {what: all(calls) for what, calls in beside.items()} == dict.fromkeys(beside, True)
    assert len(beside["start"]) == 2 * STREAMS
