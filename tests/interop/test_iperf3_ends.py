"""What ends a test by iperf3's options, between the real iperf3 and netmeasure and between two of
ours: files, signals, silence; and the server's output, which comes after the end."""

from __future__ import annotations

import asyncio
import json
import os
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import netmeasure as nm
from support import census, iperf3
from support.iperf3_pairs import SHORT, RunOnce, ours, served
from support.waiting import until

pytestmark = pytest.mark.interop


# ---- what a server computes ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "ways"),
    [
        ("", ["-R -O 1", "--bidir -P 2", "-u -b 10M", "--get-server-output", "-P 70 -R"]),
        ("-J", ["-n 1M", "--bidir"]),
    ],
)
def test_a_server_loads_no_analysis_for_iperf3s_figures(options: str, ways: list[str]) -> None:
    program = ("env", *iperf3.OURS)  # a process of its own: a fork of `support.warm` has numpy
    with iperf3.server(program=program, args=options.split()) as server:
        for way in ways:
            end = () if "-n" in way else ("-t", "1")
            report = iperf3.client("127.0.0.1", server.port, *end, *way.split())
            assert report["end"]["sum_received"]["bytes"] > 0
        maps = Path(f"/proc/{server.process.pid}/maps").read_text()
        assert "/netmeasure/_fast/" in maps
        assert "/numpy/" not in maps


def test_a_server_returns_the_memory_of_many_streams() -> None:
    with iperf3.server(program=("env", *iperf3.OURS)) as server:

        def own_bytes() -> int:
            status = Path(f"/proc/{server.process.pid}/status").read_text()
            return int(status.partition("RssAnon:")[2].split()[0]) * 1024

        before = own_bytes()
        iperf3.client("127.0.0.1", server.port, "-t", "1", "-P", "128", "-R")
        # 3 MiB more; without returning any, 21
        assert census.settle(lambda: own_bytes() < before + 10 * 2**20)


@pytest.mark.parametrize("way", ["-R", "-R -P 4", "--bidir -P 2", "-R -O 1"])
def test_no_more_is_received_than_sent(way: str) -> None:
    with iperf3.server(program=iperf3.OURS) as server:
        report = iperf3.client("127.0.0.1", server.port, "-t", "1", "-b", "2M", *way.split())
    ends = report["end"]
    suffix = "_bidir_reverse" if "bidir" in way else ""
    sent, received = (ends[f"sum_{word}{suffix}"]["bytes"] for word in ("sent", "received"))
    assert sent >= received > 0
    for one in ends["streams"]:
        assert one["sender"]["bytes"] >= one["receiver"]["bytes"] > 0


class Counting(nm.Observer):
    """Keep the results, for which nothing needs to be analysed unless `reads` says so."""

    def __init__(self, results: asyncio.Queue[nm.Result], *, reads: bool) -> None:
        self.reads_analysis = reads
        self._results = results

    def on_ended(self, result: nm.Result) -> None:
        self._results.put_nowait(result)


@pytest.mark.parametrize(
    ("reads", "heeds"), [(False, False), (True, False), (False, True)], ids=str
)
@pytest.mark.parametrize(
    "spec", [nm.TcpSpec(timing=SHORT, streams=2), nm.UdpSpec(timing=SHORT, direction="both")]
)
def test_a_server_analyses_where_somebody_reads_it(
    run_once: RunOnce, spec: nm.TcpSpec | nm.UdpSpec, *, reads: bool, heeds: bool
) -> None:
    async def run() -> tuple[nm.Result, nm.Result]:
        results: asyncio.Queue[nm.Result] = asyncio.Queue()
        options: dict[str, Any] = {"on_result": lambda _: None} if heeds else {}
        observe = partial(Counting, results, reads=reads)
        async with nm.serve("127.0.0.1", 0, observe=observe, **options) as server:
            mine = await nm.measure(server.address, spec)
            return mine, await results.get()

    mine, theirs = run_once(run())
    assert len(theirs.flows) == len(mine.flows)
    for ours_, known in zip(theirs.flows, mine.flows, strict=True):
        assert (ours_.receiver, ours_.loss) == (known.receiver, known.loss)
        assert [s.receiver is not None for s in ours_.streams] == [True] * len(known.streams)
        analysed = reads or heeds
        assert (ours_.steady is not None) == analysed
        assert bool(ours_.intervals) == analysed
        assert ours_.no_steady is None  # not "no bytes" or the like: nobody has looked


