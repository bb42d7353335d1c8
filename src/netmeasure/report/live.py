"""Show a running test as one block of a few lines, which is redrawn at each event."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence

from netmeasure.report.words import spec_words, transactions, unit_of
from netmeasure.result import FlowDirection, Interval, StreamInterval
from netmeasure.result.events import Event, IntervalEvent, PhaseEvent, WaitingEvent
from netmeasure.spec import RequestSpec, RrSpec, Spec
from netmeasure.units import bitrate, duration, size

_BARS = "▁▂▃▄▅▆▇█"
_PLAIN_BARS = "_.-=+*#@"
#: What set-up waits for in a step, if the step's name does not show it.
_STEPS = {
    "control": "connected, but the server has not answered",
    "queue": "the server is full, in its queue",
    "greeting": "connected, but no greeting has come",
    "login": "logging in, no answer has come",
    "request": "the request is sent, no answer has come",
    "proxy": "connected, but the proxy has not answered",
    "tls": "agreeing on TLS",
    "start": "the server has not started the test",
    "first_byte": "no data have come",
    "first_body_byte": "the answer has begun, but no data have come",
    "response": "requests are sent, no response has come",
    "results": "the data are over, the server's results have not come",
    "last_reply": "the data are over, no final reply has come",
}
#: The steps whose wait is shown together with the intervals.
_WITH_DATA = ("response", "results", "last_reply")
#: The number of intervals that are drawn, and the width of the progress bar.
KEPT, BAR_WIDTH = 24, 30
#: If the last data of a test are later than this, the block says that it waits for them.
LATE_S = 1.0
#: The most streams with their own lines.
MOST_STREAMS = 12


class LiveState:
    """Collect the state of a run, and format it as lines.

    Args:
        spec: The specification of the test.
        target: The server or the URL.
        per_stream: Whether each stream has its own line.
        plain: Whether only ASCII characters can be shown.
    """

    def __init__(
        self, spec: Spec, target: str, *, per_stream: bool = False, plain: bool = False
    ) -> None:
        self._spec = spec
        self._target = target
        self._per_stream = per_stream
        self._plain = plain
        self._last: dict[FlowDirection, Interval] = {}
        self._rates: dict[FlowDirection, deque[float]] = {}
        self._bytes: dict[FlowDirection, int] = {}
        self._again: dict[FlowDirection, int] = {}
        self._lost: dict[FlowDirection, int] = {}
        self._phase: str | None = None

    def add(self, event: Event) -> None:
        """Update the state by an event."""
        if isinstance(event, PhaseEvent):
            phase = event.phase
            again = phase.syn_retransmits
            lost = f", {again} SYN{'s' * (again != 1)} lost" if again else ""
            name = phase.name.replace("_", " ")
            self._phase = f"{name} ({phase.connection}) took {duration(phase.duration_ns)}{lost}"
        elif isinstance(event, IntervalEvent):
            self._add_interval(event.interval)

    def _add_interval(self, interval: Interval) -> None:
        way = interval.direction
        self._last[way] = interval
        self._rates.setdefault(way, deque(maxlen=KEPT)).append(interval.goodput_bps)
        if not interval.omitted:
            self._bytes[way] = self._bytes.get(way, 0) + interval.bytes
        self._again[way] = self._again.get(way, 0) + (interval.retransmits or 0)
        self._lost[way] = self._lost.get(way, 0) + (interval.lost_packets or 0)

    def lines(self, waiting: WaitingEvent | None, elapsed_s: float) -> list[str]:
        """Return the block's lines; `waiting` is what set-up waits for; `elapsed_s` is the time
        since the start of the first interval."""
        found = [f"{spec_words(self._spec)}, {self._target}"]
        if not self._last:
            found.append(waiting_words(waiting) if waiting else self._phase or "starting")
            return found
        found.append(self._progress(elapsed_s))
        for way, interval in self._last.items():
            found.append(self._direction(way, interval))
            if self._per_stream:
                found += _stream_lines(interval.streams, interval.duration_ns)
        if waiting is not None and waiting.step in _WITH_DATA:
            found.append(waiting_words(waiting))
        elif (beyond_s := self._beyond_s(elapsed_s)) > LATE_S:
            found.append(f"waiting for {beyond_s:.1f} s: the last data have not arrived")
        return found

    def _beyond_s(self, elapsed_s: float) -> float:
        """Return how long ago the planned time of the test ended."""
        limit_s = self._spec.limit_s
        return 0.0 if limit_s is None else elapsed_s - limit_s - self._spec.timing.omit_s

    def _progress(self, elapsed_s: float) -> str:
        limit_s, total = self._spec.limit_s, self._spec.total_bytes
        if total is not None:
            done = max(self._bytes.values(), default=0)
            share = self._bar(done / total)
            if isinstance(self._spec, RrSpec | RequestSpec):
                each = self._spec.request_bytes
                return f"{share}  {done // each} of {total // each} {unit_of(self._spec)}"
            return f"{share}  {size(done)} of {size(total)}"
        if limit_s is None:
            return f"{elapsed_s:.0f} s"
        whole_s = limit_s + self._spec.timing.omit_s
        return f"{self._bar(elapsed_s / whole_s)}  {min(elapsed_s, whole_s):.1f} of {whole_s:g} s"

    def _bar(self, share: float) -> str:
        full = round(max(0.0, min(share, 1.0)) * BAR_WIDTH)
        on, off = ("#", "-") if self._plain else ("█", "░")
        return on * full + off * (BAR_WIDTH - full)

    def _direction(self, way: FlowDirection, interval: Interval) -> str:
        rates = self._rates[way]
        words = [way, f"{bitrate(interval.goodput_bps):>11s}", sparkline(rates, plain=self._plain)]
        if isinstance(self._spec, RrSpec | RequestSpec):
            _, per_s = transactions(self._spec, interval)
            words[:2] = [unit_of(self._spec), "-" if per_s is None else f"{per_s:.0f}/s"]
        rtts = [one.rtt_ns for one in interval.streams if one.rtt_ns is not None]
        if rtts:
            words.append(f"RTT {duration(sum(rtts) / len(rtts))}")
        if interval.retransmits is not None:
            words.append(f"{self._again[way]} retransmits")
        if interval.lost_packets is not None:
            words.append(f"{self._lost[way]} lost")
        if interval.omitted:
            words.append("(omitted)")
        return "  ".join(words)


def sparkline(rates: Sequence[float] | deque[float], *, plain: bool = False) -> str:
    """Return a bar for each rate; the largest rate has the highest bar."""
    bars = _PLAIN_BARS if plain else _BARS
    most = max(rates, default=0.0)
    if most <= 0:
        return bars[0] * len(rates)
    return "".join(bars[min(int(rate / most * len(bars)), len(bars) - 1)] for rate in rates)


def waiting_words(waiting: WaitingEvent) -> str:
    """Return a text about what a run waits for, such as "waiting 3.1 s for the answer of ..."."""
    waited = f"waiting for {waiting.waited_ns / 1e9:.1f} s"
    if waiting.step == "resolve":
        return f"{waited}: looking the name up"
    if waiting.step == "connect":
        connecting = f"{waited}: connecting"
        if waiting.connection.partition(" #")[0].endswith(" data"):
            connecting += " FTP's data connection"
        if waiting.address is not None:
            connecting += f" to {waiting.address}"
        syns = waiting.unanswered_syns
        if syns is None:
            return connecting
        return f"{connecting}, {syns} SYN{'s' * (syns != 1)} unanswered"
    doing = _STEPS.get(waiting.step, waiting.step.replace("_", " "))
    number = waiting.connection.removeprefix("stream ").partition(" ")[0]
    of = f" (stream {number})" if waiting.connection.startswith("stream ") else ""
    return f"{waited}: {doing}{of}"


def _stream_lines(streams: Sequence[StreamInterval], duration_ns: int) -> Iterator[str]:
    for one in streams[:MOST_STREAMS]:
        rate = bitrate(one.bytes * 8e9 / duration_ns) if duration_ns > 0 else "-"
        words = [f"  stream {one.id:<3d}", f"{rate:>11s}"]
        if one.rtt_ns is not None:
            words.append(f"RTT {duration(one.rtt_ns)}")
        if one.cwnd_bytes is not None:
            words.append(f"cwnd {size(one.cwnd_bytes)}")
        if one.retransmits is not None:
            words.append(f"{one.retransmits} retransmits")
        if one.lost_packets is not None:
            words.append(f"{one.lost_packets} lost")
        yield "  ".join(words)
    if len(streams) > MOST_STREAMS:
        yield f"  and {len(streams) - MOST_STREAMS} more streams"
