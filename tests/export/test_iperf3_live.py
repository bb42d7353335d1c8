"""Test the reports of real tests, between two of ours and with the real iperf3.

Their lines and keys are those of the captures, and their numbers are plausible.
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, Literal

import pytest
from msgspec.structs import replace
from real import End, text
from test_iperf3_documents import LATER, leaves

import netmeasure as nm
from netmeasure.export.iperf3 import JsonReport, Report, Settings, TextReport
from netmeasure.observe import Control, Observer, Opening
from netmeasure.result import Interval, Result
from netmeasure.spec import PeerSpec
from support import iperf3

pytestmark = pytest.mark.interop

RunOnce = Callable[[Coroutine[Any, Any, Any]], Any]
MBIT = 1_000_000
TIMING = nm.Timing(duration_s=0.6, interval_s=0.3)
TCP = nm.TcpSpec(timing=TIMING, target_bps=50 * MBIT, block_bytes=131_072)
UDP = nm.UdpSpec(timing=TIMING, target_bps=50 * MBIT, datagram_bytes=1400, offload=False)


class Watch(Observer):
    """Record both reports of a test."""

    def __init__(self, end: End, spec: PeerSpec) -> None:
        style = Settings(end=end, version="iperf 3.12", host="127.0.0.1", interval_s=0.3)
        self.spec = spec
        self.text: list[str] = []
        self.json: list[str] = []
        self.ended = asyncio.Event()
        self.gives: Literal["text", "json"] = "text"
        self._both: list[tuple[Report, list[str]]] = [
            (TextReport(style), self.text),
            (JsonReport(style), self.json),
        ]
        self._end = end

    def on_accepted(self, control: Control) -> None:
        for report, lines in self._both:
            if self._end == "client":
                lines += report.connected(control, self.spec, time.time())
            else:
                lines += report.accepted(control, time.time())

    def on_opening(self, opening: Opening) -> None:
        for report, lines in self._both:
            lines += report.opening(opening)

    def on_interval(self, interval: Interval) -> None:
        for report, lines in self._both:
            lines += report.interval(interval)

    def on_ended(self, result: Result) -> None:
        error = None if result.error is None else result.error.message
        for report, lines in self._both:
            lines += report.ended(result, error=error)
        self.ended.set()

    def output(self, result: Result) -> str | Mapping[str, Any] | None:
        return self._both[self.gives == "json"][0].output(result)

    @property
    def document(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads("\n".join(self.json))
        return found


def among_us(run: RunOnce, spec: PeerSpec) -> tuple[Watch, Watch]:
    async def main() -> tuple[Watch, Watch]:
        client, server = Watch("client", spec), Watch("server", spec)
        async with nm.serve("127.0.0.1", 0, observe=lambda: server, interval_s=0.3) as running:
            await nm.measure("127.0.0.1", spec, port=running.port, observer=client)
            await asyncio.wait_for(server.ended.wait(), 30)
        return client, server

    pair: tuple[Watch, Watch] = run(main())
    return pair


def shape(lines: list[str]) -> list[str]:
    """Return the kinds of lines in order, each once, since the number of intervals varies."""
    kinds = [re.sub(r" *(<N>|\d[\d.]*)", "<N>", line) for line in lines]
    kinds = [re.sub(r"[KMGT]?(Byte|bit)s", r"\1s", kind) for kind in kinds]
    found: list[str] = []
    for kind in kinds:
        if kind not in found:
            found.append(kind)
    return found


DOWN = {"direction": "download"}
BOTH = {"direction": "both"}
CASES = [
    pytest.param(replace(TCP), "tcp-rate", "json-tcp", id="tcp"),
    pytest.param(replace(TCP, **DOWN), "tcp-reverse", "json-tcp-reverse", id="tcp-reverse"),
    pytest.param(
        replace(TCP, **BOTH, streams=2), "tcp-bidir-parallel", "json-tcp-bidir-parallel", id="bidir"
    ),
    pytest.param(replace(UDP, streams=2), "udp-parallel", "json-udp-parallel", id="udp"),
    pytest.param(replace(UDP, **BOTH), "udp-bidir", "json-udp-bidir", id="udp-bidir"),
]


def check(watch: Watch, end: End, told: str, document: str) -> None:
    """Compare a report with the real iperf3's of such a test."""
    lines = text(told, end).splitlines()
    assert shape(watch.text) == shape(lines if end == "client" else lines[3:])
    real = {path for path, _ in leaves(json.loads(text(document, end)))}
    ours = watch.document
    assert {path for path, _ in leaves(ours) if not LATER.fullmatch(path)} == real
    for suffix in ("", "_bidir_reverse"):
        if f"sum_sent{suffix}" in ours["end"]:
            sent, came = (ours["end"][f"sum_{what}{suffix}"] for what in ("sent", "received"))
            assert sent["bytes"] >= came["bytes"] > 0
            for one in (sent, came):
                assert one["bits_per_second"] == pytest.approx(one["bytes"] * 8 / one["seconds"])
            mine = sent if ours["intervals"][0][f"sum{suffix}"]["sender"] else came
            assert mine["bytes"] == sum(one[f"sum{suffix}"]["bytes"] for one in ours["intervals"])


