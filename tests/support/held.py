"""Check what must be true of every measured result, whatever the test that made it checks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator, MutableMapping
from pathlib import Path
from typing import Any, NamedTuple

import netmeasure as nm

#: The phases of set-up may differ from it in sum by 1 ms, or 1 %.
SLACK_NS, SLACK = 1_000_000, 0.01
#: The error of floating point: two divisions of the same integers.
ROUNDING = 1e-9
#: The folder with the module that every Python process of the tests imports at its start.
STARTUP = Path(__file__).parent / "startup"
#: The file in which these processes note what can't be.
_FILE = "NETMEASURE_TESTS_IMPOSSIBLE"
#: The file with what carries their data.
_LINK = "NETMEASURE_TESTS_LINK"
#: What a receiver may read at once after a pause: the largest receive buffer of a usual kernel, and
#: what was on its way.
BUFFERED_BYTES = 8 * 2**20


class Link(NamedTuple):
    """Hold the most that a link has carried: a rate, and bytes that passed at once."""

    rate_bps: float
    burst_bytes: int = 0

    def most_bps(self, duration_s: float) -> float:
        """Return the highest rate that can be measured over a time."""
        return self.rate_bps * (1 + SLACK) + 8 * (self.burst_bytes + BUFFERED_BYTES) / duration_s


class LinkFile:
    """Tell the programs on a link what it carries. Programs that were started before the link had a
    rate are not checked, since they may have measured another."""

    def __init__(self) -> None:
        self._file: Path | None = None
        self._most: Link | None = None
        self._free = False

    def carries(self, link: Link | None) -> None:
        """Note what the link carries from now on; None: anything."""
        if link is None:
            self._free = True
        else:
            most = self._most or link
            self._most = Link(
                max(link.rate_bps, most.rate_bps), max(link.burst_bytes, most.burst_bytes)
            )
        if self._most is None:
            return
        if self._file is None:
            number, name = tempfile.mkstemp(prefix="link-")
            os.fchmod(number, 0o644)
            os.close(number)
            self._file = Path(name)
        rate_bps, burst_bytes = self._most
        self._file.write_text("" if self._free else f"{rate_bps} {burst_bytes}")

    def tell(self, environment: MutableMapping[str, str]) -> None:
        """Let a program that gets this environment check its results."""
        if self._file is not None:
            environment[_LINK] = str(self._file)

    def remove(self) -> None:
        if self._file is not None:
            self._file.unlink(missing_ok=True)


def own_link() -> Link | None:
    """Return what carries this process's data; None: that is not known."""
    try:
        words = Path(os.environ[_LINK]).read_text().split()
    except (KeyError, OSError):
        return None
    return Link(float(words[0]), int(words[1])) if words else None


class Held:
    """Stands for the attribute `result` of what measures, and notes what can't be in a result."""

    def __init__(self, note: Callable[[list[str]], None]) -> None:
        self._note = note

    def __get__(self, owner: Any, _: type) -> Any:
        return self if owner is None else owner.__dict__.get("result")

    def __set__(self, owner: Any, result: Any) -> None:
        owner.__dict__["result"] = result
        if result is not None and (found := violations(result, own_link())):
            self._note(found)


def hold(note: Callable[[list[str]], None]) -> None:
    """Check every result that this process measures from now on, as client and as server."""
    from netmeasure.measurement.run import Run
    from netmeasure.peer.server.session import Session

    Run.result = Session.result = Held(note)  # type: ignore[assignment]


def watch_programs() -> None:
    """Check every result that a program measures that a test starts from now on.

    Programs whose environment a test has emptied are not checked.
    """
    number, file = tempfile.mkstemp(prefix="impossible-")
    os.fchmod(number, 0o666)  # for programs that run as another user
    os.close(number)
    inherited = [path for path in os.environ.get("PYTHONPATH", "").split(":") if path]
    paths = [str(STARTUP), *(path for path in inherited if path != str(STARTUP))]
    os.environ |= {_FILE: file, "PYTHONPATH": ":".join(paths)}


def of_programs() -> str:
    """Return what programs have found since the last call in results that they measured."""
    file = Path(os.environ[_FILE])
    if not file.stat().st_size:
        return ""
    found = file.read_text()
    os.truncate(file, 0)
    return found


def stop_watching() -> None:
    """Remove the file in which programs note what they find."""
    Path(os.environ[_FILE]).unlink()


def violations(result: nm.Result, link: Link | None = None) -> list[str]:
    """Return a sentence for each impossible figure of a result. `link`: what carried its data."""
    return [
        *_set_up(result),
        *_rates(result),
        *(_above(result, link) if link is not None and not _on_loopback(result) else ()),
        *_ratios(result),
        *_intervals(result),
        *_durations(result),
    ]


def _set_up(result: nm.Result) -> Iterator[str]:
    for phase in result.setup:
        if phase.duration_ns < 0 or phase.start_ns < 0:
            yield f"{phase.name} of {phase.connection} begins or lasts less than 0: {phase}"
    whole_ns = result.set_up_ns
    way = [phase for phase in result.setup if phase.decides]
    if whole_ns is None:
        if way:
            yield "phases decide on a first byte that never came"
        return
    if not result.setup:
        return  # the result of a server: set-up is the client's
    slack_ns = max(SLACK_NS, SLACK * whole_ns)
    at = 0
    for phase in way:
        if phase.start_ns != at:
            yield f"{phase.name} begins at {phase.start_ns} ns, the one before it ends at {at} ns"
        at = phase.end_ns
    if abs(at - whole_ns) > slack_ns:
        yield f"the phases of set-up end at {at} ns, set-up at {whole_ns} ns"


