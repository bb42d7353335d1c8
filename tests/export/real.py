"""Read what the real iperf3 printed, and make a test of ours with equal streams and numbers.

A captured JSON document gives the Opening, the Intervals and the Result that a run of ours with
these numbers would have had. The tests compare the reports of these with the capture.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from msgspec.structs import replace

from netmeasure.observe import Control, Opening, OpenStream
from netmeasure.result import (
    Datagrams,
    Flow,
    FlowDirection,
    Interval,
    Result,
    Role,
    SideReport,
    SocketFacts,
    StreamInterval,
    StreamReport,
    StreamResult,
)
from netmeasure.spec import PeerSpec, SocketOptions, TcpSpec, Timing, UdpSpec

CAPTURES = Path(__file__).parent / "captures"
MODES: dict[str, dict[str, list[str]]] = json.loads((CAPTURES / "modes.json").read_text())
End = Literal["client", "server"]
STREAM_IDS = (1, *range(3, 300))


def text(name: str, end: str) -> str:
    return (CAPTURES / f"{name}.{end}").read_text()


def documents() -> list[tuple[str, End]]:
    ends: tuple[End, ...] = ("client", "server")
    return [
        (name, end)
        for name in MODES
        for end in ends
        if name.startswith("json-") and text(name, end).startswith("{")
    ]


class Test:
    """Hold a captured document as one of our tests."""

    __test__ = False

    def __init__(self, document: dict[str, Any], end: End, interval_s: float = 1.0) -> None:
        self.document = document
        self.end = end
        start = document["start"]
        asked = start["test_start"]
        self.udp = asked["protocol"] == "UDP"
        self.two_way = "sum_sent_bidir_reverse" in document["end"]
        self.spec = self._spec(start, asked, interval_s)
        peer = start.get("connecting_to") or start["accepted_connection"]
        self.control = Control(
            local="127.0.0.1:40000",
            remote=f"{peer['host']}:{peer['port']}",
            cookie=start["cookie"],
            mss_bytes=start.get("tcp_mss_default", 32768),
        )
        self.unix_s = float(start["timestamp"]["timesecs"])
        #: by socket number: our id of the stream and this end's role
        self.streams: dict[int, tuple[int, Role]] = {}
        each = len(start["connected"]) // (2 if self.two_way else 1)
        first: Role = "sender" if (end == "client") != bool(asked["reverse"]) else "receiver"
        second: Role = "receiver" if first == "sender" else "sender"
        for index, connected in enumerate(start["connected"]):
            role = first if index < each else second
            self.streams[connected["socket"]] = STREAM_IDS[index], role

    def _spec(self, start: dict[str, Any], asked: dict[str, Any], interval_s: float) -> PeerSpec:
        direction: Any = "upload"
        if self.two_way:
            direction = "both"
        elif asked["reverse"]:
            direction = "download"
        timing = Timing(
            duration_s=float(asked["duration"]) or None,
            total_bytes=asked["bytes"] or None,
            total_blocks=asked["blocks"] or None,
            omit_s=float(asked["omit"]),
            interval_s=interval_s,
        )
        common: dict[str, Any] = {
            "direction": direction,
            "streams": asked["num_streams"],
            "timing": timing,
            "target_bps": asked["target_bitrate"] or None,
            "title": self.document.get("title"),
            "extra_data": self.document.get("extra_data"),
        }
        window = start["sock_bufsize"] or None
        if self.udp:
            options = SocketOptions(window_bytes=window, tos=asked["tos"] or None)
            return UdpSpec(
                datagram_bytes=asked["blksize"], offload=False, options=options, **common
            )
        options = SocketOptions(
            window_bytes=window, mss_bytes=start.get("tcp_mss"), tos=asked["tos"] or None
        )
        return TcpSpec(block_bytes=asked["blksize"], options=options, **common)

    @property
    def opening(self) -> Opening:
        start = self.document["start"]
        return Opening(
            end=self.end,
            started_at="2026-01-01T00:00:00Z",
            unix_s=self.unix_s,
            control=self.control,
            spec=self.spec,
            streams=tuple(
                OpenStream(
                    id=self.streams[one["socket"]][0],
                    role=self.streams[one["socket"]][1],
                    socket=SocketFacts(
                        local=f"{one['local_host']}:{one['local_port']}",
                        remote=f"{one['remote_host']}:{one['remote_port']}",
                        sndbuf_bytes=start["sndbuf_actual"],
                        rcvbuf_bytes=start["rcvbuf_actual"],
                    ),
                )
                for one in start["connected"]
            ),
        )

    @property
    def intervals(self) -> list[Interval]:
        return [
            self._interval(whole, whole[name])
            for whole in self.document["intervals"]
            for name in ("sum", "sum_bidir_reverse")
            if name in whole
        ]

    def _interval(self, whole: dict[str, Any], total: dict[str, Any]) -> Interval:
        role: Role = "sender" if total["sender"] else "receiver"
        way: FlowDirection = (
            "upload" if (role == "sender") == (self.end == "client") else "download"
        )
        omit_s = 0.0 if total["omitted"] else self.spec.timing.omit_s
        parts = [part for part in whole["streams"] if part["sender"] == total["sender"]]
        return Interval(
            direction=way,
            counted_by=role,
            start_ns=nanoseconds(total["start"] + omit_s),
            end_ns=nanoseconds(total["end"] + omit_s),
            bytes=total["bytes"],
            streams=tuple(self._part(part) for part in parts),
            omitted=total["omitted"],
            retransmits=total.get("retransmits"),
            packets=_received(total),
            lost_packets=total.get("lost_packets"),
            jitter_ns=_jitter(total),
        )

    def _part(self, part: dict[str, Any]) -> StreamInterval:
        def us(name: str) -> int | None:
            return part[name] * 1000 if name in part else None

        return StreamInterval(
            id=self.streams[part["socket"]][0],
            bytes=part["bytes"],
            retransmits=part.get("retransmits"),
            cwnd_bytes=part.get("snd_cwnd"),
            snd_wnd_bytes=part.get("snd_wnd"),
            rtt_ns=us("rtt"),
            rttvar_ns=us("rttvar"),
            pmtu_bytes=part.get("pmtu"),
            packets=_received(part),
            lost_packets=part.get("lost_packets"),
            jitter_ns=_jitter(part),
        )

    @property
    def result(self) -> Result:
        end = self.document["end"]
        flows: dict[FlowDirection, list[StreamResult]] = {}
        for one in end["streams"]:
            parts = one.get("udp"), one.get("sender"), one.get("receiver")
            socket = next(part["socket"] for part in parts if part)
            stream_id, role = self.streams[socket]
            upload = (role == "sender") == (self.end == "client")
            make = self._datagrams if self.udp else self._tcp
            flows.setdefault("upload" if upload else "download", []).append(
                make(stream_id, role, one)
            )
        cpu = end["cpu_utilization_percent"]
        host, remote = _side(cpu, "host"), _side(cpu, "remote")
        return Result(
            spec=self.spec,
            complete="error" not in self.document,
            started_at="2026-01-01T00:00:00Z",
            target="127.0.0.1:5201",
            flows=tuple(Flow(direction=d, streams=tuple(s)) for d, s in flows.items()),
            client=host if self.end == "client" else remote,
            server=remote if self.end == "client" else host,
        )

    def _tcp(self, stream_id: int, role: Role, one: dict[str, Any]) -> StreamResult:
        client = self.end == "client"
        sent, received = one["sender"], one["receiver"]
        retransmits = sent.get("retransmits")
        omitted = sum(
            part.get("retransmits", 0)
            for whole in self.document["intervals"]
            for part in whole["streams"]
            if part["omitted"] and self.streams[part["socket"]][0] == stream_id
        )
        total = None if retransmits is None else retransmits + omitted
        knows_sender = client or role == "sender"
        knows_receiver = client or role == "receiver"
        if "error" in self.document:  # the far side's report did not come
            knows_sender, knows_receiver = role == "sender", role == "receiver"
        return StreamResult(
            id=stream_id,
            sender=self._report(stream_id, "sender", sent, total) if knows_sender else None,
            receiver=self._report(stream_id, "receiver", received) if knows_receiver else None,
        )

    def _report(
        self, stream_id: int, role: Role, part: dict[str, Any], retransmits: int | None = None
    ) -> StreamReport:
        omit_ns = nanoseconds(self.spec.timing.omit_s)
        key = "sender_tcp_congestion" if role == "sender" else "receiver_tcp_congestion"
        return StreamReport(
            id=stream_id,
            role=role,
            bytes=part["bytes"],
            counted_bytes=part["bytes"],
            counted_from_ns=omit_ns,
            counted_to_ns=omit_ns + nanoseconds(part["end"]),
            retransmits=retransmits,
            socket=SocketFacts(congestion=self.document["end"].get(key)),
        )

    def _datagrams(self, stream_id: int, role: Role, one: dict[str, Any]) -> StreamResult:
        part, end = one["udp"], self.document["end"]
        suffix = (
            "_bidir_reverse" if self.two_way and (role == "sender") != self._first_sends else ""
        )
        spans = end[f"sum_sent{suffix}"], end[f"sum_received{suffix}"]
        size = self.document["start"]["test_start"]["blksize"]
        came = part["packets"] - part["lost_packets"]
        sender = self._report(stream_id, "sender", spans[0] | {"bytes": part["packets"] * size})
        receiver = self._report(stream_id, "receiver", spans[1] | {"bytes": came * size})
        sent = Datagrams(packets=part["packets"], datagram_bytes=size)
        received = Datagrams(
            packets=came,
            highest_sequence=part["packets"],
            omitted_highest_sequence=0,
            jitter_ns=nanoseconds(part["jitter_ms"] / 1e3),
            reordered_packets=part["out_of_order"],
            datagram_bytes=size,
        )
        client = self.end == "client"
        known = client or role == "sender", client or role == "receiver"
        return StreamResult(
            id=stream_id,
            sender=replace(sender, datagrams=sent) if known[0] else None,
            receiver=replace(receiver, datagrams=received) if known[1] else None,
        )

    @property
    def _first_sends(self) -> bool:
        return next(iter(self.streams.values()))[1] == "sender"


def nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)


def _received(part: dict[str, Any]) -> int | None:
    return part["packets"] - part.get("lost_packets", 0) if "packets" in part else None


def _jitter(part: dict[str, Any]) -> int | None:
    return nanoseconds(part["jitter_ms"] / 1e3) if "jitter_ms" in part else None


def _side(cpu: dict[str, float], name: str) -> SideReport:
    return SideReport(
        duration_ns=10**12,
        cpu_user_ns=round(cpu[f"{name}_user"] * 1e10),
        cpu_system_ns=round(cpu[f"{name}_system"] * 1e10),
    )
