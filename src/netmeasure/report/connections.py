"""Show the connections of a test that opens many: the time to open them, and errors by kind."""

from __future__ import annotations

from collections.abc import Mapping

from rich.table import Table

from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result.connections import ConnectionErrors, Connections
from netmeasure.result.histogram import Histogram
from netmeasure.result.requests import Requests
from netmeasure.units import duration

#: The description of each kind of error, in the order of the table.
KINDS: Mapping[str, str] = {
    "connect": "connections refused or not answered",
    "local": "connections for which this host had no port, descriptor or memory",
    "reset": "connections that ended before the whole response",
    "timeout": "requests without their whole response in time",
    "invalid": "responses of another length than agreed",
}


def connection_table(found: Connections, at_a_time: int) -> Table:
    """Return the table of fresh connections and errors."""
    table = connections_begun(found.connected, f"at most {at_a_time} at a time")
    add_times(table, "connect", found.connecting)
    add_times(table, "answer", found.answering)
    add_resent(table, found.syn_retransmits)
    add_errors(table, found, KINDS)
    return table


def connections_begun(count: int, words: str) -> Table:
    """Return the table with its first row: how many connections were opened."""
    table = plain_table(header=False)
    add_column(table)
    add_column(table, right=True)
    add_column(table, wraps=True)
    add_row(table, "connections", str(count), words)
    return table


def add_times(table: Table, name: str, times: Histogram) -> None:
    """Add a row about durations, if there are any."""
    if times.count:
        known = (
            ("p50", times.percentile_ns(50)),
            ("p99", times.percentile_ns(99)),
            ("longest", times.max_ns),
        )
        words = [f"{what} {duration(value)}" for what, value in known if value is not None]
        add_row(table, name, duration(times.mean_ns), f"mean; {', '.join(words)}")


def add_resent(table: Table, count: int | None) -> None:
    """Add a row about SYNs sent again, if there were any."""
    if count:
        add_row(table, "SYNs resent", str(count), "over all connections")


def add_errors(table: Table, found: Connections | Requests, kinds: Mapping[str, str]) -> None:
    """Add a row for each kind of error that occurred."""
    for kind, words in kinds.items():
        if number := getattr(found.errors, kind):
            if kind in ("connect", "local") and found.connect_error is not None:
                words += f"; the last one: {found.connect_error}"
            if kind == "tls" and isinstance(found, Requests) and found.tls_error is not None:
                words += f"; the last one: {found.tls_error}"
            add_row(table, f"{kind} errors", str(number), words)


def error_words(errors: ConnectionErrors) -> str:
    """Return a short text about the errors by kind; "": there were no errors."""
    return ", ".join(f"{number} {kind}" for kind, number in errors.by_kind if number)
