"""Find the conditions, such as an MTU or an option, that differ between two sets of runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import msgspec

from netmeasure.result import FlowDirection, Result, SideReport, StreamReport
from netmeasure.spec import FtpSpec, HttpSpec, RequestSpec, RrSpec, TcpSpec, UdpSpec

Facts = dict[str, str | int | float | bool | None]
#: Facts that identify the hosts. Comparing two hosts may be the purpose of the comparison.
WHO = frozenset({"client's host", "server's host"})
#: Socket options that affect figures. The report of a socket does not contain their values.
_OPTIONS = {
    "no_delay": "TCP_NODELAY",
    "window_bytes": "socket buffers",
    "pacing_bps": "pacing rate",
    "tos": "TOS",
    "flow_label": "flow label",
    "dont_fragment": "DF",
    "multipath": "MPTCP",
}
_UNITS = {"window_bytes": "bytes", "pacing_bps": "bit/s"}


class Difference(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a fact that is not the same in all runs, with its values on each side.

    Attributes:
        name: The fact, such as "congestion control".
        a: Its distinct values in the runs of A, as text.
        b: Its distinct values in the runs of B.
        matters: Whether the fact may affect a figure. False: it only identifies a host.
    """

    name: str
    a: tuple[str, ...]
    b: tuple[str, ...]
    matters: bool = True


def differences(
    a: Iterable[Result], b: Iterable[Result], direction: FlowDirection
) -> tuple[Difference, ...]:
    """Return all differences in one direction, those of the specifications first.

    A fact that is unknown on one side is not a difference.
    """
    of_a, of_b = ([facts(result, direction) for result in side] for side in (a, b))
    names = dict.fromkeys(name for one in (*of_a, *of_b) for name in one)
    found = (
        Difference(name=name, a=_values(of_a, name), b=_values(of_b, name), matters=name not in WHO)
        for name in names
    )
    return tuple(one for one in found if one.a and one.b and len({*one.a, *one.b}) > 1)


def facts(result: Result, direction: FlowDirection) -> Facts:
    """Return the conditions of a run that may affect its figures."""
    flow = next((flow for flow in result.flows if flow.direction == direction), None)
    streams = () if flow is None else flow.streams
    senders = [stream.sender for stream in streams if stream.sender is not None]
    receivers = [stream.receiver for stream in streams if stream.receiver is not None]
    return {
        **_asked(result),
        "block size": _each(_unit(report.block_bytes, "bytes") for report in senders or receivers),
        "datagram size": _each(
            _unit(r.datagrams.datagram_bytes, "bytes") for r in senders if r.datagrams
        ),
        "send mode": _each(report.mode for report in senders),
        "receive mode": _each(report.mode for report in receivers),
        "segmentation offload": _each(r.datagrams.offload for r in senders if r.datagrams),
        "receive offload": _each(r.datagrams.offload for r in receivers if r.datagrams),
        "congestion control": _each(r.socket.congestion for r in senders if r.socket),
        "MSS": _each(_mss(senders)),
        "path MTU": _each(_mtu([*senders, *receivers])),
        "IP version": _each(_ip_version([*senders, *receivers])),
        **_transferred([*senders, *receivers]),
        **_host("client", result.client),
        **_host("server", result.server),
    }


