"""Options to specifications. argparse parses; the library's own validation has the last word."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from netmeasure import units
from netmeasure.client import fetch_spec, is_url
from netmeasure.errors import SpecError
from netmeasure.spec import (
    DEFAULT_BLOCK_BYTES,
    DEFAULT_PORT,
    DEFAULT_UDP_BPS,
    Deadlines,
    FtpSpec,
    HttpSpec,
    ServerLimits,
    SocketOptions,
    Spec,
    TcpSpec,
    Timing,
    UdpSpec,
)
from netmeasure.version import __version__

T = TypeVar("T")
_URL_OPTIONS = (
    "repeat",
    "keep",
    "range",
    "header",
    "method",
    "user",
    "resolve",
    "ca_file",
    "insecure",
    "explicit_tls",
    "passive",
    "proxy",
)


class _OneLineParser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(2, f"netmeasure: {message} (see {self.prog} --help)\n")


def _value(parse: Callable[[str], T], name: str) -> Callable[[str], T]:
    """An argparse type whose refusals carry the library's own words."""

    def convert(text: str) -> T:
        try:
            return parse(text)
        except SpecError as exc:
            hint = f"; {exc.hint}" if exc.hint else ""
            raise argparse.ArgumentTypeError(f"{exc}{hint}") from None

    convert.__name__ = name  # argparse names it in the message of a ValueError
    return convert


bitrate = _value(units.parse_bitrate, "bitrate")
byte_size = _value(units.parse_size, "size")
seconds = _value(lambda text: units.parse_duration_ns(text) / 1e9, "duration")
count = _value(units.parse_count, "count")


def port_number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and int(text) <= 65_535):
        raise argparse.ArgumentTypeError(f"{text!r} is not a port: it must be 1 to 65535")
    return int(text)


def port_range(text: str) -> tuple[int, int]:
    low, _, high = text.partition("-")
    ports = port_number(low), port_number(high or low)
    if not 1 <= ports[0] <= ports[1]:
        raise argparse.ArgumentTypeError(f"{text!r} is not a range of ports, such as 50000-50099")
    return ports


def parser() -> argparse.ArgumentParser:
    top = _OneLineParser(
        prog="netmeasure",
        description="Measures networks; keeps connection set-up apart from the steady bitrate.",
        epilog="Both ends may also be iperf3 (3.12 or newer). Exit codes: docs/exit-codes.md.",
    )
    top.add_argument("--version", action="version", version=f"netmeasure {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    client = commands.add_parser("client", help="run a test against a server")
    client.add_argument(
        "target", metavar="HOST[:PORT] | URL", help="the server; or an http, https, ftp or ftps URL"
    )
    _add_test_options(client)
    _add_url_options(client)
    client.add_argument("-p", "--port", type=port_number, help=f"default {DEFAULT_PORT}")
    loopback = commands.add_parser(
        "loopback", help="measure this machine's loopback, on a server of its own"
    )
    _add_test_options(loopback)
    server = commands.add_parser("server", help="serve tests, many at a time, until a signal")
    _add_server_options(server)
    return top


def _add_test_options(parser: argparse.ArgumentParser) -> None:
    test = parser.add_argument_group("test")
    test.add_argument(
        "-d",
        "--direction",
        choices=("upload", "download", "both"),
        help="which way the data go, seen from here (default upload, by URL download)",
    )
    test.add_argument("-u", "--udp", action="store_true", help="UDP instead of TCP")
    test.add_argument("-P", "--streams", type=count, default=1, metavar="N", help="default 1")
    end = test.add_mutually_exclusive_group()
    end.add_argument("-t", "--time", type=seconds, metavar="S", help="duration (default 10 s)")
    end.add_argument("-n", "--bytes", type=byte_size, metavar="SIZE", help="bytes per direction")
    end.add_argument("-k", "--blocks", type=count, metavar="N", help="blocks per direction")
    test.add_argument("-O", "--omit", type=seconds, default=0.0, metavar="S")
    test.add_argument("-i", "--interval", type=seconds, default=1.0, metavar="S")
    rate = test.add_mutually_exclusive_group()
    rate.add_argument(
        "-b",
        "--bitrate",
        type=bitrate,
        metavar="RATE",
        help="target per stream; 0: as fast as possible (default: TCP 0, UDP 1 Mbit/s)",
    )
    rate.add_argument(
        "--packet-rate", type=count, metavar="N", help="UDP: target per stream in datagrams/s"
    )
    test.add_argument("--burst", type=count, metavar="N", help="UDP: datagrams sent back to back")
    test.add_argument(
        "--spin",
        type=count,
        default=0,
        metavar="US",
        help="UDP: the sender stays awake so many microseconds before each send",
    )
    test.add_argument(
        "--no-offload", action="store_true", help="UDP: no segmentation by the kernel (GSO, GRO)"
    )
    test.add_argument(
        "-l",
        "--block-size",
        type=byte_size,
        metavar="SIZE",
        help="bytes of one send (default 512 KiB), or payload of a datagram (default: what the"
        " path's MTU takes)",
    )
    test.add_argument("--send-mode", choices=("copy", "sendfile"), default="copy")
    test.add_argument(
        "--receive-mode",
        choices=("copy", "discard"),
        default="copy",
        help="discard: the kernel drops the payload instead of copying it",
    )
    sock = parser.add_argument_group("data connections")
    sock.add_argument("-C", "--congestion", metavar="NAME", help="congestion control, both ends")
    sock.add_argument("-M", "--mss", type=byte_size, metavar="BYTES")
    sock.add_argument("-N", "--no-delay", action="store_true")
    sock.add_argument("-w", "--window", type=byte_size, metavar="SIZE", help="socket buffers")
    sock.add_argument("-B", "--bind", metavar="ADDRESS")
    sock.add_argument("--bind-port", type=port_number, metavar="PORT", help="of the first stream")
    family = sock.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const="ipv4", default="any")
    family.add_argument("-6", dest="family", action="store_const", const="ipv6")
    defaults = Deadlines()
    wait = parser.add_argument_group("deadlines")
    wait.add_argument(
        "--connect-timeout",
        type=seconds,
        default=defaults.connect_s,
        metavar="S",
        help="default %(default)g s",
    )
    wait.add_argument(
        "--stall-timeout",
        type=seconds,
        default=defaults.stall_s,
        metavar="S",
        help="give up when no byte moves for so long (default %(default)g s)",
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="the result as JSON, to standard output (then nothing else goes there) or a file",
    )
    output.add_argument("-q", "--quiet", action="store_true", help="no live intervals")