@pytest.mark.parametrize(("spec", "told", "document"), CASES)
def test_both_ends_ours(run_once: RunOnce, spec: PeerSpec, told: str, document: str) -> None:
    client, server = among_us(run_once, spec)
    check(client, "client", told, document)
    check(server, "server", told, document)
    both = client.document["end"], server.document["end"]
    for name in ("sum_sent", "sum_received"):
        assert both[0][name]["bytes"] == both[1][name]["bytes"]


@pytest.mark.parametrize(("spec", "told", "document"), CASES[:2] + CASES[3:4])
def test_our_client(run_once: RunOnce, spec: PeerSpec, told: str, document: str) -> None:
    watch = Watch("client", spec)
    with iperf3.server(one_off=True, args=("-J",)) as server:
        run_once(nm.measure("127.0.0.1", spec, port=server.port, observer=watch))
        server.process.wait(timeout=10)
        far = json.loads(server.output)["end"]
    check(watch, "client", told, document)
    ours = watch.document["end"]
    theirs = "sum_sent" if spec.direction == "download" else "sum_received"
    assert ours[theirs]["bytes"] == far[theirs]["bytes"]
    cpu = ours["cpu_utilization_percent"], far["cpu_utilization_percent"]
    for name in ("user", "system"):
        assert cpu[0][f"remote_{name}"] == pytest.approx(cpu[1][f"host_{name}"], abs=1e-6)


@pytest.mark.parametrize(
    ("spec", "told", "document", "options"),
    [
        pytest.param(TCP, "tcp-rate", "json-tcp", [], id="tcp"),
        pytest.param(UDP, "udp-bidir", "json-udp-bidir", ["-u", "--bidir"], id="udp-bidir"),
    ],
)
def test_our_server(
    run_once: RunOnce, spec: PeerSpec, told: str, document: str, options: list[str]
) -> None:
    watch = Watch("server", spec)
    ask(run_once, watch, options)
    check(watch, "server", told, document)


def ask(run: RunOnce, watch: Watch, options: list[str]) -> dict[str, Any]:
    """Return what the real client reports about a test with our server."""

    async def main() -> dict[str, Any]:
        async with nm.serve("127.0.0.1", 0, observe=lambda: watch, interval_s=0.3) as server:
            words = ["-t", "1", "-b", "50M", *options]
            report: dict[str, Any] = await asyncio.to_thread(
                iperf3.client, "127.0.0.1", server.port, *words
            )
            await asyncio.wait_for(watch.ended.wait(), 30)
            return report

    report: dict[str, Any] = run(main())
    return report


def test_our_servers_text_at_the_client(run_once: RunOnce) -> None:
    watch = Watch("server", TCP)
    report = ask(run_once, watch, ["--get-server-output"])
    assert report["server_output_text"] == "".join(f"{line}\n" for line in watch.text)


def test_our_servers_document_at_the_client(run_once: RunOnce) -> None:
    watch = Watch("server", UDP)
    watch.gives = "json"
    report = ask(run_once, watch, ["--get-server-output", "-u", "-R"])
    assert report["server_output_json"] == watch.document
