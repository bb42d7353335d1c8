"""Show a result as a text report: set-up, the steady bitrate, and the averages of other tools."""

from __future__ import annotations

from rich.console import Console, Group, RenderableType
from rich.padding import Padding
from rich.text import Text

from netmeasure.report.answer import answer_lines
from netmeasure.report.connections import connection_table
from netmeasure.report.flow import flow_table, stream_table
from netmeasure.report.hosts import host_table
from netmeasure.report.latency import latency_table
from netmeasure.report.requests import request_table
from netmeasure.report.round_trips import round_trip_table
from netmeasure.report.setup import setup_table
from netmeasure.report.words import closing_lines, title, unit_of
from netmeasure.result import Result


def render(result: Result, *, per_stream: bool = False) -> RenderableType:
    """Return the whole report; its last lines are the summary of `answer`.

    `per_stream` adds a table with a row for each stream.
    """
    parts: list[RenderableType] = [Text(title(result), style="bold")]
    if result.setup:
        parts += [Text("\nSet-up"), Padding(setup_table(result), (0, 0, 0, 2))]
    if result.round_trips is not None:
        parts += [
            Text("\nRound trips" if result.requests is None else "\nRequests"),
            Padding(round_trip_table(result.round_trips, unit_of(result.spec)), (0, 0, 0, 2)),
        ]
    fresh = None if result.round_trips is None else result.round_trips.connections
    if result.requests is not None or fresh is not None:
        parts.append(Text("\nConnections and errors"))
    if result.requests is not None:
        parts.append(Padding(request_table(result.requests), (0, 0, 0, 2)))
    elif fresh is not None:
        parts.append(Padding(connection_table(fresh, result.spec.streams), (0, 0, 0, 2)))
    for flow in [] if result.round_trips is not None else result.flows:
        parts += [Text(f"\n{flow.direction.capitalize()}"), flow_table(result, flow)]
        if per_stream:
            parts += [Text(""), stream_table(flow)]
    if result.latency is not None:
        parts += [Text("\nLatency"), Padding(latency_table(result.latency), (0, 0, 0, 2))]
    if (hosts := host_table(result)).rows:
        parts += [Text("\nHosts"), Padding(hosts, (0, 0, 0, 2))]
    parts += [Text(f"\n{line}") for line in closing_lines(result)]
    if lines := answer_lines(result):
        parts.append(Text("\n" + "\n".join(lines)))
    return Group(*parts)


def print_report(result: Result, console: Console) -> None:
    """Print the whole report on a console of rich."""
    console.print(render(result), highlight=False)
