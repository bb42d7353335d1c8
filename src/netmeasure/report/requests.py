"""Show the connections and errors of a test of requests by HTTP."""

from __future__ import annotations

from rich.table import Table

from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result.requests import Requests
from netmeasure.units import duration, size

#: The description of each kind of error, in the order of the table.
_KINDS = {
    "connect": "connections refused or not answered",
    "local": "connections for which this host had no port, descriptor or memory",
    "reset": "connections that ended before the whole response",
    "timeout": "requests without their whole response in time",
    "invalid": "responses that were not HTTP, or had extra bytes after them",
    "status": "responses with a status of 400 or more",
}


def request_table(found: Requests) -> Table:
    """Return the table of connections, statuses and errors."""
    table = plain_table(header=False)
    add_column(table)
    add_column(table, right=True)
    add_column(table, wraps=True)
    shared = f"at most {found.connections} at a time, shared by {_threads(found.threads)}"
    add_row(table, "connections", str(found.connected), shared)
    if found.connecting.count:
        times = [
            f"{name} {duration(value)}"
            for name, value in (
                ("p50", found.connect_p50_ns),
                ("p99", found.connect_p99_ns),
                ("longest", found.connecting.max_ns),
            )
            if value is not None
        ]
        mean = found.connecting.mean_ns
        add_row(table, "connect", duration(mean), f"mean; {', '.join(times)}")
    if found.syn_retransmits:
        add_row(table, "SYNs resent", str(found.syn_retransmits), "over all connections")
    codes = ", ".join(f"{one.count} x {one.status}" for one in found.statuses)
    add_row(table, "responses", str(found.responses), codes)
    add_row(table, "bodies", size(found.body_bytes), "without headers and framing")
    for kind, words in _KINDS.items():
        if number := getattr(found.errors, kind):
            if kind in ("connect", "local") and found.connect_error is not None:
                words += f"; the last one: {found.connect_error}"
            add_row(table, f"{kind} errors", str(number), words)
    return table


def error_words(found: Requests) -> str:
    """Return a short text about the errors by kind; "": there were no errors."""
    kinds = [f"{number} {kind}" for kind in _KINDS if (number := getattr(found.errors, kind))]
    return ", ".join(kinds)


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