# ---- files --------------------------------------------------------------------------------------


@pytest.mark.parametrize("streams", [1, 2])
def test_a_file_is_sent_to_its_end_and_written(
    run_once: RunOnce, tmp_path: Path, streams: int
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    content = os.urandom(3_000_001)
    source.write_bytes(content)
    spec = nm.TcpSpec(streams=streams, file=str(source), timing=nm.Timing(duration_s=20))
    mine, theirs, _ = run_once(ours(spec, limits=nm.ServerLimits(file=str(target))))
    assert target.read_bytes() == content
    assert mine.upload.receiver.bytes == streams * len(content)
    assert mine.upload.sender.acked_bytes == streams * len(content)
    assert {s.end_reason for s in mine.client.streams} == {"eof"}
    assert mine.complete
    assert theirs.complete


def test_a_file_of_the_server_is_received(run_once: RunOnce, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(2_000_003))
    spec = nm.TcpSpec(direction="download", file=str(target), timing=nm.Timing(duration_s=20))
    mine, _, _ = run_once(ours(spec, limits=nm.ServerLimits(file=str(source))))
    assert target.read_bytes() == source.read_bytes()
    assert mine.complete


@pytest.mark.parametrize("end", [{}, {"duration_s": 20}, {"total_bytes": 2_000_003}], ids=str)
def test_a_file_goes_to_the_real_server(
    run_once: RunOnce, tmp_path: Path, end: dict[str, Any]
) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(2_000_003))
    timing = nm.Timing(**end) if end else nm.Timing(endless=True)
    with iperf3.server(args=["-F", str(target)]) as server:
        mine = run_once(
            nm.measure("127.0.0.1", nm.TcpSpec(file=str(source), timing=timing), port=server.port)
        )
    assert mine.complete
    received = target.read_bytes()
    # the real server reads until it hears of the end, and writes whole buffers only
    assert source.read_bytes().startswith(received)
    assert len(received) >= 1_800_000


