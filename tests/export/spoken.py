"""Make a test of ours from the text that the real iperf3 printed, with its (rounded) numbers."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from real import MODES, STREAM_IDS, End, nanoseconds, text
from test_iperf3_rows import RESTS, ROW, SIZES

from netmeasure.export.iperf3 import File, Settings
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

CPU = re.compile(
    r"CPU.*local/sender \S+ \((\S+)%u/(\S+)%s\), remote/receiver \S+ \((\S+)%u/(\S+)%s"
)


class Words:
    """Parse the arguments of a captured run."""

    def __init__(self, name: str, end: End) -> None:
        self.client, self.own = MODES[name]["client"], MODES[name][end]
        self.udp = "-u" in self.client

    def value(self, flag: str, default: str = "", own: bool = False) -> str:
        words = self.own if own else self.client
        return words[words.index(flag) + 1] if flag in words else default


def spec(name: str, end: End, lines: list[str]) -> PeerSpec:
    words = Words(name, end)
    direction: Any = "upload"
    if "--bidir" in words.client:
        direction = "both"
    elif "-R" in words.client:
        direction = "download"
    limited = any(flag in words.client for flag in ("-n", "-k", "-F"))
    common: dict[str, Any] = {
        "direction": direction,
        "streams": int(words.value("-P", "1")),
        "timing": Timing(
            duration_s=None if limited else float(words.value("-t", "10")),
            total_bytes=size(words.value("-n")) if "-n" in words.client else None,
            total_blocks=int(words.value("-k")) if "-k" in words.client else None,
            omit_s=float(words.value("-O", "0")),
            interval_s=float(words.value("-i", "1", own=True)) or 1.0,
        ),
        "target_bps": size(words.value("-b", "0"), 1000) or None,
    }
    if words.udp:
        said = [line for line in lines if line.startswith(("Starting", "Setting UDP"))]
        block = re.search(r"(\d+) byte blocks|size to (\d+)", " ".join(said))
        length = int(words.value("-l", "32768"))
        return UdpSpec(datagram_bytes=int(block[1] or block[2]) if block else length, **common)
    mss = int(words.value("-M", "0")) or None
    options = SocketOptions(mss_bytes=mss, tos=int(words.value("-S", "0")) or None)
    return TcpSpec(block_bytes=131072, options=options, **common)


def size(word: str, base: int = 1024) -> int:
    ranks = {"K": 1, "M": 2}
    return int(int(word.rstrip("KM")) * base ** ranks.get(word[-1:], 0))


class Said:
    """Hold the parsed text of one end."""

    def __init__(self, name: str, end: End) -> None:
        self.end = end
        self.cut = name.startswith("cut")
        self.words = MODES[name]["client"]
        title = "a title:  " if "-T" in MODES[name]["client"] and end == "client" else ""
        self.lines = [line.removeprefix(title) for line in text(name, end).splitlines()]
        self.spec = spec(name, end, self.lines)
        self.two_way = self.spec.direction == "both"
        self.settings = Settings(
            end=end,
            version="iperf 3.12",
            system="Linux host 6.1.0 #1 SMP x86_64",
            host="127.0.0.1",
            port=int(self._find(r"(?:Connecting to host .* port|Server listening on) (\d+)")),
            interval_s=float(Words(name, end).value("-i", "1", own=True)),
            unit=Words(name, end).value("-f", "a", own=True),
            verbose="-V" in MODES[name][end],
            title="a title" if title else None,
        )
        mss = self._find(r"Control connection MSS (\d+)", "0")
        self.control = Control(
            local="127.0.0.1:5201",
            remote=f"127.0.0.1:{self._find(r'Accepted connection from .* port (.+)', '5201')}",
            cookie=self._find(r"      Cookie: (.+)", "x" * 36),
            mss_bytes=int(mss),
        )
        headers = [i for i, line in enumerate(self.lines) if line.startswith("[ ID]")]
        output = self.lines.index("Server output:") if "Server output:" in self.lines else None
        self.output = None if output is None else "\n".join(self.lines[output + 1 : -3]) + "\n"
        self.final = headers[1]
        self.stop = output or len(self.lines)
        self.opened = re.findall(
            r"^\[ *(\d+)\] local (\S+) port (\d+) connected to (\S+) port (\d+)$",
            "\n".join(self.lines[: self.stop]),
            re.MULTILINE,
        )
        self.numbers = {one[0]: STREAM_IDS[i] for i, one in enumerate(self.opened)}
        file = re.search(r"Sent .* / (\S+) (\w+) \(.*\) of (.*)", "\n".join(self.lines))
        self.file = None
        if file is not None:
            self.file = File(name=file[3], bytes=round(float(file[1]) * SIZES[file[2] + "s"]))

    def _find(self, pattern: str, default: str = "") -> str:
        found = re.search(pattern, "\n".join(self.lines))
        return found[1] if found else default

    def _way(self, role: str | None) -> FlowDirection:
        if role:
            return "upload" if role in ("[TX-C]", "[RX-S]") else "download"
        return "download" if self.spec.direction == "download" else "upload"

    @property
    def opening(self) -> Opening:
        first: Role = "sender" if self._sends(self._way(None)) else "receiver"
        second: Role = "receiver" if first == "sender" else "sender"
        return Opening(
            end=self.end,
            started_at="",
            unix_s=0.0,
            control=self.control,
            spec=self.spec,
            streams=tuple(
                OpenStream(
                    id=STREAM_IDS[i],
                    role=first if i < self.spec.streams else second,
                    socket=SocketFacts(local=f"{one[1]}:{one[2]}", remote=f"{one[3]}:{one[4]}"),
                )
                for i, one in enumerate(self.opened)
            ),
        )

    def _sends(self, way: FlowDirection) -> bool:
        return (way == "upload") == (self.end == "client")

    # ---- intervals ----

    def intervals(self) -> Iterator[Interval]:
        parts: dict[FlowDirection, list[StreamInterval]] = {}
        if not self.settings.interval_s and self.spec.timing.omit_s:  # passed over in silence
            yield self._omitted
        for line in self.lines[: self.final]:
            row = ROW.match(line)
            if row is None:
                continue
            way = self._way(row["role"])
            part = self._part(row)
            if row["id"] != "SUM":
                parts.setdefault(way, []).append(part)
            if row["id"] == "SUM" or self.spec.streams == 1:
                omitted = line.endswith("(omitted)")
                omit_s = 0.0 if omitted else self.spec.timing.omit_s
                yield Interval(
                    direction=way,
                    counted_by="sender" if self._sends(way) else "receiver",
                    start_ns=nanoseconds(float(row["start"]) + omit_s),
                    end_ns=nanoseconds(float(row["end"]) + omit_s),
                    bytes=part.bytes,
                    streams=tuple(parts.pop(way)),
                    omitted=omitted,
                    retransmits=part.retransmits,
                    packets=part.packets,
                    lost_packets=part.lost_packets,
                    jitter_ns=part.jitter_ns,
                )

    @property
    def _omitted(self) -> Interval:
        way = self._way(None)
        return Interval(
            direction=way,
            counted_by="sender" if self._sends(way) else "receiver",
            start_ns=0,
            end_ns=nanoseconds(self.spec.timing.omit_s),
            bytes=1,
            streams=(StreamInterval(id=1, bytes=1),),
            omitted=True,
        )

    def _part(self, row: re.Match[str]) -> StreamInterval:
        rest = row["rest"].removesuffix("(omitted)")
        kind, found = next((k, m) for k, p in RESTS.items() if (m := p.fullmatch(rest)))
        known: dict[str, int] = {}
        if kind in ("interval", "retransmits"):
            known["retransmits"] = int(found["retr"])
        if kind == "interval":
            known["cwnd_bytes"] = round(float(found["cwnd"]) * SIZES[found["unit"]])
        if kind == "sent":
            known["packets"] = int(found["packets"])
        if kind == "received":
            known["packets"] = int(found["total"]) - int(found["lost"])
            known["lost_packets"] = int(found["lost"])
            known["jitter_ns"] = nanoseconds(float(found["jitter"]) / 1e3)
        return StreamInterval(id=self.numbers.get(row["id"].strip(), 0), bytes=_bytes(row), **known)

    # ---- the end ----

    @property
    def result(self) -> Result:
        found: dict[FlowDirection, dict[int, dict[Role, StreamReport]]] = {}
        for line in self.lines[self.final : self.stop]:
            row = ROW.match(line)
            if row is not None and row["id"] != "SUM" and line.endswith(("sender", "receiver")):
                role: Role = "sender" if line.endswith("sender") else "receiver"
                number = self.numbers[row["id"].strip()]
                reports = found.setdefault(self._way(row["role"]), {}).setdefault(number, {})
                if role == self._own(row) or not self.cut:  # rows that need the results
                    reports[role] = self._report(row, role, number)
        flows = tuple(
            Flow(
                direction=way,
                streams=tuple(
                    StreamResult(id=i, sender=r.get("sender"), receiver=r.get("receiver"))
                    for i, r in streams.items()
                ),
            )
            for way, streams in found.items()
        )
        cpu = CPU.search("\n".join(self.lines))
        shares = tuple(map(float, cpu.groups())) if cpu else (0.0, 0.0, 0.0, 0.0)
        mine, far = _side(*shares[:2]), _side(*shares[2:])
        return Result(
            spec=self.spec,
            complete=True,
            started_at="",
            target="",
            flows=flows,
            client=mine if self.end == "client" else far,
            server=far if self.end == "client" else mine,
        )

    def _own(self, row: re.Match[str]) -> Role:
        return "sender" if self._sends(self._way(row["role"])) else "receiver"

    def _report(self, row: re.Match[str], role: Role, number: int) -> StreamReport:
        rest = row["rest"].removesuffix(role)
        kind, found = next((k, m) for k, p in RESTS.items() if (m := p.fullmatch(rest)))
        datagrams = None
        if kind == "received":
            total, lost = int(found["total"]), int(found["lost"])
            datagrams = Datagrams(
                packets=total if role == "sender" else total - lost,
                highest_sequence=None if role == "sender" else total,
                omitted_highest_sequence=None if role == "sender" else 0,
                jitter_ns=nanoseconds(float(found["jitter"]) / 1e3),
            )
        name = self._find(
            rf"{role[:1] + ('nd' if role == 'sender' else 'cv')}_tcp_congestion (\S+)"
        )
        return StreamReport(
            id=number,
            role=role,
            bytes=_bytes(row),
            counted_bytes=_bytes(row),
            counted_from_ns=0,
            counted_to_ns=nanoseconds(float(row["end"])),
            retransmits=int(found["retr"]) if kind == "retransmits" else None,
            datagrams=datagrams,
            socket=SocketFacts(congestion=name or None),
        )


def _bytes(row: re.Match[str]) -> int:
    return round(float(row["bytes"]) * float(SIZES[row["size"]]))


def _side(user: float, system: float) -> SideReport:
    return SideReport(
        duration_ns=10**9, cpu_user_ns=round(user * 1e7), cpu_system_ns=round(system * 1e7)
    )
