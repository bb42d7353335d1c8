"""Check what must be true of every measured result, whatever the test that made it checks."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import netmeasure as nm

#: The phases of set-up may differ from it in sum by 1 ms, or 1 %.
SLACK_NS, SLACK = 1_000_000, 0.01
#: The error of floating point: two divisions of the same integers.
ROUNDING = 1e-9
#: The folder with the module that every Python process of the tests imports at its start.
STARTUP = Path(__file__).parent / "startup"
#: The file in which these processes note what can't be.
_FILE = "NETMEASURE_TESTS_IMPOSSIBLE"


class Held:
    """Stands for the attribute `result` of what measures, and notes what can't be in a result."""

    def __init__(self, note: Callable[[list[str]], None]) -> None:
        self._note = note

    def __get__(self, owner: Any, _: type) -> Any:
        return self if owner is None else owner.__dict__.get("result")

    def __set__(self, owner: Any, result: Any) -> None:
        owner.__dict__["result"] = result
        if result is not None and (found := violations(result)):
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


def violations(result: nm.Result, link_bps: float | None = None) -> list[str]:
    """Return a sentence for each impossible figure of a result.

    `link_bps` is the rate of the link if it is known: no byte count over any time may exceed it.
    """
    return [
        *_set_up(result),
        *_rates(result, link_bps),
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


def _rates(result: nm.Result, link_bps: float | None) -> Iterator[str]:
    for flow in result.flows:
        mean = flow.averages
        rates = {
            "from_first_attempt_bps": mean.from_first_attempt_bps,
            "from_first_byte_bps": mean.from_first_byte_bps,
            "after_omit_bps": mean.after_omit_bps,
            "steady": flow.steady.goodput_bps if flow.steady else None,
        }
        for name, rate in rates.items():
            if rate is None:
                continue
            if not 0 <= rate < float("inf"):
                yield f"{flow.direction} {name} is {rate}"
            if link_bps is not None and rate > link_bps * (1 + SLACK):
                yield f"{flow.direction} {name} is {rate}, the link carries {link_bps}"
        whole, without = mean.from_first_attempt_bps, mean.from_first_byte_bps
        if whole is not None and without is not None and whole > without * (1 + ROUNDING):
            yield f"{flow.direction}: {whole} bit/s with set-up, {without} without"


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