def test_the_real_client_sends_a_file(run_once: RunOnce, tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_bytes(os.urandom(1_000_003))

    async def main() -> nm.Result:
        limits = nm.ServerLimits(file=str(target))
        async with served(limits=limits) as (server, results, _):
            await asyncio.to_thread(iperf3.client, "127.0.0.1", server.port, "-F", str(source))
            return await results.get()

    result = run_once(main())
    assert target.read_bytes() == source.read_bytes()
    assert result.complete


def test_files_that_can_t_be_used_are_said_before_the_test(run_once: RunOnce) -> None:
    with pytest.raises(nm.SpecError, match="can't read /nowhere/at/all"):
        run_once(ours(nm.TcpSpec(file="/nowhere/at/all")))
    with pytest.raises(nm.SpecError, match="can't write /nowhere/at/all"):
        run_once(ours(nm.TcpSpec(direction="download", file="/nowhere/at/all")))
    limits = nm.ServerLimits(file="/nowhere")
    with pytest.raises(nm.PeerRefusedError) as caught:
        run_once(ours(nm.UdpSpec(), limits=limits))
    assert caught.value.number == 34


# ---- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", ["upload", "download", "both"])
@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
@pytest.mark.parametrize("plain", [False, True], ids=["ours", "iperf3"])
def test_an_endless_test_ends_when_it_is_told_to(
    run_once: RunOnce, direction: Any, udp: bool, plain: bool
) -> None:
    timing = nm.Timing(endless=True, interval_s=0.1)
    spec: nm.TcpSpec | nm.UdpSpec = nm.TcpSpec(direction=direction, timing=timing)
    if udp:
        spec = nm.UdpSpec(direction=direction, timing=timing)

    async def main(target: str) -> nm.Result:
        async with nm.connect(target) as client, client.run(spec) as running:
            seen = 0
            async for _ in running:
                seen += 1
                if seen == 4:
                    running.stop()
        assert running.result is not None
        return running.result

    async def with_ours() -> nm.Result:
        async with served() as (server, results, openings):
            mine = await main(server.address)
            theirs = await results.get()
            assert theirs.complete
            assert openings[0].spec.timing.endless
            return mine

    if plain:
        with iperf3.server() as server:
            result = run_once(main(f"127.0.0.1:{server.port}"))
    else:
        result = run_once(with_ours())
    assert result.complete
    for flow in result.flows:
        assert (flow.receiver.bytes or 0) > 0


def test_an_endless_test_of_the_real_client(run_once: RunOnce) -> None:
    async def main() -> nm.Result:
        async with served() as (server, results, openings):
            process = await asyncio.create_subprocess_exec(
                *("iperf3", "-c", "127.0.0.1", "-p", str(server.port), "-t", "0"),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
            )
            await until(lambda: any(session._workload for session in server._sessions))
            (session,) = server._sessions
            workload = session._workload
            assert workload is not None
            await until(workload.moved_bytes)
            process.terminate()
            await process.communicate()
            assert openings[0].spec.timing.endless
            return await results.get()

    result = run_once(main())
    assert not result.complete
    assert result.error is not None
    assert result.error.code == "peer_terminated"
    assert (result.upload.receiver.bytes or 0) > 0


# ---- the server's output ------------------------------------------------------------------------


@pytest.mark.parametrize("arguments", [(), ("-J",)], ids=["text", "json"])
def test_what_the_real_server_prints_is_in_the_result(
    run_once: RunOnce, arguments: tuple[str, ...]
) -> None:
    spec = nm.TcpSpec(timing=nm.Timing(duration_s=0.5), server_output=True)
    with iperf3.server(args=arguments) as server:
        mine = run_once(nm.measure("127.0.0.1", spec, port=server.port))
    assert mine.server_output is not None
    if arguments:
        document = json.loads(mine.server_output)
        assert document["end"]["sum_received"]["bytes"] > 0
    else:
        assert "Accepted connection from 127.0.0.1" in mine.server_output
        assert "receiver" in mine.server_output


def test_our_server_s_output_is_in_our_result(run_once: RunOnce) -> None:
    mine, _, _ = run_once(ours(nm.TcpSpec(timing=SHORT, streams=2, server_output=True)))
    assert mine.server_output == "said by the server of 2 streams\n"
    mine, _, _ = run_once(ours(nm.TcpSpec(timing=SHORT)))
    assert mine.server_output is None


# ---- waits --------------------------------------------------------------------------------------


@pytest.mark.parametrize("udp", [False, True], ids=["tcp", "udp"])
def test_a_client_that_receives_nothing_gives_up(run_once: RunOnce, udp: bool) -> None:
    """The smallest rate sends the first datagram at once and the second after 8 s."""
    deadlines = nm.Deadlines(receive_s=0.3)
    timing = nm.Timing(duration_s=5)
    spec: nm.TcpSpec | nm.UdpSpec = nm.UdpSpec(
        direction="download",
        timing=timing,
        target_bps=1000,
        datagram_bytes=1000,
        deadlines=deadlines,
    )
    if not udp:
        spec = nm.TcpSpec(
            direction="download",
            timing=timing,
            options=nm.SocketOptions(pacing_bps=1000),
            deadlines=deadlines,
        )
    with pytest.raises(nm.PeerTimeoutError, match=r"no data were received for 0.3 s"):
        run_once(ours(spec))


def test_a_server_that_receives_nothing_gives_up(run_once: RunOnce) -> None:
    spec = nm.UdpSpec(timing=nm.Timing(duration_s=5), target_bps=1000, datagram_bytes=1000)
    with pytest.raises(nm.PeerRefusedError) as caught:
        run_once(ours(spec, limits=nm.ServerLimits(receive_s=0.3)))
    assert caught.value.number == 144
