"""Show connection set-up: a line for each of its phases."""

from __future__ import annotations

from collections.abc import Iterable
from statistics import median

from rich.table import Table

from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.report.words import syns_again
from netmeasure.result import Phase, Result
from netmeasure.units import duration

#: If there are more data streams than this, their phases are shown as distributions.
MAX_ROWS = 4
#: Delays of this host that are longer than this have their own rows; the others share one row.
LONG_NS = 1_000_000


def setup_table(result: Result) -> Table:
    """Return a table of all phases, with the time until the first byte as its last line."""
    table = plain_table()
    for name in ("phase", "connection"):
        add_column(table, name)
    for name in ("from", "took"):
        add_column(table, name, right=True)
    add_column(table, wraps=True)
    for row in _setup_rows(result.setup):
        add_row(table, *row)
    if result.set_up_ns is not None:
        words = "until the first byte"
        if result.set_up_host_ns:
            words += f"; {duration(result.set_up_host_ns)} of it this host's"
        add_row(table, "total", "", "", duration(result.set_up_ns), words)
    return table


def _setup_rows(phases: Iterable[Phase]) -> list[tuple[str, str, str, str, str]]:
    # repeated transfers are numbered with "#" from the second on; they have a row of their own in
    # the table of their direction
    phases = [phase for phase in phases if "#" not in phase.connection]
    short = [phase for phase in phases if _is_short(phase)]
    phases = [phase for phase in phases if not _is_short(phase)]
    return _rows(phases) + ([_short_row(short)] if short else [])


def _is_short(phase: Phase) -> bool:
    return phase.name == "host" and phase.duration_ns < LONG_NS


def _short_row(phases: list[Phase]) -> tuple[str, str, str, str, str]:
    total = duration(sum(phase.duration_ns for phase in phases))
    return ("host", "", "", total, f"between the others, in {len(phases)} short steps")


def _rows(phases: list[Phase]) -> list[tuple[str, str, str, str, str]]:
    streams = {p.connection for p in phases if p.connection.startswith("stream")}
    if len(streams) <= MAX_ROWS:
        return [_phase_row(phase) for phase in phases]
    rows = [_phase_row(p) for p in phases if p.connection not in streams]
    many = [p for p in phases if p.connection in streams]
    names = dict.fromkeys(phase.name for phase in many)
    return rows + [_many_row([p for p in many if p.name == name]) for name in names]


def _phase_row(phase: Phase) -> tuple[str, str, str, str, str]:
    said = [phase.address] if phase.address and phase.name == "connect" else []
    if phase.syn_retransmits:
        said.append(syns_again(phase.syn_retransmits))
    if phase.detail:
        said.append(phase.detail)
    return (
        phase.name.replace("_", " "),
        phase.connection,
        duration(phase.start_ns),
        duration(phase.duration_ns),
        ", ".join(said),
    )


def _many_row(phases: list[Phase]) -> tuple[str, str, str, str, str]:
    times = sorted(phase.duration_ns for phase in phases)
    syns = sum(phase.syn_retransmits or 0 for phase in phases)
    spread = f"median; {duration(times[0])} to {duration(times[-1])}"
    return (
        phases[0].name.replace("_", " "),
        f"{len(phases)} streams",
        duration(min(phase.start_ns for phase in phases)),
        duration(median(times)),
        f"{spread}, {syns_again(syns)}" if syns else spread,
    )