def _add_url_options(parser: argparse.ArgumentParser) -> None:
    """Only the client has them, and only transfers by URL."""
    url = parser.add_argument_group("transfers by URL")
    url.add_argument(
        "--repeat",
        action="store_true",
        help="again and again until -t or -n, on new connections",
    )
    url.add_argument("--keep", action="store_true", help="with --repeat: keep the connection")
    url.add_argument("--range", metavar="FIRST-LAST", help="only these bytes of the file")
    url.add_argument("-H", "--header", action="append", default=[], metavar="NAME: VALUE")
    url.add_argument("--method", metavar="NAME", help="of HTTP (default GET, for uploads PUT)")
    url.add_argument("--user", metavar="NAME[:PASSWORD]")
    url.add_argument(
        "--resolve",
        action="append",
        default=[],
        metavar="HOST:PORT:ADDRESS",
        help="connect to this address instead of looking the name up",
    )
    url.add_argument("--ca-file", metavar="FILE", help="trusted certificates (PEM)")
    url.add_argument("--insecure", action="store_true", help="do not check the certificate")
    url.add_argument("--explicit-tls", action="store_true", help="ftp: AUTH TLS")
    url.add_argument("--passive", choices=("auto", "epsv", "pasv"), default="auto")
    url.add_argument(
        "--proxy", action="store_true", help="http: use the proxy that the environment names"
    )


def _add_server_options(parser: argparse.ArgumentParser) -> None:
    defaults = ServerLimits()
    parser.add_argument("-p", "--port", type=port_number, default=DEFAULT_PORT, help="0: any free")
    parser.add_argument("-B", "--bind", metavar="ADDRESS", help="default: every address")
    family = parser.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const="ipv4", default="any")
    family.add_argument("-6", dest="family", action="store_const", const="ipv6")
    parser.add_argument(
        "--max-tests",
        type=count,
        default=defaults.max_tests,
        metavar="N",
        help="tests at the same time; more are told that the server is busy (default %(default)s)",
    )
    parser.add_argument("--json", action="store_true", help="each result as a line of JSON")
    files = parser.add_argument_group(
        "synthetic files", "served beside the tests: a name is a size, such as /10G.dat"
    )
    files.add_argument("--http", type=port_number, metavar="PORT", help="0: any free")
    files.add_argument("--ftp", type=port_number, metavar="PORT", help="0: any free")
    files.add_argument(
        "--passive-ports",
        type=port_range,
        metavar="LOW-HIGH",
        help="of FTP's data connections (default: any free)",
    )


