"""Report a test as iperf3's text, line by line."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from email.utils import formatdate

from netmeasure.export.iperf3 import cjson, figures, rows
from netmeasure.export.iperf3.cjson import Json
from netmeasure.export.iperf3.document_start import block_bytes, tos
from netmeasure.export.iperf3.figures import Direction, Ends
from netmeasure.export.iperf3.periods import Period
from netmeasure.export.iperf3.report import Report, host_port
from netmeasure.export.iperf3.settings import File, Settings
from netmeasure.observe import Control, Opening
from netmeasure.result import FlowDirection, Interval, Result, StreamInterval
from netmeasure.spec import PeerSpec, TcpSpec, UdpSpec


class TextReport(Report):
    """Report a test as text, see :mod:`netmeasure.export.iperf3.report`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings)
        self._control: Control | None = None
        self._said: list[str] = []  # what --get-server-output gives
        self._held: tuple[Control, PeerSpec, float] | None = None
        self._rows_began = False

    def greeting(self) -> list[str]:
        if not self.settings.verbose:
            return []
        return self._say(self.settings.version, self.settings.system)

    def banner(self, number: int) -> list[str]:
        listening = f"Server listening on {self.settings.port} (test #{number})"
        return [rows.RULE, listening, rows.RULE]

    def connected(self, control: Control, spec: PeerSpec, unix_s: float) -> list[str]:
        """Return the lines; with -V and UDP they wait until the datagrams' size is known."""
        self._control = control
        if self.settings.verbose and isinstance(spec, UdpSpec) and spec.datagram_bytes is None:
            self._held = control, spec, unix_s
            return []
        return self._say(*self._connecting(control, spec, unix_s))

    def _connecting(
        self, control: Control, spec: PeerSpec, unix_s: float, found_bytes: int | None = None
    ) -> list[str]:
        lines = [f"Connecting to host {self.settings.host}, port {self.settings.port}"]
        if spec.direction == "download":
            lines.append(f"Reverse mode, remote host {self.settings.host} is sending")
        if self.settings.verbose:
            before = [f"Control connection MSS {control.mss_bytes or 0}"]
            if found_bytes:
                before.append(f"Setting UDP block size to {found_bytes}")
            before.append(f"Time: {formatdate(unix_s, usegmt=True)}")
            lines = before + lines + self._details(spec)
        return lines

    def _release(self, found_bytes: int | None) -> list[str]:
        """Return the lines that have waited for the datagrams' size."""
        if self._held is None:
            return []
        held, self._held = self._held, None
        return self._connecting(*held, found_bytes)

    def accepted(self, control: Control, unix_s: float) -> list[str]:
        self._control = control
        self._said.clear()
        time = [f"Time: {formatdate(unix_s, usegmt=True)}"] if self.settings.verbose else []
        host, port = host_port(control.remote)
        return self._say(*time, f"Accepted connection from {host}, port {port}")

    def _whole(self) -> str:
        return "".join(f"{line}\n" for line in self._said)

    # ---- the beginning --------------------------------------------------------------------------

    def _opened(self, opening: Opening) -> list[str]:
        self._control = opening.control
        verbose = self.settings.verbose
        lines = self._release(block_bytes(opening.spec))
        if verbose and not self.settings.is_client:
            lines += self._details(opening.spec)
        for stream in opening.streams:
            local, remote = stream.socket.local, stream.socket.remote
            number = self._numbers[stream.id]
            lines.append(rows.stream(number, host_port(local), host_port(remote)))
        if verbose:
            lines.append(starting(opening.spec))
        return self._say(*lines)

    def _details(self, spec: PeerSpec) -> list[str]:
        control = self._control
        lines = [f"      Cookie: {control.cookie if control else ''}"]
        if isinstance(spec, TcpSpec):
            mss = spec.options.mss_bytes
            default = f"{control.mss_bytes or 0 if control else 0} (default)"
            lines.append(f"      TCP MSS: {mss or default}")
        if spec.target_bps:
            lines.append(f"      Target Bitrate: {spec.target_bps}")
        return lines

    # ---- intervals ------------------------------------------------------------------------------

    def _passed(self, interval: Interval) -> list[str]:
        """Return a line at the end of the omitted time, with -i 0 and -V."""
        assert self._opening is not None
        over = interval.end_ns >= round(self._opening.spec.timing.omit_s * 1e9)
        if self.settings.interval_s or not (interval.omitted and over and self.settings.verbose):
            return []
        if self._two_way and interval.direction == "download":
            return []
        return self._say("Finished omit period, starting real test")

    def _period(self, period: Period) -> list[str]:
        several = any(len(interval.streams) > 1 for interval in period)
        lines: list[str] = []
        if not self._rows_began:
            lines.append(self._interval_header(period[0]))
        elif several:
            lines.append(rows.SEPARATOR)
        self._rows_began = True
        for interval in period:
            lines += [self._row(interval, stream) for stream in interval.streams]
            if len(interval.streams) > 1:
                lines.append(self._row(interval, None))
        return self._say(*lines)

    def _interval_header(self, interval: Interval) -> str:
        sends = self._sends(interval.direction)
        if not self._tcp:
            columns = rows.DATAGRAMS if sends and not self._two_way else rows.LOSSES
        elif self._two_way or (sends and interval.retransmits is not None):
            columns = rows.RETRANSMITS_CWND
        else:
            columns = rows.RETRANSMITS_CWND if self._is_all(interval) and not sends else ""
        return rows.header(columns, roles=self._two_way)

    def _is_all(self, interval: Interval) -> bool:
        """Return whether a receiving client's first interval is the whole test.

        It comes with the results then, so iperf3's header names the columns of the far side's
        retransmissions, though the rows have none.
        """
        assert self._opening is not None
        timing = self._opening.spec.timing
        if not self.settings.is_client or not self.settings.interval_s:
            return self.settings.is_client
        limit_s = self._opening.spec.limit_s
        if limit_s is not None:
            return (
                not interval.omitted and timing.omit_s == 0 and limit_s <= self.settings.interval_s
            )
        return interval.duration_ns < round(self.settings.interval_s * 0.9e9)

    def _row(self, interval: Interval, stream: StreamInterval | None) -> str:
        """Return the row of a stream, or of the sum of all."""
        start_s, end_s = self._seconds(interval)
        one: Interval | StreamInterval = interval if stream is None else stream
        row = rows.Row(
            label=rows.label(
                None if stream is None else self._numbers.get(stream.id, stream.id),
                self._role(interval.direction),
            ),
            start_s=start_s,
            end_s=end_s,
            bytes=one.bytes,
            bits_per_second=one.bytes * 8e9 / interval.duration_ns if interval.duration_ns else 0.0,
            tag="(omitted)" if interval.omitted else "",
        )
        unit = self.settings.unit
        if self._tcp:
            if not self._sends(interval.direction) or one.retransmits is None:
                return rows.tcp(row, unit)
            if stream is None:
                return rows.tcp_retransmits(row, unit, one.retransmits)
            return rows.tcp_interval(row, unit, one.retransmits, stream.cwnd_bytes or 0)
        if self._sends(interval.direction):
            return rows.udp_sent(row, unit, one.packets or 0, roles=self._two_way)
        lost = one.lost_packets or 0
        return rows.udp_received(
            row, unit, (one.jitter_ns or 0) / 1e6, lost, max(0, (one.packets or 0) + lost)
        )

    # ---- the end --------------------------------------------------------------------------------

    def _end(
        self,
        result: Result | None,
        directions: Sequence[Direction],
        error: str | None,
        server_output: str | Mapping[str, Json] | None,
        file: File | None,
    ) -> list[str]:
        lines = self._release(None)
        if directions and result is not None:
            lines.append(rows.SEPARATOR)
            if self.settings.verbose:
                lines.append("Test Complete. Summary Results:")
            lines.append(self._final_header(directions))
            for one in directions:
                lines += self._direction(one, file)
                if self.settings.verbose:
                    lines += self._closing(result, one)
        if self.settings.is_client and error is None:
            lines += [*server_lines(server_output), "", "iperf Done."]
        return self._say(*lines)

    def _final_header(self, directions: Sequence[Direction]) -> str:
        shown = [d for d in directions if self.settings.is_client or self._sends(d.direction)]
        knows = any(d.total.retransmits is not None for d in shown)
        columns = (rows.RETRANSMITS if knows else "") if self._tcp else rows.LOSSES
        return rows.header(columns, roles=self._two_way)

    def _direction(self, one: Direction, file: File | None) -> list[str]:
        lines: list[str] = []
        for stream_id, ends in one.streams.items():
            lines += self._pair(one, self._numbers[stream_id], ends, file)
        if len(one.streams) > 1:
            lines += self._pair(one, None, one.total, None)
        return lines

    def _pair(self, one: Direction, number: int | None, ends: Ends, file: File | None) -> list[str]:
        """Return the sender's row and the receiver's; a server shows only its own."""
        sends = self._sends(one.direction)
        role = self._role(one.direction)
        lines: list[str] = []
        if self.settings.is_client or sends:
            lines.append(self._sender(rows.label(number, role), ends))
        else:
            lines += self._missing(number, "sender")
        if file is not None:
            moved = ends.sent_bytes if sends else ends.received_bytes
            lines.append(rows.file(moved, file.bytes, file.name))
        if not self._tcp and number is not None and ends.out_of_order:
            lines.append(rows.out_of_order(role, 0.0, ends.received_s, ends.out_of_order))
        if self.settings.is_client or not sends:
            lines.append(self._receiver(rows.label(number, role), ends))
        else:
            lines += self._missing(number, "receiver")
        return lines

    def _missing(self, number: int | None, what: str) -> list[str]:
        if not self.settings.verbose or (number is None and not self._tcp):
            return []
        return [rows.unavailable(rows.label(number), what)]

    def _sender(self, label: str, ends: Ends) -> str:
        row = rows.Row(
            label=label,
            start_s=0.0,
            end_s=ends.sent_s,
            bytes=ends.sent_bytes,
            bits_per_second=ends.sent_bps,
            tag="sender",
        )
        if not self._tcp:
            return rows.udp_received(row, self.settings.unit, 0.0, 0, ends.sent_packets)
        if ends.retransmits is None:
            return rows.tcp(row, self.settings.unit)
        return rows.tcp_retransmits(row, self.settings.unit, ends.retransmits)

    def _receiver(self, label: str, ends: Ends) -> str:
        row = rows.Row(
            label=label,
            start_s=0.0,
            end_s=ends.received_s,
            bytes=ends.received_bytes,
            bits_per_second=ends.received_bps,
            tag="receiver",
        )
        if self._tcp:
            return rows.tcp(row, self.settings.unit)
        return rows.udp_received(row, self.settings.unit, ends.jitter_ms, ends.lost, ends.packets)

    def _closing(self, result: Result, one: Direction) -> list[str]:
        """Return -V's lines on CPU time, where this end sends, and on congestion controls."""
        lines: list[str] = []
        sends, client = self._sends(one.direction), self.settings.is_client
        if sends:
            sides = (result.client, result.server) if client else (result.server, result.client)
            mine = figures.cpu_percent(sides[0])
            far = figures.cpu_percent(sides[1]) if client else (0.0, 0.0, 0.0)
            lines.append(rows.cpu("sender", mine, far))
            if self._two_way:
                lines.append(rows.cpu("receiver", mine, far))
        if self._tcp and one.sender_congestion and (client or sends):
            lines.append(f"snd_tcp_congestion {one.sender_congestion}")
        if self._tcp and one.receiver_congestion and (client or not sends):
            lines.append(f"rcv_tcp_congestion {one.receiver_congestion}")
        return lines

    # ---- words ----------------------------------------------------------------------------------

    def _role(self, way: FlowDirection) -> str:
        if not self._two_way:
            return ""
        return f"[{'TX' if self._sends(way) else 'RX'}-{'C' if self.settings.is_client else 'S'}]"

    def _say(self, *lines: str) -> list[str]:
        if not self.settings.is_client:
            self._said += lines
            return list(lines)
        title = self.settings.title
        return [f"{title}:  {line}" for line in lines] if title else list(lines)


def starting(spec: PeerSpec) -> str:
    """Return -V's line on the test that begins."""
    timing = spec.timing
    udp = isinstance(spec, UdpSpec)
    if timing.total_bytes is not None:
        end = f"{timing.total_bytes} bytes to send"
    elif timing.total_blocks is not None:
        end = f"{timing.total_blocks} blocks to send"
    else:
        end = f"{spec.limit_s or 0:g} second test"
    return (
        f"Starting Test: protocol: {'UDP' if udp else 'TCP'}, {spec.streams} streams,"
        f" {block_bytes(spec)} byte blocks, omitting {timing.omit_s:g} seconds, {end},"
        f" tos {tos(spec)}"
    )


def server_lines(output: str | Mapping[str, Json] | None) -> list[str]:
    """Return the lines of --get-server-output: the server's own text or JSON."""
    if output is None:
        return []
    if isinstance(output, str):
        return ["", "Server output:", *output.removesuffix("\n").split("\n"), ""]
    return ["", "Server JSON output:", *cjson.pretty(output).split("\n")]
