"""Test the events of a run: they are typed and in order, the whole result is the last one, and each
reader reads at its own pace."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import subprocess
import threading
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path

import pytest

import netmeasure as nm
from netmeasure.cli.exits import Exit
from netmeasure.measurement.events import MOST_KEPT, EventLog
from netmeasure.result.events import Event
from support import warm
from support.full_result import EMPTY
from support.measured import RunLoop, served
from support.ports import deaf, nobody
from support.program import running, server

#: These tests end after so many bytes, at a rate that makes them last for several intervals.
BYTES, RATE = 2_000_000, 40_000_000
WANTED = nm.TcpSpec(
    timing=nm.Timing(total_bytes=BYTES, interval_s=0.1), target_bps=RATE, block_bytes=10_000
)


@contextlib.asynccontextmanager
async def begun(wanted: nm.TcpSpec = WANTED) -> AsyncIterator[nm.Run]:
    async with (
        served() as (address, _),
        nm.connect(address.address) as client,
        client.run(wanted) as run,
    ):
        yield run


def test_a_run_reports_its_phases_its_intervals_and_its_end(run_once: RunLoop) -> None:
    async def main() -> tuple[list[Event], nm.Result]:
        async with begun() as run:
            seen = [event async for event in run.events()]
            return seen, await run.wait()

    seen, result = run_once(main())
    assert isinstance(seen[-1], nm.EndEvent)
    assert seen[-1].result is result
    assert sum(isinstance(event, nm.EndEvent) for event in seen) == 1
    phases = [event.phase.name for event in seen if isinstance(event, nm.PhaseEvent)]
    assert phases.index("connect") < phases.index("control")
    intervals = [event.interval for event in seen if isinstance(event, nm.IntervalEvent)]
    assert sum(interval.bytes for interval in intervals) == BYTES
    assert all(before.at_ns <= after.at_ns for before, after in pairwise(seen))


def test_every_event_is_added_on_the_event_loop(
    run: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those of the thread that assembles the result: waking a reader is not safe there."""
    adders: list[int] = []

    def add(log: EventLog, event: Event) -> None:
        adders.append(threading.get_ident())
        known(log, event)

    known = EventLog.add
    monkeypatch.setattr(EventLog, "add", add)

    async def main() -> list[Event]:
        async with begun() as running_test:
            return [event async for event in running_test.events()]

    seen = run(main())
    names = [event.phase.name for event in seen if isinstance(event, nm.PhaseEvent)]
    assert "first_byte" in names
    assert set(adders) == {threading.get_ident()}


def test_a_reader_that_stops_or_leaves_changes_nothing(run_once: RunLoop) -> None:
    async def leave(run: nm.Run) -> Event:
        async for event in run.events():
            return event
        raise AssertionError

    async def main() -> tuple[list[Event], list[Event], nm.Result]:
        async with begun() as run:
            slow = run.events()
            first = await anext(slow)
            gone = await leave(run)
            assert gone == first
            quick = [event async for event in run.events()]
            assert run.is_over
            return quick, [first] + [event async for event in slow], await run.wait()

    quick, slow, result = run_once(main())
    assert slow == quick
    assert result.complete
    assert result.receiver.bytes == BYTES


def test_the_reason_of_a_failure_is_an_event(run_once: RunLoop) -> None:
    async def main() -> list[Event]:
        seen: list[Event] = []
        with nobody() as port, pytest.raises(nm.ConnectRefusedError):
            async with nm.connect("127.0.0.1", port=port) as client, client.run(WANTED) as run:
                seen += [event async for event in run.events()]
        return seen

    *_, error, end = run_once(main())
    assert isinstance(error, nm.ErrorEvent)
    assert isinstance(end, nm.EndEvent)
    assert error.error.phase == "connect"
    assert end.result.error == error.error


def test_waiting_is_an_event_with_the_unanswered_syns(run_once: RunLoop) -> None:
    async def main(port: int) -> nm.WaitingEvent:
        async with nm.connect("127.0.0.1", port=port) as client, client.run(WANTED) as run:
            async for event in run.events():
                if isinstance(event, nm.WaitingEvent):
                    await run.abort()
                    return event
        raise AssertionError

    with deaf() as port:
        event = run_once(main(port))
    assert event.step == "connect"
    assert event.address == f"127.0.0.1:{port}"
    assert event.waited_ns >= 450_000_000
    assert event.unanswered_syns is None or event.unanswered_syns >= 1


def test_a_slow_reader_is_told_how_much_was_skipped(run_once: RunLoop) -> None:
    async def main() -> list[Event]:
        log = EventLog()
        for number in range(MOST_KEPT + 99):
            log.add(nm.WarningEvent(at_ns=number, message=str(number)))
        log.add(nm.EndEvent(at_ns=10**6, result=EMPTY))
        return [event async for event in log.follow()]

    told, *rest = run_once(main())
    assert isinstance(told, nm.WarningEvent)
    assert told.message.startswith("100 events were skipped")
    assert len(rest) == MOST_KEPT
    assert isinstance(rest[-1], nm.EndEvent)


def test_a_reader_of_lines_that_leaves_does_not_end_the_test(tmp_path: Path) -> None:
    file = tmp_path / "run.json"
    words = ("-n", "1M", "-b", "20M", "-i", "0.1", "--json-lines", "--json", str(file))
    with server() as (_, address), running("client", address, *words) as client:
        assert client.stdout is not None
        assert client.stdout.readline().startswith('{"event":"phase"')
        client.stdout.close()
        assert client.wait(30) == Exit.FAILED
    result = nm.Result.from_json(file.read_bytes())
    assert result.complete
    assert result.receiver.bytes == 2**20


#: The least that a pipe holds; there are more bytes of events than twice that.
PIPE_BYTES = 4096


def test_a_reader_of_lines_that_stops_reading_delays_nothing() -> None:
    """The pipe is full long before the end, and no byte is read before the server says that the
    test is over."""
    reading, writing = os.pipe()
    fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    words = ("client", "-n", "1M", "-b", "20M", "-i", "0.01", "--json-lines")
    with server() as (process, address), os.fdopen(reading) as lines:
        argv = (*warm.PROGRAM, *words, address)
        client = warm.start(argv, stdout=writing, stderr=subprocess.PIPE, text=True)
        try:
            os.close(writing)
            assert process.stdout is not None
            assert process.stdout.readline().endswith("complete\n")
            *told, last = lines.read().splitlines()
            _, errors = client.communicate(timeout=30)
        finally:
            client.kill()
            client.wait(30)
    assert (client.returncode, errors) == (Exit.OK, "")
    assert sum(map(len, told)) > 2 * PIPE_BYTES
    events = [json.loads(line) for line in told]
    intervals = [one["interval"] for one in events if one["event"] == "interval"]
    assert sum(one["bytes"] for one in intervals) == 2**20
    assert all(a["end_ns"] == b["start_ns"] for a, b in pairwise(intervals))
    result = json.loads(last)["result"]
    assert (result["complete"], result["flows"][0]["receiver"]["bytes"]) == (True, 2**20)