def test_spec(options: argparse.Namespace) -> Spec:
    """The specification that the options stand for. Raises SpecError."""
    target = getattr(options, "target", "")
    if is_url(target):
        return _fetch_spec(target, options)
    for name in _URL_OPTIONS:
        if getattr(options, name, None) not in (None, False, [], "auto"):
            raise SpecError(f"--{name.replace('_', '-')} is an option of transfers by URL")
    return _udp_spec(options) if options.udp else _tcp_spec(options)


def _common(options: argparse.Namespace) -> dict[str, Any]:
    return {
        "direction": options.direction or "upload",
        "streams": options.streams,
        "timing": Timing(
            duration_s=options.time,
            total_bytes=options.bytes,
            total_blocks=options.blocks,
            omit_s=options.omit,
            interval_s=options.interval,
        ),
        "options": SocketOptions(
            congestion=options.congestion,
            mss_bytes=options.mss,
            no_delay=options.no_delay,
            window_bytes=options.window,
            bind_address=options.bind,
            bind_port=options.bind_port,
            family=options.family,
        ),
        "deadlines": Deadlines(connect_s=options.connect_timeout, stall_s=options.stall_timeout),
    }


def _tcp_spec(options: argparse.Namespace) -> TcpSpec:
    for name in ("packet_rate", "burst", "no_offload", "spin"):
        if getattr(options, name):
            raise SpecError(f"--{name.replace('_', '-')} is an option of UDP tests", hint="add -u")
    return TcpSpec(
        **_common(options),
        block_bytes=DEFAULT_BLOCK_BYTES if options.block_size is None else options.block_size,
        target_bps=options.bitrate or None,
        send_mode=options.send_mode,
        receive_mode=options.receive_mode,
    )


def _udp_spec(options: argparse.Namespace) -> UdpSpec:
    for name in ("send_mode", "receive_mode"):
        if getattr(options, name) != "copy":
            raise SpecError(f"--{name.replace('_', '-')} is an option of TCP tests")
    rate = DEFAULT_UDP_BPS if options.bitrate is None else options.bitrate or None
    return UdpSpec(
        **_common(options),
        datagram_bytes=options.block_size,
        target_bps=None if options.packet_rate else rate,
        target_pps=options.packet_rate,
        burst_datagrams=options.burst,
        offload=not options.no_offload,
        spin_us=options.spin,
    )


def _fetch_spec(url: str, options: argparse.Namespace) -> Spec:
    given = {
        "udp": "-u",
        "blocks": "-k",
        "bitrate": "-b",
        "packet_rate": "--packet-rate",
        "burst": "--burst",
        "no_offload": "--no-offload",
        "spin": "--spin",
    }
    for name, option in given.items():
        if getattr(options, name):
            raise SpecError(f"{option} is no option of transfers by URL")
    if options.direction == "both":
        raise SpecError("a transfer by URL goes one way", hint="use -d download or -d upload")
    first, last = _byte_range(options.range)
    user, _, password = (options.user or "").partition(":")
    common = _common(options) | {
        "url": url,
        "direction": options.direction or "download",
        "repeat": options.repeat,
        "keep_connections": options.keep,
        "first_byte": first,
        "last_byte": last,
        "receive_mode": options.receive_mode,
        "send_mode": options.send_mode,
        "block_bytes": options.block_size or DEFAULT_BLOCK_BYTES,
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


def _byte_range(text: str | None) -> tuple[int | None, int | None]:
    if text is None:
        return None, None
    first, dash, last = text.partition("-")
    numbers = all(number.isascii() and number.isdigit() for number in (first, last) if number)
    if not dash or not numbers or text == "-":
        raise SpecError(f"{text!r} is not a range of bytes", hint="write FIRST-LAST or FIRST-")
    return int(first or 0), int(last) if last else None


def server_limits(options: argparse.Namespace) -> ServerLimits:
    return ServerLimits(max_tests=options.max_tests)


Options = argparse.Namespace