def _measured(flow: nm.Flow) -> dict[str, float]:
    mean = flow.averages
    rates = {
        "from_first_attempt_bps": mean.from_first_attempt_bps,
        "from_first_byte_bps": mean.from_first_byte_bps,
        "after_omit_bps": mean.after_omit_bps,
        "steady": flow.steady.goodput_bps if flow.steady else None,
    }
    return {name: rate for name, rate in rates.items() if rate is not None}


def _rates(result: nm.Result) -> Iterator[str]:
    for flow in result.flows:
        for name, rate in _measured(flow).items():
            if not 0 <= rate < float("inf"):
                yield f"{flow.direction} {name} is {rate}"
        whole, without = flow.averages.from_first_attempt_bps, flow.averages.from_first_byte_bps
        if whole is not None and without is not None and whole > without * (1 + ROUNDING):
            yield f"{flow.direction}: {whole} bit/s with set-up, {without} without"


def _on_loopback(result: nm.Result) -> bool:
    return any(word in result.target for word in ("127.0.0.", "::1", "localhost"))


def _above(result: nm.Result, link: Link) -> Iterator[str]:
    """Find rates that the link can't have carried over their time. Datagrams that only their sender
    has counted may have been lost before it."""
    for flow in result.flows:
        if flow.counted_by == "sender" and isinstance(result.spec, nm.UdpSpec):
            continue
        steady, series = flow.steady, flow.series
        whole_ns = max(
            result.client.duration_ns or 0,
            result.server.duration_ns or 0,
            steady.end_ns if steady is not None else 0,
            series.width_ns * len(series.bytes) if series is not None else 0,
        )
        for name, rate in _measured(flow).items():
            lasted_ns = whole_ns
            if name == "steady" and steady is not None:
                lasted_ns = steady.end_ns - steady.start_ns
            most_bps = link.most_bps(max(lasted_ns, 1) / 1e9)
            if rate > most_bps:
                yield f"{flow.direction} {name} is {rate}, the link carries {most_bps}"


def _ratios(result: nm.Result) -> Iterator[str]:
    for flow in result.flows:
        if flow.loss is not None:
            yield from _ratio(f"{flow.direction} loss", flow.loss.loss_ratio)
        for name in _PARTS if flow.limits is not None else ():
            yield from _ratio(f"{flow.direction} {name}", getattr(flow.limits, name))
        for stream in flow.streams:
            if stream.sender is not None and stream.sender.thread is not None:
                yield from _cpu(stream.sender)
            if stream.receiver is not None and stream.receiver.thread is not None:
                yield from _cpu(stream.receiver)


def _cpu(report: nm.StreamReport) -> Iterator[str]:
    thread = report.thread
    if thread is None or len(thread.at_ns) < 2:
        return
    spent_ns = thread.cpu_ns[-1] - thread.cpu_ns[0]
    lasted_ns = thread.at_ns[-1] - thread.at_ns[0]
    if spent_ns > lasted_ns + 20 * SLACK_NS:  # read at two moments, with a tick between them
        yield f"stream {report.id} used {spent_ns} ns of CPU in {lasted_ns} ns"


#: Members of `result.Limits` that are shares of a time, or of the samples.
_PARTS = (
    "sender_cpu_ratio",
    "sender_wait_ratio",
    "receiver_cpu_ratio",
    "receiver_wait_ratio",
    "busy_ratio",
    "rwnd_limited_ratio",
    "sndbuf_limited_ratio",
    "unsent_ratio",
)


def _ratio(what: str, ratio: float | None) -> Iterator[str]:
    if ratio is not None and not 0 <= ratio <= 1:
        yield f"{what} is {ratio}"


def _durations(result: nm.Result) -> Iterator[str]:
    for name, side in (("client", result.client), ("server", result.server)):
        if side.duration_ns is not None and side.duration_ns < 0:
            yield f"the {name}'s data phase lasted {side.duration_ns} ns"


def _intervals(result: nm.Result) -> Iterator[str]:
    for flow in result.flows:
        width_ns = flow.series.width_ns if flow.series else 0
        for interval in flow.intervals:
            if interval.end_ns - interval.start_ns < width_ns:
                yield (
                    f"{flow.direction}: {interval.start_ns} to {interval.end_ns} ns is an interval"
                    f" shorter than a bucket of {width_ns} ns"
                )
        if flow.steady is not None and flow.steady.end_ns - flow.steady.start_ns < width_ns:
            yield f"{flow.direction}: steady for less than a bucket: {flow.steady}"


def told(result: nm.Result) -> list[nm.Phase]:
    """Return the phases of set-up in order, without those that depend on timing.

    These are the times that this host took between phases, the wait for a body that arrived later
    than its head, and the second part of a step.
    """
    phases: list[nm.Phase] = []
    for phase in result.setup:
        again = phases and (phases[-1].name, phases[-1].connection) == (
            phase.name,
            phase.connection,
        )
        if phase.name in ("host", "first_body_byte") or (again and phase.name != "connect"):
            continue
        phases.append(phase)
    return phases


def steps(result: nm.Result) -> list[str]:
    """Return the names of `told`."""
    return [phase.name for phase in told(result)]
