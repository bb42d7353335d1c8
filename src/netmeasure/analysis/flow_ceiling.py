"""Compute the ceiling of a flow's link, from its sockets' MTU and MSS and the link in its
specification."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from netmeasure.analysis.ceiling import Traffic, ceiling
from netmeasure.errors import SpecError
from netmeasure.overhead.sizes import IP, TCP, IpVersion
from netmeasure.result import Ceiling, StreamReport
from netmeasure.spec import Spec, UdpSpec

T = TypeVar("T")


def flow_ceiling(
    spec: Spec, senders: Iterable[StreamReport], receivers: Iterable[StreamReport]
) -> Ceiling | None:
    """Return the ceiling of a flow's link; None: the link's rate or the path's MTU is unknown, or
    the facts of the two ends contradict the specification of the link. The sender's facts take
    precedence over the receiver's."""
    if spec.link is None or spec.link.rate_bps is None:
        return None
    senders = list(senders)
    reports = [*senders, *receivers]
    version: IpVersion | None = _first(_ip_version(report) for report in reports)
    mtu = _first(_path_mtu(report) for report in reports)
    if version is None or mtu is None:
        return None
    if isinstance(spec, UdpSpec):
        traffic, payload = Traffic("udp", version), spec.datagram_bytes
    else:
        # an MSS below the path's limit was negotiated; the two are equal only without options
        plain = mtu - IP[version].bytes - TCP.bytes
        without = _first(_segment(report) for report in reports) == plain
        traffic = Traffic("tcp", version, timestamps=not without)
        # a receiver's own MSS for sending says nothing about the segments that it receives
        payload = _first(_segment(report) for report in senders)
        if payload is not None:
            overhead = sum(header.bytes for header in traffic.headers())
            payload = min(payload, mtu - overhead)
    try:
        return ceiling(spec.link, traffic, mtu_bytes=mtu, payload_bytes=payload)
    except SpecError:
        return None


def _first(found: Iterable[T | None]) -> T | None:
    return next((item for item in found if item is not None), None)


def _ip_version(report: StreamReport) -> IpVersion | None:
    address = report.socket and (report.socket.remote or report.socket.local)
    if not address:
        return None
    return 6 if address.startswith("[") else 4


def _path_mtu(report: StreamReport) -> int | None:
    if report.tcp_info is not None and report.tcp_info.pmtu_bytes:
        return report.tcp_info.pmtu_bytes[-1]
    return None if report.socket is None else report.socket.pmtu_bytes


def _segment(report: StreamReport) -> int | None:
    """Return TCP_INFO's tcpi_snd_mss: the payload of a full segment, options excluded."""
    if report.tcp_info is not None and report.tcp_info.mss_bytes:
        return report.tcp_info.mss_bytes[-1]
    return None
