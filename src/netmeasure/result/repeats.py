"""Write values that a result has twice only once, with a reference at the other place, and resolve
references.

A result has each stream's report in its flow and in the side that made it. A document has the
report in the flow, and the side has a reference to it, such as "flows[0].streams[0].sender". The
series of a flow with a single stream is in the same way a reference to that of the stream.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from netmeasure.result.flows import Flow
from netmeasure.result.sides import SideReport, StreamReport

_PLACE = r"(?a)flows\[(\d{1,6})\]\.streams\[(\d{1,6})\]\.(sender|receiver)(\.series)?"


def repeats(flows: Sequence[Flow], sides: Sequence[SideReport]) -> dict[tuple[int, str], object]:
    """Return the references to write instead of fields, by the `id()` of the owner and the name of
    the field."""
    homes: dict[tuple[str, int], list[tuple[StreamReport, str]]] = {}
    instead: dict[tuple[int, str], object] = {}
    for number, flow in enumerate(flows):
        for index, stream in enumerate(flow.streams):
            for role in ("sender", "receiver"):
                report = getattr(stream, role)
                if report is None:
                    continue
                place = f"flows[{number}].streams[{index}].{role}"
                homes.setdefault((report.role, report.id), []).append((report, place))
                alone = len(flow.streams) == 1 and role == flow.counted_by
                if alone and flow.series is not None and flow.series == report.series:
                    instead[id(flow), "series"] = f"{place}.series"
    for side in sides:
        instead[id(side), "streams"] = tuple(
            next(
                (
                    place
                    for report, place in homes.get((stream.role, stream.id), ())
                    if stream is report or stream == report
                ),
                stream,
            )
            for stream in side.streams
        )
    return instead


def restore(document: dict[str, Any]) -> None:
    """Replace the references in a document by the values.

    Raises ValueError, with the reason, if a place does not exist.
    """
    flows = document.get("flows")
    for name in ("client", "server"):
        side = document.get(name)
        if isinstance(side, dict) and isinstance(streams := side.get("streams"), list):
            side["streams"] = [
                _found(document, item, f"{name}.streams[{index}]")
                for index, item in enumerate(streams)
            ]
    for index, flow in enumerate(flows if isinstance(flows, list) else ()):
        if isinstance(flow, dict):
            flow["series"] = _found(document, flow.get("series"), f"flows[{index}].series")


def _found(document: dict[str, Any], value: Any, place: str) -> Any:
    """Return the value of a reference; other values are returned unchanged."""
    if not isinstance(value, str):
        return value
    named = re.fullmatch(_PLACE, value)
    if named is None:
        raise ValueError(f"{place}: {value[:80]!r} is no place of a stream's report")
    try:
        report = document["flows"][int(named[1])]["streams"][int(named[2])][named[3]]
        found = report["series"] if named[4] else report
    except (LookupError, TypeError):
        raise ValueError(f"{place}: the document has no {value}") from None
    if not isinstance(found, dict):
        raise ValueError(f"{place}: the document has no {value}")
    return found
