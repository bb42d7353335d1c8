"""Show the connections and errors of a test of requests by HTTP."""

from __future__ import annotations

from rich.table import Table

from netmeasure.report.connections import (
    KINDS,
    add_errors,
    add_resent,
    add_times,
    connections_begun,
)
from netmeasure.report.tables import add_row
from netmeasure.result.requests import Requests
from netmeasure.units import size

#: The description of each kind of error that HTTP names otherwise, or has in addition.
_OF_HTTP = {
    "invalid": "responses that were not HTTP, or had extra bytes after them",
    "tls": "connections whose TLS handshake failed, or was not over in time",
    "status": "responses with a status of 400 or more",
}


def request_table(found: Requests) -> Table:
    """Return the table of connections, statuses and errors."""
    shared = f"at most {found.connections} at a time, shared by {_threads(found.threads)}"
    table = connections_begun(found.connected, shared)
    add_times(table, "connect", found.connecting)
    if found.shaking is not None:
        add_times(table, "TLS", found.shaking)
    add_resent(table, found.syn_retransmits)
    codes = ", ".join(f"{one.count} x {one.status}" for one in found.statuses)
    add_row(table, "responses", str(found.responses), codes)
    add_row(table, "bodies", size(found.body_bytes), "without headers and framing")
    add_errors(table, found, {**KINDS, **_OF_HTTP})
    return table


def _threads(count: int) -> str:
    return "1 thread" if count == 1 else f"{count} threads"
