"""Convert parsed options to specifications, which check their values themselves."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import Any

from netmeasure.cli import network
from netmeasure.client import fetch_spec
from netmeasure.errors import SpecError
from netmeasure.spec import (
    DEFAULT_BLOCK_BYTES,
    DEFAULT_UDP_BPS,
    MAX_DURATION_S,
    MIN_DATAGRAM_BYTES,
    Deadlines,
    FtpSpec,
    HttpSpec,
    Link,
    RequestSpec,
    RrSpec,
    ServerLimits,
    SocketOptions,
    Spec,
    TcpSpec,
    Timing,
    UdpSpec,
)
from netmeasure.spec.checked import within
from netmeasure.spec.target import is_url

Options = argparse.Namespace
_URL_OPTIONS = (
    "again",
    "keep",
    "range",
    "header",
    "method",
    "user",
    "resolve",
    "insecure",
    "explicit_tls",
    "passive",
    "proxy",
)
#: Options of one kind of test, by the names of their values, in the user's spelling.
_UDP_OPTIONS = {
    "packet_rate": "--packet-rate",
    "burst": "--burst",
    "no_offload": "--no-offload",
    "spin": "--spin",
}
_TCP_OPTIONS = {
    "congestion": "-C",
    "mss": "-M",
    "no_delay": "-N",
    "mptcp": "--mptcp",
    "file": "--file",
}
_PEER_OPTIONS = {
    "udp": "-u",
    "rr": "--rr",
    "crr": "--crr",
    "blocks": "-k",
    "bitrate": "-b",
    "no_latency": "--no-latency",
    **_UDP_OPTIONS,
}


_RR_OPTIONS = ("request_size", "response_size", "in_flight", "transaction_rate", "lost_after")
#: Options of bulk tests that round trips do not have, in the user's spelling.
_BULK_OPTIONS = {
    "bytes": "-n",
    "direction": "-d",
    "bitrate": "-b",
    "packet_rate": "--packet-rate",
    "burst": "--burst",
    "no_offload": "--no-offload",
    "spin": "--spin",
    "block_size": "-l",
    "file": "--file",
    "no_latency": "--no-latency",
}


_REQUEST_OPTIONS = ("threads", "fresh", "request_rate", "answer_timeout")
#: Options of transfers by URL that requests do not have, in the user's spelling.
_TRANSFER_OPTIONS = {
    "bytes": "-n",
    "direction": "-d",
    "block_size": "-l",
    "again": "--again",
    "keep": "--keep",
    "range": "--range",
    "user": "--user",
    "explicit_tls": "--explicit-tls",
    "proxy": "--proxy",
    "file": "--file",
}


def test_spec(options: Options) -> Spec:
    """Return the specification for the options. Raises SpecError."""
    target = getattr(options, "target", "")
    if options.requests:
        if target.partition("://")[0].lower() not in RequestSpec.schemes:
            raise SpecError(
                "--requests needs a URL of http or https", hint="write http://HOST/PATH"
            )
        return _request_spec(target, options)
    for name in _REQUEST_OPTIONS:
        if getattr(options, name):
            raise SpecError(
                f"--{name.replace('_', '-')} is an option of requests by URL", hint="add --requests"
            )
    if is_url(target):
        return _fetch_spec(target, options)
    for name in _URL_OPTIONS:
        if getattr(options, name, None) not in (None, False, [], "auto"):
            raise SpecError(f"--{name.replace('_', '-')} is an option of transfers by URL")
    if options.rr or options.crr:
        return _rr_spec(options)
    for name in _RR_OPTIONS:
        if getattr(options, name) is not None:
            raise SpecError(
                f"--{name.replace('_', '-')} is an option of round trips", hint="add --rr or --crr"
            )
    return _udp_spec(options) if options.udp else _tcp_spec(options)


def shown_target(options: Options) -> str:
    """Return the target for output, without a password."""
    target: str = getattr(options, "target", None) or "this host"
    if not is_url(target):
        return target
    scheme, _, rest = target.partition("://")
    authority, slash, path = rest.partition("/")
    return f"{scheme}://{authority.rpartition('@')[2]}{slash}{path}"


def link_of(options: Options) -> Link:
    """Return the link that the options describe. Raises SpecError."""
    return Link(
        rate_bps=options.link_rate,
        mtu_bytes=options.link_mtu,
        encapsulation=(options.encap or "").replace(" ", "").lower(),
        framing=options.framing or "wire",
    )


def _link(options: Options) -> Link | None:
    """Return the link of a test; None: the options have no rate, so that there is no ceiling."""
    if getattr(options, "link_rate", None) is not None:
        return link_of(options)
    for name in ("link_mtu", "encap", "framing"):
        if getattr(options, name, None) is not None:
            raise SpecError(f"--{name.replace('_', '-')} needs --link-rate")
    return None


def _check_times(options: Options, *names: str) -> None:
    """Raise SpecError if a time is out of range, with its name on the command line."""
    for name in names:
        option = f"--{name.replace('_', '-')}"
        within(option, getattr(options, name), 0.01, MAX_DURATION_S, "s")


def _common(options: Options) -> dict[str, Any]:
    _check_times(options, "connect_timeout", "stall_timeout")
    return {
        "link": _link(options),
        "direction": options.direction or "upload",
        "streams": options.streams,
        "timing": Timing(
            duration_s=options.time,
            total_bytes=options.bytes,
            total_blocks=options.blocks,
            endless=options.endless,
            omit_s=options.omit,
            interval_s=options.interval,
            baseline_s=options.baseline,
            until=options.until,
        ),
        "options": SocketOptions(
            congestion=options.congestion,
            mss_bytes=options.mss,
            no_delay=options.no_delay,
            window_bytes=options.window,
            bind_address=options.bind,
            bind_port=options.bind_port,
            **network.socket_options(options),
            family=options.family,
        ),
        "deadlines": Deadlines(
            resolve_s=options.connect_timeout,
            connect_s=options.connect_timeout,
            queue_s=options.queue_timeout,
            stall_s=options.stall_timeout,
        ),
    }


def _tcp_spec(options: Options) -> TcpSpec:
    _refuse(options, _UDP_OPTIONS, "is an option of UDP tests", hint="add -u")
    return TcpSpec(
        **_common(options),
        **network.peer_options(options),
        file=options.file,
        block_bytes=DEFAULT_BLOCK_BYTES if options.block_size is None else options.block_size,
        target_bps=options.bitrate or None,
        send_mode=options.send_mode,
        receive_mode=options.receive_mode,
        latency=not options.no_latency,
    )


def _rr_spec(options: Options) -> RrSpec:
    kind = "--crr" if options.crr else "--rr"
    if options.crr and options.udp:
        raise SpecError(
            "UDP has no connections: --crr can't be combined with -u",
            hint="measure TCP with --crr, or datagrams with --rr -u",
        )
    for name, option in _BULK_OPTIONS.items():
        if getattr(options, name):
            raise SpecError(f"{option} is not an option of round trips ({kind})")
    for name in ("send_mode", "receive_mode"):
        if getattr(options, name) != "copy":
            raise SpecError(f"--{name.replace('_', '-')} is not an option of round trips ({kind})")
    if options.udp:
        _refuse(options, _TCP_OPTIONS, "is an option of TCP tests", hint="leave it or -u out")
    elif options.lost_after is not None:
        raise SpecError("--lost-after is an option of round trips by UDP", hint="add -u")
    least = MIN_DATAGRAM_BYTES if options.udp else 1
    lost = {} if options.lost_after is None else {"lost_after_s": options.lost_after}
    return RrSpec(
        **_common(options),
        **network.peer_options(options),
        **lost,
        transport="udp" if options.udp else "tcp",
        keep_connections=not options.crr,
        request_bytes=least if options.request_size is None else options.request_size,
        response_bytes=least if options.response_size is None else options.response_size,
        in_flight=1 if options.in_flight is None else options.in_flight,
        target_tps=options.transaction_rate,
    )


def _udp_spec(options: Options) -> UdpSpec:
    for name in ("send_mode", "receive_mode"):
        if getattr(options, name) != "copy":
            raise SpecError(f"--{name.replace('_', '-')} is an option of TCP tests")
    _refuse(options, _TCP_OPTIONS, "is an option of TCP tests", hint="leave it or -u out")
    rate = DEFAULT_UDP_BPS if options.bitrate is None else options.bitrate or None
    return UdpSpec(
        **_common(options),
        **network.peer_options(options),
        datagram_bytes=options.block_size,
        target_bps=None if options.packet_rate else rate,
        target_pps=options.packet_rate,
        burst_datagrams=options.burst,
        offload=not options.no_offload,
        spin_us=options.spin,
        latency=not options.no_latency,
    )


def _refuse(options: Options, names: Mapping[str, str], why: str, hint: str | None = None) -> None:
    """Raise SpecError if one of these options was given: `names` has their spelling on the command
    line."""
    for name, option in names.items():
        if getattr(options, name):
            raise SpecError(f"{option} {why}", hint=hint)


def _fetch_spec(url: str, options: Options) -> Spec:
    _refuse(options, _PEER_OPTIONS, "is not an option of transfers by URL")
    if options.direction == "both":
        raise SpecError("a transfer by URL goes one way", hint="use -d download or -d upload")
    network.refuse_for_urls(options)
    first, last = _byte_range(options.range)
    user, _, password = (options.user or "").partition(":")
    common = _common(options) | {
        "url": url,
        "direction": options.direction or "download",
        "repeat": options.again,
        "keep_connections": options.keep,
        "first_byte": first,
        "last_byte": last,
        "receive_mode": options.receive_mode,
        "send_mode": options.send_mode,
        "block_bytes": DEFAULT_BLOCK_BYTES if options.block_size is None else options.block_size,
        "user": user or None,
        "password": password or None,
        "pins": tuple(options.resolve),
        "ca_file": options.ca_file,
        "insecure": options.insecure,
    }
    if isinstance(fetch_spec(url), HttpSpec):
        if options.explicit_tls or options.passive != "auto":
            raise SpecError("--explicit-tls and --passive are options of ftp")
        return HttpSpec(
            **common, method=options.method, headers=tuple(options.header), proxy=options.proxy
        )
    if options.header or options.method or options.proxy:
        raise SpecError("--header, --method and --proxy are options of http")
    return FtpSpec(**common, explicit_tls=options.explicit_tls, passive=options.passive)


def _request_spec(url: str, options: Options) -> Spec:
    others = {name: word for name, word in _PEER_OPTIONS.items() if name != "blocks"}
    for names in (others, _TRANSFER_OPTIONS):
        _refuse(options, names, "is not an option of requests by URL (--requests)")
    for name in (*_RR_OPTIONS, "send_mode", "receive_mode", "passive"):
        if getattr(options, name) not in (None, "copy", "auto"):
            raise SpecError(
                f"--{name.replace('_', '-')} is not an option of requests by URL (--requests)"
            )
    network.refuse_for_urls(options)
    common = _common(options)
    del common["direction"]
    patience = {} if options.answer_timeout is None else {"answer_s": options.answer_timeout}
    spec = RequestSpec(
        **common,
        **patience,
        threads=options.threads,
        keep_connections=not options.fresh,
        target_rps=options.request_rate,
        method=options.method or "GET",
        headers=tuple(options.header),
        pins=tuple(options.resolve),
        ca_file=options.ca_file,
        insecure=options.insecure,
    )
    return fetch_spec(url, spec)


def _byte_range(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    first, dash, last = text.partition("-")
    numbers = all(number.isascii() and number.isdigit() for number in (first, last) if number)
    if not dash or not numbers or text == "-":
        raise SpecError(f"{text!r} is not a range of bytes", hint="write FIRST-LAST or FIRST-")
    if last and int(last) < int(first or 0):
        raise SpecError(f"the range {text} ends before it begins", hint="write FIRST-LAST")
    return int(first or 0), int(last) if last else None


def server_limits(options: Options) -> ServerLimits:
    _check_times(options, "max_time")
    most = {} if options.max_tests is None else {"max_tests": options.max_tests}
    return ServerLimits(
        **most,
        max_tests_per_address=options.max_tests_per_address,
        max_streams=options.max_streams,
        max_bytes=options.max_bytes,
        max_total_bitrate_bps=options.max_total_bitrate,
        allow=options.allow,
        deny=options.deny,
        max_bitrate_bps=options.max_bitrate,
        max_duration_s=options.max_time,
        multipath=options.mptcp,
    )
