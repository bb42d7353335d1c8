"""Report a test as iperf3's JSON: one document per test, or a line per event (--json-stream).

The key tree is that of iperf3 3.21, which adds to 3.12's: `start.timestamp.timemillisecs`,
`start.fq_rate`, `test_start.{bidir,fqrate,interval,gso,gro}`, `reorder`. No key comes twice (iperf3
3.12 repeats the socket buffers once per stream, and a server's `target_bitrate`: every reader keeps
one of them). Counts are integers; what is in seconds, bits, percent and milliseconds is real.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netmeasure.export.iperf3 import cjson
from netmeasure.export.iperf3.cjson import Json, Object
from netmeasure.export.iperf3.document_end import end, losses, udp_end
from netmeasure.export.iperf3.document_start import addresses, peer, test_start
from netmeasure.export.iperf3.figures import Direction
from netmeasure.export.iperf3.ours import knowledge
from netmeasure.export.iperf3.periods import Period
from netmeasure.export.iperf3.report import Report
from netmeasure.export.iperf3.settings import File, Settings
from netmeasure.observe import Control, Opening
from netmeasure.result import Interval, Result, StreamInterval
from netmeasure.spec import PeerSpec


class JsonReport(Report):
    """Report a test as JSON, see :mod:`netmeasure.export.iperf3.report`.

    The document comes with `ended`. With `stream` there is a line for each event instead, as it
    happens; with `full` the document comes as well.
    """

    def __init__(self, settings: Settings, *, stream: bool = False, full: bool = False) -> None:
        super().__init__(settings)
        self._stream = stream
        self._full = full or not stream
        self._start: Object = {
            "connected": [],
            "version": settings.version,
            "system_info": settings.system,
        }
        self._intervals: list[Object] = []
        self._document: Object = {}

    def _whole(self) -> Mapping[str, Json]:
        return self._document

    def connected(self, control: Control, spec: PeerSpec, unix_s: float) -> list[str]:
        host: Object = {"host": self.settings.host, "port": self.settings.port}
        self._start |= peer("connecting_to", host, control, spec, unix_s)
        return []

    def accepted(self, control: Control, unix_s: float) -> list[str]:
        self._start |= peer("accepted_connection", addresses(control), control, None, unix_s)
        return []

    def _opened(self, opening: Opening) -> list[str]:
        self._start["connected"] = [
            {"socket": self._numbers[stream.id], **addresses(stream.socket, both=True)}
            for stream in opening.streams
        ]
        self._start |= test_start(opening, self.settings)
        return self._event("start", self._start)

    # ---- intervals ------------------------------------------------------------------------------

    def _period(self, period: Period) -> list[str]:
        whole: Object = {
            "streams": [self._part(one, stream) for one in period for stream in one.streams]
        }
        for one in period:
            reverse = self._two_way and one.direction == "download"
            whole["sum_bidir_reverse" if reverse else "sum"] = self._part(one, None)
        self._intervals.append(whole)
        return self._event("interval", whole)

    def _part(self, interval: Interval, stream: StreamInterval | None) -> Object:
        """Return a stream's part of an interval; without a stream, the sum."""
        one: Interval | StreamInterval = interval if stream is None else stream
        start_s, end_s = self._seconds(interval)
        seconds = interval.duration_ns / 1e9
        part: Object = {} if stream is None else {"socket": self._numbers.get(stream.id, stream.id)}
        part |= span(start_s, end_s, one.bytes, one.bytes * 8 / seconds if seconds > 0 else 0.0)
        sends = self._sends(interval.direction)
        if self._tcp and sends and one.retransmits is not None:
            part["retransmits"] = one.retransmits
            if stream is not None:
                part |= _tcp_info(stream)
        elif not self._tcp and sends:
            part["packets"] = one.packets or 0
        elif not self._tcp:
            lost = one.lost_packets or 0
            total = max(0, (one.packets or 0) + lost)
            part |= losses((one.jitter_ns or 0) / 1e6, lost, total)
        return part | {"omitted": interval.omitted, "sender": sends}

    # ---- the end --------------------------------------------------------------------------------

    def _end(
        self,
        result: Result | None,
        directions: Sequence[Direction],
        error: str | None,
        server_output: str | Mapping[str, Json] | None,
        file: File | None,
    ) -> list[str]:
        ended: Object = {}
        if result is not None and directions:
            build = end if self._tcp else udp_end
            ended = build(self.settings, result, directions, self._numbers, file)
        document: Object = {"start": self._start, "intervals": self._intervals, "end": ended}
        lines: list[str] = []
        if error is not None:
            document["error"] = error
            lines += self._event("error", error)
        asked = self._opening.spec if self._opening is not None else None
        if title := self.settings.title or (asked.title if asked else None):
            document["title"] = title
        if extra_data := self.settings.extra_data or (asked.extra_data if asked else None):
            document["extra_data"] = extra_data
        if server_output is not None:
            kind = "text" if isinstance(server_output, str) else "json"
            document[f"server_output_{kind}"] = server_output
            lines += self._event(f"server_output_{kind}", server_output)
        if self.settings.netmeasure and result is not None:
            document["netmeasure"] = knowledge(result)
            lines += self._event("netmeasure", document["netmeasure"])
        self._document = document
        lines += self._event("end", ended)
        return lines + (cjson.pretty(document).split("\n") if self._full else [])

    def _event(self, name: str, data: Json) -> list[str]:
        return [cjson.compact({"event": name, "data": data})] if self._stream else []


def span(start_s: float, end_s: float, count: int, bits_per_second: float) -> Object:
    """Return the members about the time, the bytes and the rate of an interval."""
    return {
        "start": round(start_s, 6),
        "end": round(end_s, 6),
        "seconds": round(end_s - start_s, 9),
        "bytes": count,
        "bits_per_second": bits_per_second,
    }


def _tcp_info(stream: StreamInterval) -> Object:
    return {
        "snd_cwnd": stream.cwnd_bytes or 0,
        "snd_wnd": stream.snd_wnd_bytes or 0,
        "rtt": ((stream.rtt_ns or 0) + 500) // 1000,
        "rttvar": ((stream.rttvar_ns or 0) + 500) // 1000,
        "pmtu": stream.pmtu_bytes or 0,
        "reorder": stream.reordering_seen or 0,
    }