def _asked(result: Result) -> Facts:
    spec = result.spec
    found: Facts = {
        "kind of test": type(spec).__name__.removesuffix("Spec").upper(),
        "direction": spec.direction,
        "streams": spec.streams,
        "seconds": spec.limit_s if spec.total_bytes is None else None,
        "bytes": spec.total_bytes,
        "omitted seconds": spec.timing.omit_s,
        "ends itself": "no" if spec.timing.until is None else f"at +-{100 * spec.timing.until:g} %",
    }
    for name, words in _OPTIONS.items():
        value = getattr(spec.options, name)
        found[words] = "not set" if value is None else _unit(value, _UNITS.get(name))
    if isinstance(spec, TcpSpec | UdpSpec | RrSpec):
        found["target bitrate"] = _unit(spec.target_bps, "bit/s") or "none"
        found["client's CPU pinned"] = "no" if spec.cpu is None else f"CPU {spec.cpu}"
        found["server's CPU pinned"] = "no" if spec.server_cpu is None else f"CPU {spec.server_cpu}"
        found["payload"] = "repeating digits" if spec.repeating_payload else "random"
    if isinstance(spec, RrSpec):
        found["transport"] = spec.transport
        found["lost after"] = f"{spec.lost_after_s:g} s" if spec.over_udp else "never"
        found["request size"] = _unit(spec.request_bytes, "bytes")
        found["response size"] = _unit(spec.response_bytes, "bytes")
        found["requests in flight"] = spec.in_flight
        found["kept connections"] = spec.keep_connections
        found["target transaction rate"] = _unit(spec.target_tps, "transactions/s") or "none"
    if isinstance(spec, RequestSpec):
        found["threads"] = spec.thread_count
        found["method"] = spec.method
        found["kept connections"] = spec.keep_connections
        found["target request rate"] = _unit(spec.target_rps, "requests/s") or "none"
        found["time for an answer"] = f"{spec.answer_s:g} s"
        found["client's CPU pinned"] = "no" if spec.cpu is None else f"CPU {spec.cpu}"
    if isinstance(spec, TcpSpec):
        found["file"] = "no" if spec.file is None else "yes"
    if isinstance(spec, UdpSpec):
        found["target packet rate"] = _unit(spec.target_pps, "packets/s") or "none"
    if isinstance(spec, HttpSpec | FtpSpec):
        found["repeated transfers"] = spec.repeat
        found["kept connections"] = spec.keep_connections
    return found


def _transferred(reports: Sequence[StreamReport]) -> Facts:
    transfers = [report.transfer for report in reports if report.transfer is not None]
    return {
        "protocol": _each(transfer.protocol for transfer in transfers),
        "TLS": _each(transfer.tls or "no" for transfer in transfers),
        "file size": _each(_unit(transfer.content_bytes, "bytes") for transfer in transfers),
        "content encoding": _each(transfer.encoding for transfer in transfers),
        "moved by": _each(transfer.drained_by for transfer in transfers),
    }


def _mss(senders: Iterable[StreamReport]) -> Iterator[int | None]:
    for report in senders:
        if report.tcp_info is not None and report.tcp_info.mss_bytes:
            yield report.tcp_info.mss_bytes[-1]
        elif report.socket is not None:
            yield report.socket.mss_bytes


def _mtu(reports: Iterable[StreamReport]) -> Iterator[int | None]:
    for report in reports:
        if report.tcp_info is not None and report.tcp_info.pmtu_bytes:
            yield report.tcp_info.pmtu_bytes[-1]
        elif report.socket is not None:
            yield report.socket.pmtu_bytes


def _ip_version(reports: Iterable[StreamReport]) -> Iterator[int]:
    remotes = (report.socket.remote for report in reports if report.socket is not None)
    return (6 if remote.startswith("[") else 4 for remote in remotes if remote)


def _host(end: str, side: SideReport) -> Facts:
    host = side.host
    program = " ".join(filter(None, (host.program, host.version)))
    return {
        f"{end}'s kernel": host.kernel,
        f"{end}'s machine": host.machine,
        f"{end}'s CPUs": host.cpu_count,
        f"{end}'s processor": host.cpu_model,
        f"{end}'s governor": " ".join(host.governors) or None,
        f"{end}'s program": program or None,
        f"{end}'s interface MTU": _each(one.mtu_bytes for one in host.interfaces),
        f"{end}'s offloads": _each(
            " ".join(one.offloads) or "none" for one in host.interfaces if one.offloads is not None
        ),
        f"{end}'s driver": _each(one.driver for one in host.interfaces),
        f"{end}'s qdisc": _each(one.qdiscs[0].split()[0] for one in host.interfaces if one.qdiscs),
        **{f"{end}'s {name}": value for name, value in _settings(host.sysctls)},
        f"{end}'s host": host.hostname,
    }


def _settings(sysctls: Iterable[str]) -> Iterator[tuple[str, str]]:
    for one in sysctls:
        name, equals, value = one.partition(" = ")
        if equals:
            yield name, value


def _unit(value: int | None, unit: str | None) -> str | int | None:
    """Return a value with all its digits and its unit, so that different values have different
    texts."""
    return value if value is None or unit is None else f"{value} {unit}"


def _each(values: Iterable[str | int | float | None]) -> str | None:
    """Return the distinct values of a run's streams as text; None: all are unknown."""
    known = dict.fromkeys(_text(value) for value in values if value is not None)
    return ", ".join(sorted(known)) or None


def _values(runs: Iterable[Facts], name: str) -> tuple[str, ...]:
    known = (one[name] for one in runs if one.get(name) is not None)
    return tuple(dict.fromkeys(map(_text, known)))


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)
