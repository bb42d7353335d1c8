"""Show the latency of a path, idle and under the load of a bulk test."""

from __future__ import annotations

from rich.table import Table

from netmeasure.report.tables import add_column, add_row, plain_table
from netmeasure.result.latency import Latency, ProbeFigures
from netmeasure.units import duration

#: Shorter queues than this are not shown in one line: they make no difference.
TOLD_FROM_NS = 1_000_000
#: From this ratio on, one direction has the queue and the other one does not.
MOSTLY = 4


def latency_words(found: Latency) -> list[str]:
    """Return texts of one line, the longest first."""
    idle, loaded = found.idle, found.loaded
    before = "" if idle.p50_ns is None else f"idle {duration(idle.p50_ns)}"
    if loaded is None:
        return [f"{before or 'unknown'}; the load did not begin"]
    if not loaded.count:
        under = f"under load unknown: no answer to {loaded.sent} probes"
        return [", ".join(part for part in (before, under) if part)]
    under = f"under load {duration(loaded.p50_ns)}"
    if loaded.p50_ns is None:
        under, far = f"under load {duration(loaded.max_ns)} at most", ""
    elif loaded.p99_ns is not None:
        far = f" (p99 {duration(loaded.p99_ns)})"
    else:
        far = f" (longest {duration(loaded.max_ns)})"
    lost = f"{100 * (loaded.loss_ratio or 0):.2g} % lost" if loaded.lost else ""
    amounts, where = _queued(found)
    variants = ((far, amounts), (far, where), ("", where), ("", ""))
    return [
        ", ".join(part for part in (before, under + more, ways, lost) if part)
        for more, ways in variants
    ]


def _queued(found: Latency) -> tuple[str, str]:
    """Return how long probes waited in each direction under load, and in which; empty: unknown, or
    hardly at all."""
    loaded, error_ns = found.loaded, found.pdv_error_ns
    if loaded is None or error_ns is None:
        return "", ""
    there, back = loaded.upload_pdv_p50_ns, loaded.download_pdv_p50_ns
    if there is None or back is None or max(there, back) < max(2 * error_ns, TOLD_FROM_NS):
        return "", ""
    where = "both ways" if MOSTLY * min(there, back) > max(there, back) else ""
    where = where or ("upstream" if there > back else "downstream")
    return f"queued {duration(there)} up, {duration(back)} down", f"queued {where}"


_PDV_WORDS = {
    ("upload", "p50"): "of these, longer than the fastest probe on its way up",
    ("download", "p50"): "on its way down",
}


def latency_table(found: Latency) -> Table:
    """Return the table of the figures of both parts, and of probes that no latency includes."""
    table = plain_table()
    add_column(table)
    for name in ("idle", "under load"):
        add_column(table, name, right=True)
    add_column(table, wraps=True)
    parts = [found.idle] if found.loaded is None else [found.idle, found.loaded]

    def row(name: str, figure: str, words: str = "") -> None:
        shown = [duration(getattr(part, figure)) for part in parts]
        add_row(table, name, *shown, *[""] * (2 - len(parts)), words)

    by = found.transport.upper()
    row("shortest", "min_ns", f"round trips of a probe by {by}, beside the streams")
    for name in ("p50", "p90", "p99"):
        row(name, f"{name}_ns")
    row("longest", "max_ns")
    if found.pdv_error_ns is not None:
        for way in ("upload", "download"):
            for name in ("p50", "p99"):
                row(f"{way} {name}", f"{way}_pdv_{name}_ns", _PDV_WORDS.get((way, name), ""))
    count_row = [str(part.count) for part in parts] + [""] * (2 - len(parts))
    add_row(table, "probes", *count_row, "that were answered")
    if any(part.lost for part in parts):
        lost = [_lost(part) for part in parts] + [""] * (2 - len(parts))
        add_row(table, "lost", *lost, "without an answer; not counted in the latency")
    host = [duration(part.host_sum_ns / part.count) if part.count else "" for part in parts]
    add_row(table, "hosts", *host, *[""] * (2 - len(parts)), "mean wait for a CPU, left out")
    if any(part.skipped for part in parts):
        skipped = [str(part.skipped) for part in parts] + [""] * (2 - len(parts))
        add_row(table, "not sent", *skipped, "this host had no CPU time for it")
    if found.rpm is not None:
        add_row(table, "RPM", "", f"{found.rpm:.0f}", "round trips a minute, of the shortest 95 %")
    return table


def _lost(part: ProbeFigures) -> str:
    return f"{100 * (part.loss_ratio or 0):.2g} %" if part.lost else "0"
