"""Name the figures that an objective can be about, and read them from a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, NamedTuple

from netmeasure import units
from netmeasure.comparison.runs import RunFigures
from netmeasure.errors import SpecError
from netmeasure.result import Result
from netmeasure.result.latency import ProbeFigures

Unit = Literal["bps", "ns", "ratio", "s_per_gb", "per_gb", "count"]
#: With these verdicts the rate is a best effort, against which no objective can be checked.
_NO_PLATEAU = {"not_steady": "no plateau was found", "too_short": "too short to tell"}


class Metric(NamedTuple):
    """Describe a figure.

    Attributes:
        words: A description of the figure.
        unit: Its unit.
        of_flow: Reads the figure from those of one direction; None: the figure belongs to the whole
            run.
        of_run: Reads the figure from a run; None: each direction has its own figure.
        why_unknown: Returns why a complete run lacks the figure of a direction, or None if the run
            does not say; None: no run says.
    """

    words: str
    unit: Unit
    of_flow: Callable[[RunFigures], float | None] | None = None
    of_run: Callable[[Result], float | None] | None = None
    why_unknown: Callable[[RunFigures], str | None] | None = None


def phase_ns(result: Result, *names: str) -> int | None:
    """Return the duration of the longest set-up phase with one of these names, over all
    connections."""
    return max((p.duration_ns for p in result.setup if p.name in names), default=None)


def _latency_ns(result: Result, percent: float) -> int | None:
    """Return a percentile of the round trips; None: another kind of test, or too few of them."""
    trips = result.round_trips
    return None if trips is None else trips.latency.percentile_ns(percent)


def _loaded_ns(result: Result, percent: float) -> int | None:
    """Return a percentile of the latency under load; None: not measured, or too few probes."""
    loaded = _loaded(result)
    return None if loaded is None else loaded.latency.percentile_ns(percent)


def _loaded(result: Result) -> ProbeFigures | None:
    return None if result.latency is None else result.latency.loaded


def _pdv_ns(result: Result, way: str) -> int | None:
    """Return the 99th percentile of the delay variation of a direction under load."""
    loaded = _loaded(result)
    if loaded is None:
        return None
    return loaded.upload_pdv_p99_ns if way == "upload" else loaded.download_pdv_p99_ns


def _transaction_errors(result: Result) -> float | None:
    made = None if result.round_trips is None else result.round_trips.connections
    return None if made is None else made.error_ratio


def _steady_bps(run: RunFigures) -> float | None:
    return None if run.verdict in _NO_PLATEAU else run.steady_bps


def _why_no_steady(run: RunFigures) -> str | None:
    return _NO_PLATEAU.get(run.verdict or "")


def _cpu_s_per_gb(run: RunFigures) -> float | None:
    known = [x for x in (run.sender_cpu_s_per_gb, run.receiver_cpu_s_per_gb) if x is not None]
    return max(known) if len(known) == 2 else None


#: Every figure by its name.
METRICS: Mapping[str, Metric] = MappingProxyType(
    {
        "steady": Metric("steady bitrate", "bps", of_flow=_steady_bps, why_unknown=_why_no_steady),
        "average": Metric(
            "average since the first connect attempt, as curl counts it",
            "bps",
            of_flow=lambda run: run.from_first_attempt_bps,
        ),
        "ceiling_share": Metric(
            "steady bitrate as a share of the link's payload ceiling",
            "ratio",
            of_flow=lambda run: run.ceiling_share,
        ),
        "loss": Metric("datagrams lost of those sent", "ratio", of_flow=lambda run: run.loss_ratio),
        "retransmits_per_gb": Metric(
            "TCP segments sent again per 10^9 bytes",
            "per_gb",
            of_flow=lambda run: run.retransmits_per_gb,
        ),
        "cpu_s_per_gb": Metric(
            "CPU time of the traffic threads per 10^9 bytes, at the end that used more",
            "s_per_gb",
            of_flow=_cpu_s_per_gb,
        ),
        "ramp": Metric("time before the steady state", "ns", of_flow=lambda run: run.ramp_ns),
        "setup": Metric(
            "first attempt to first payload byte", "ns", of_run=lambda run: run.set_up_ns
        ),
        "resolve": Metric("name look-up", "ns", of_run=lambda run: phase_ns(run, "resolve")),
        "connect": Metric(
            "the longest connect of a connection", "ns", of_run=lambda run: phase_ns(run, "connect")
        ),
        "tls": Metric("TLS handshake", "ns", of_run=lambda run: phase_ns(run, "tls")),
        "first_byte": Metric(
            "request to first byte", "ns", of_run=lambda run: phase_ns(run, "first_byte")
        ),
        "latency_p50": Metric(
            "median of the round trips", "ns", of_run=lambda run: _latency_ns(run, 50)
        ),
        "latency_p99": Metric(
            "99th percentile of the round trips", "ns", of_run=lambda run: _latency_ns(run, 99)
        ),
        "latency_p99_9": Metric(
            "99.9th percentile of the round trips", "ns", of_run=lambda run: _latency_ns(run, 99.9)
        ),
        "loaded_latency_p50": Metric(
            "median round trip under the load of a bulk test",
            "ns",
            of_run=lambda run: _loaded_ns(run, 50),
        ),
        "loaded_latency_p99": Metric(
            "99th percentile of the round trips under the load of a bulk test",
            "ns",
            of_run=lambda run: _loaded_ns(run, 99),
        ),
        "upload_pdv_p99": Metric(
            "99th percentile of the delay variation from client to server under load",
            "ns",
            of_run=lambda run: _pdv_ns(run, "upload"),
        ),
        "download_pdv_p99": Metric(
            "99th percentile of the delay variation from server to client under load",
            "ns",
            of_run=lambda run: _pdv_ns(run, "download"),
        ),
        "idle_latency_p50": Metric(
            "median round trip before a bulk test",
            "ns",
            of_run=lambda run: run.latency.idle.p50_ns if run.latency else None,
        ),
        "lost_transactions": Metric(
            "round trips by UDP without a response in time, of all",
            "ratio",
            of_run=lambda run: run.round_trips.loss_ratio if run.round_trips else None,
        ),
        "request_errors": Metric(
            "failed requests by HTTP, of all attempts",
            "ratio",
            of_run=lambda run: run.requests.error_ratio if run.requests else None,
        ),
        "transaction_errors": Metric(
            "failed round trips on fresh connections, of all attempts",
            "ratio",
            of_run=_transaction_errors,
        ),
        "syn_retransmits": Metric(
            "SYNs sent again", "count", of_run=lambda run: run.syn_retransmits
        ),
    }
)


def parse_value(text: str, unit: Unit) -> float:
    """Return the number of a text such as "9Gbit/s", "100ms", "0.1%" or "1". Raises SpecError."""
    if unit == "bps":
        return float(units.parse_bitrate(text))
    if unit == "ns":
        return float(units.parse_duration_ns(text))
    if unit == "ratio":
        return units.parse_ratio(text)
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf"):
        raise SpecError(f"{text!r} is not a number of 0 or more", hint="write for example 1 or 0.5")
    return value


def shown_value(value: float, unit: str) -> str:
    """Return a value with its unit, for display."""
    if unit == "bps":
        return units.bitrate(value)
    if unit == "ns":
        return units.duration(value)
    if unit == "ratio":
        return f"{100 * value:.3g} %"
    names = {"s_per_gb": " s/GB", "per_gb": " per GB", "count": ""}
    return f"{value:.3g}{names[unit]}"
