"""Define what the text and the JSON report of a test have in common.

A front-end makes one report per test and calls its methods as events happen. Each returns the lines
to print at that moment, without newlines:

    greeting()                       at the start (-V); a server's before each banner
    banner(number)                   server: listening for the test of that number, from 1
    connected(control, spec, time)   client: the server has got the parameters
    accepted(control, time)          server: a client has connected
    opening(opening)                 data are about to flow
    interval(interval)               an interval is over
    ended(result, error=, server_output=)
                                     the test is over, complete or not; no call follows

`time` is the wall clock, seconds since 1970. A test that breaks off early skips calls, but never
`ended`. At a server, `output(result)` before `ended` returns what --get-server-output sends to the
client. The report itself prints nothing. It shows no error but the text that `ended` takes, for
which JSON has a member; the front-end prints the lines on standard error.
"""

from __future__ import annotations

import copy
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence

from netmeasure.export.iperf3 import figures
from netmeasure.export.iperf3.cjson import Json
from netmeasure.export.iperf3.periods import Period, Periods
from netmeasure.export.iperf3.settings import File, Settings
from netmeasure.observe import Control, Opening
from netmeasure.result import FlowDirection, Interval, Result
from netmeasure.spec import PeerSpec, TcpSpec

#: iperf3 shows descriptor numbers, which begin with 5 and skip one per stream. These are the same
#: at both ends and in every run.
FIRST_NUMBER, NUMBER_STEP = 5, 2


class Report(ABC):
    """Turn the events of one test into lines."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._opening: Opening | None = None
        self._periods = Periods(1)
        self._seen = figures.Observed()
        self._numbers: dict[int, int] = {}
        self._ids: dict[FlowDirection, list[int]] = {}

    # ---- what the front-end calls ---------------------------------------------------------------

    def greeting(self) -> list[str]:
        """Return the lines at the start."""
        return []

    def banner(self, number: int) -> list[str]:
        """Return a server's lines before the test of this number, from 1."""
        return []

    @abstractmethod
    def connected(self, control: Control, spec: PeerSpec, unix_s: float) -> list[str]:
        """Return a client's lines when the server has got the parameters."""

    @abstractmethod
    def accepted(self, control: Control, unix_s: float) -> list[str]:
        """Return a server's lines when a client has connected."""

    def opening(self, opening: Opening) -> list[str]:
        """Return the lines for the streams that are open."""
        self._opening = opening
        for index, stream in enumerate(opening.streams):
            self._numbers[stream.id] = FIRST_NUMBER + NUMBER_STEP * index
            sends = stream.role == "sender"
            upload = sends == (opening.end == "client")
            self._ids.setdefault("upload" if upload else "download", []).append(stream.id)
        self._periods = Periods(len(self._ids), whole=not self.settings.interval_s)
        return self._opened(opening)

    def interval(self, interval: Interval) -> list[str]:
        """Return the lines for an interval, or for the period that it completes."""
        self._seen.add(interval)
        lines = self._passed(interval)
        for period in self._periods.add(interval):
            lines += self._period(period)
        return lines

    def ended(
        self,
        result: Result | None,
        *,
        error: str | None = None,
        server_output: str | Mapping[str, Json] | None = None,
        file: File | None = None,
    ) -> list[str]:
        """Return the last lines.

        Args:
            result: The result; None: the test did not get that far.
            error: What cut the test short, in iperf3's words for JSON; None: it is complete.
            server_output: What --get-server-output gave: text, or a document.
            file: -F's file with its present size.
        """
        lines: list[str] = []
        for period in self._periods.rest():
            lines += self._period(period)
        directions: list[figures.Direction] = []
        if self._opening is not None and result is not None:
            order: tuple[FlowDirection, ...] = ("upload", "download")
            directions = [
                figures.direction(result, way, self._ids[way], self._seen)
                for way in order
                if way in self._ids
            ]
        return lines + self._end(result, directions, error, server_output, file)

    def output(self, result: Result) -> str | Mapping[str, Json]:
        """Return the whole report for a test that ends with this result; change nothing."""
        report = copy.deepcopy(self)
        report.ended(result)
        return report._whole()

    # ---- what the two kinds do ------------------------------------------------------------------

    @abstractmethod
    def _whole(self) -> str | Mapping[str, Json]:
        """Return the report so far, without a server's banner."""

    @abstractmethod
    def _opened(self, opening: Opening) -> list[str]: ...

    def _passed(self, interval: Interval) -> list[str]:
        return []

    @abstractmethod
    def _period(self, period: Period) -> list[str]: ...

    @abstractmethod
    def _end(
        self,
        result: Result | None,
        directions: Sequence[figures.Direction],
        error: str | None,
        server_output: str | Mapping[str, Json] | None,
        file: File | None,
    ) -> list[str]: ...

    # ---- shared ---------------------------------------------------------------------------------

    def _sends(self, way: FlowDirection) -> bool:
        return self.settings.sends(way)

    @property
    def _two_way(self) -> bool:
        return len(self._ids) > 1

    @property
    def _tcp(self) -> bool:
        return self._opening is not None and isinstance(self._opening.spec, TcpSpec)

    def _seconds(self, interval: Interval) -> tuple[float, float]:
        """Return start and end in seconds, from the end of the omitted time as in iperf3."""
        assert self._opening is not None
        omit_ns = 0 if interval.omitted else round(self._opening.spec.timing.omit_s * 1e9)
        return (interval.start_ns - omit_ns) / 1e9, (interval.end_ns - omit_ns) / 1e9


def host_port(address: str | None) -> tuple[str, int]:
    """Return host and port of "192.0.2.1:5201" or "[2001:db8::1]:5201".

    An IPv4 address mapped into IPv6 (RFC 4291 section 2.5.5.2) is shown as IPv4.
    """
    host, _, port = (address or "").rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if "." in host:
        host = host.removeprefix("::ffff:")
    return host, int(port) if port.isdecimal() else 0
