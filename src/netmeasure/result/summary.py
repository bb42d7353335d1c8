"""Remove the time series from results, for a short form with single figures only."""

from __future__ import annotations

from typing import TypeVar

from msgspec.structs import fields, replace

from netmeasure.result.document import Result
from netmeasure.result.flows import Flow, StreamResult
from netmeasure.result.latency import Latency
from netmeasure.result.resources import Resources
from netmeasure.result.resultset import ResultSet
from netmeasure.result.sides import SideReport, StreamReport

R = TypeVar("R", Result, ResultSet)


def without_series(value: R) -> R:
    """Return a result without time series, which has counts, times and figures only.

    It can be saved and loaded like any result. Figures that need a series, such as the bottleneck
    over time, are missing.
    """
    if isinstance(value, ResultSet):
        return replace(value, results=tuple(without_series(result) for result in value.results))
    assert isinstance(value, Result)
    return replace(
        value,
        flows=tuple(_short_flow(flow) for flow in value.flows),
        client=_short_side(value.client),
        server=_short_side(value.server),
        server_output=None,
        round_trips=None if value.round_trips is None else replace(value.round_trips, series=None),
        latency=None if value.latency is None else _short_latency(value.latency),
        auto_stop=None if value.auto_stop is None else replace(value.auto_stop, looks=()),
    )


def _short_latency(latency: Latency) -> Latency:
    loaded = None if latency.loaded is None else replace(latency.loaded, series=None)
    return replace(latency, idle=replace(latency.idle, series=None), loaded=loaded)


def _short_flow(flow: Flow) -> Flow:
    streams = tuple(
        StreamResult(
            id=one.id,
            sender=None if one.sender is None else _short_stream(one.sender),
            receiver=None if one.receiver is None else _short_stream(one.receiver),
            steady=one.steady,
        )
        for one in flow.streams
    )
    return replace(flow, streams=streams, series=None, intervals=())


def _short_side(side: SideReport) -> SideReport:
    resources = side.resources
    if resources is not None:
        ends = (0, -1) if len(resources.at_ns) > 1 else (0,)
        columns = {
            field.name: tuple(column[end] for end in ends)
            for field in fields(Resources)
            if isinstance(column := getattr(resources, field.name), tuple)
        }
        resources = replace(resources, **columns)
    streams = tuple(_short_stream(stream) for stream in side.streams)
    return replace(side, streams=streams, resources=resources)


def _short_stream(stream: StreamReport) -> StreamReport:
    datagrams = stream.datagrams
    return replace(
        stream,
        thread=None,
        series=None,
        tcp_info=None,
        datagrams=None if datagrams is None else replace(datagrams, history=None),
    )
