"""Analyse a saved result again."""

from __future__ import annotations

import netmeasure as nm
from netmeasure.measurement.flows import Measured, build_flows


def again(result: nm.Result) -> tuple[nm.Flow, ...]:
    """Return the flows, computed from the reports of both ends alone."""
    ids = [stream.id for flow in result.flows for stream in flow.streams]
    directions = [flow.direction for flow in result.flows for _ in flow.streams]
    # the origin of the client's counts is so long before its first byte that set-up does not
    # explain it
    first = result.flows[0]
    here = [s.sender if first.direction == "upload" else s.receiver for s in first.streams]
    begins = [report.series.origin_ns for report in here if report and report.series]
    assert result.set_up_ns is not None
    return build_flows(
        Measured(
            result.spec,
            directions,
            result.client,
            result.server,
            result.set_up_ns - min(begins),
            ids=ids,
            counted_ns=result.auto_stop.counted_ns if result.auto_stop else None,
        )
    )


def check(result: nm.Result) -> None:
    """Check that no figure changes when a result is analysed again from its saved JSON."""
    saved = nm.Result.from_json(result.to_json())
    assert saved == result
    flows = again(saved)
    assert flows == result.flows
    assert all(flow.steady is not None for flow in flows)
