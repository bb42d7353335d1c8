"""Show the round trips of a test: their number, their latencies, and requests without a
response."""

from __future__ import annotations

from rich.table import Table

from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result.round_trips import RoundTrips
from netmeasure.units import duration, percent


def round_trip_table(found: RoundTrips, unit: str) -> Table:
    """Return the table of the latencies, and of the requests that no latency includes; `unit` is
    what one is called."""
    table = plain_table(header=False)
    add_column(table)
    add_column(table, right=True)
    add_column(table, wraps=True)
    low_high = found.steady_interval_per_s
    words = (
        "" if low_high is None else f"95 % confidence: {_rate(low_high[0])} to {_rate(low_high[1])}"
    )
    add_row(table, f"{unit}/s", rate_words(found), words)
    add_row(table, unit, str(found.transactions), "after the omitted time")
    latency = found.latency
    for name, value in (
        ()
        if not latency.count
        else (
            ("shortest", latency.min_ns),
            ("mean", found.mean_ns),
            ("p50", found.p50_ns),
            ("p90", found.p90_ns),
            ("p99", found.p99_ns),
            ("p99.9", found.p99_9_ns),
            ("p99.99", found.p99_99_ns),
            ("longest", latency.max_ns),
        )
    ):
        add_row(table, name, duration(value), "" if value is not None else f"too few {unit}")
    if found.lost is not None:
        share = "" if found.loss_ratio is None else f"{100 * found.loss_ratio:.3g} %; "
        words = f"{share}without a response in time; not counted in the latency"
        add_row(table, "lost", str(found.lost), words)
    for name, number, words in (
        ("late responses", found.late_responses, "to requests already counted as lost or answered"),
        ("invalid", found.invalid_responses, "datagrams that answered no request"),
        ("refused", found.refused, "by this host's kernel, or by ICMP errors"),
    ):
        if number:
            add_row(table, name, str(number), words)
    if found.unanswered:
        words = "at the end; not counted in the latency"
        add_row(table, "unanswered", str(found.unanswered), words)
    if found.skipped:
        words = "were due at the set rate and could not be sent: the answers came too slowly"
        add_row(table, "not sent", str(found.skipped), words)
    if found.sent_late:
        longest = duration(found.sent_late_max_ns)
        words = f"by this host, {longest} at the longest; timed from when they were sent"
        add_row(table, "sent late", str(found.sent_late), words)
    return table


def answer_words(found: RoundTrips, unit: str, errors: str = "") -> list[tuple[str, str]]:
    """Return the names and the texts of the last lines for a test of round trips; `errors`: a text
    about other errors."""
    margin = ""
    if found.steady_interval_per_s is not None and found.steady_per_s:
        low, high = found.steady_interval_per_s
        margin = f" +-{percent((high - low) / 2 / found.steady_per_s)}"
    lost = f", {found.unanswered} unanswered" if found.unanswered else ""
    if found.lost:
        lost += f", {found.lost} lost ({100 * (found.loss_ratio or 0):.3g} %)"
    lost += f", errors: {errors}" if errors else ""
    percentiles = (
        ("p50", found.p50_ns),
        ("p99", found.p99_ns),
        ("p99.9", found.p99_9_ns),
        ("longest", found.latency.max_ns),
    )
    nothing = f"unknown: no response came{' without an error' if errors else ''}"
    known = [f"{name} {duration(value)}" for name, value in percentiles if value is not None]
    return [
        (f"{unit.capitalize()}/s", f"{rate_words(found)}{margin}{lost}"),
        ("Latency", ", ".join(known) or nothing),
    ]


def rate_words(found: RoundTrips) -> str:
    """Return the transactions per second as text."""
    return "unknown" if found.steady_per_s is None else _rate(found.steady_per_s)


def _rate(per_s: float) -> str:
    return f"{per_s:.0f}" if per_s >= 1000 else f"{per_s:.4g}"
