"""The options of every command. What they take is in `values`, what they mean in `specs`."""

from __future__ import annotations

import argparse
from typing import get_args

from netmeasure.cli.network import add_client_auth, add_packet_options, add_server_options
from netmeasure.cli.values import (
    OneLineParser,
    bitrate,
    byte_size,
    count,
    port_number,
    port_range,
    ratio,
    seconds,
    share,
)
from netmeasure.spec import DEFAULT_MARGIN, DEFAULT_PORT, Deadlines, Framing, ServerLimits
from netmeasure.version import __version__


def parser() -> argparse.ArgumentParser:
    top = OneLineParser(
        prog="netmeasure",
        description="Measures networks; keeps connection set-up apart from the steady bitrate.",
        epilog="Both ends may also be iperf3 (3.12 or newer)."
        " Exit codes: docs/reference/exit-codes.md.",
    )
    top.add_argument("--version", action="version", version=f"netmeasure {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    client = commands.add_parser("client", help="run a test against a server")
    client.add_argument(
        "target", metavar="HOST[:PORT] | URL", help="the server; or an http, https, ftp or ftps URL"
    )
    _add_test_options(client)
    _add_repeat_option(client)
    _add_output_options(client)
    add_client_auth(client)
    _add_url_options(client)
    _add_link_options(client, "the report then says how much of its payload ceiling was reached")
    client.add_argument("-p", "--port", type=port_number, help=f"default {DEFAULT_PORT}")
    loopback = commands.add_parser(
        "loopback", help="measure this machine's loopback, on a server of its own"
    )
    _add_test_options(loopback)
    _add_repeat_option(loopback)
    _add_output_options(loopback)
    compare = commands.add_parser(
        "compare", help="two sets of saved runs, or two targets measured in turns"
    )
    _add_compare_options(compare)
    ceiling = commands.add_parser(
        "ceiling", help="the payload maximum of a link, by rate, MTU and encapsulation"
    )
    _add_ceiling_options(ceiling)
    probe = commands.add_parser("probe", help="whether a server answers, for liveness checks")
    _add_probe_options(probe)
    server = commands.add_parser("server", help="serve tests, many at a time, until a signal")
    _add_server_options(server)
    # `main` never lets this parser see its options
    commands.add_parser(
        "iperf3", help="iperf3's command line and output: iperf3 --help", add_help=False
    )
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
    end.add_argument("--endless", action="store_true", help="until it is interrupted")
    end.add_argument("-k", "--blocks", type=count, metavar="N", help="blocks per direction")
    test.add_argument(
        "--until",
        type=share,
        metavar="SHARE",
        help="end when the steady bitrate is known to +- so much, such as 2%%; -t is then the most"
        " that it takes (default 60 s)",
    )
    test.add_argument("-O", "--omit", type=seconds, default=0.0, metavar="S")
    test.add_argument("-i", "--interval", type=seconds, default=1.0, metavar="S")
    test.add_argument(
        "--baseline",
        type=seconds,
        default=0.0,
        metavar="S",
        help="watch this host at rest for so long before the test, to tell the test's own share of"
        " its CPU time (default: do not)",
    )
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
    add_packet_options(parser)
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


def _add_repeat_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--repeat", type=count, metavar="N", help="the whole test so often, each with a new set-up"
    )


def _add_compare_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "side",
        nargs="+",
        metavar="A B",
        help="two files that --json wrote; with --measure: two targets, hosts or URLs",
    )
    parser.add_argument(
        "--against",
        nargs="+",
        metavar="FILE",
        help="the files of B, where a side has several; all before are then A's",
    )
    parser.add_argument(
        "--margin",
        type=share,
        default=DEFAULT_MARGIN,
        metavar="SHARE",
        help=f"bitrates that differ by no more are the same (default {100 * DEFAULT_MARGIN:g}%%)",
    )
    parser.add_argument(
        "--fail-below",
        type=ratio,
        metavar="RATIO",
        help="exit with 8 where B carries less than so much of A, such as 95%% or 0.95; with 9"
        " where the runs can't tell",
    )
    turns = parser.add_argument_group("to measure")
    turns.add_argument("--measure", action="store_true", help="A and B in turns: A B B A A B ...")
    turns.add_argument("--pairs", type=count, default=5, metavar="N", help="default %(default)s")
    turns.add_argument("--save", nargs=2, metavar=("FILE-A", "FILE-B"), help="the runs, as JSON")
    turns.add_argument("-p", "--port", type=port_number, help=f"of both; default {DEFAULT_PORT}")
    _add_test_options(parser)
    _add_url_options(parser)
    _add_link_options(parser, "the runs then say how much of its payload ceiling was reached")
    _add_output_options(parser)


def _add_output_options(parser: argparse.ArgumentParser) -> None:
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
        "--again",
        action="store_true",
        help="again and again until -t or -n, on new connections",
    )
    url.add_argument("--keep", action="store_true", help="with --again: keep the connection")
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


def _add_link_options(parser: argparse.ArgumentParser, why: str) -> None:
    link = parser.add_argument_group("the slowest link on the way", why)
    link.add_argument("--link-rate", type=bitrate, metavar="RATE", help="such as 1G")
    link.add_argument(
        "--link-mtu", type=byte_size, metavar="BYTES", help="the largest IP packet that it takes"
    )
    link.add_argument(
        "--encap",
        metavar="LIST",
        help="what packets are wrapped in there, from the inside outwards, such as"
        " vxlan,esp:aes-gcm-16:transport (docs/reference/ceiling.md has all of them)",
    )
    link.add_argument(
        "--framing",
        choices=get_args(Framing),
        help="what the rate counts: a port's bits with preamble and gap (wire, the default), frames"
        " as tc's tbf counts them (frame), IP packets (ip)",
    )


def _add_ceiling_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        metavar="HOST[:PORT]",
        help="take MTU, IP version and link rate from the path to it, where the kernel knows them",
    )
    _add_link_options(parser, "what is not given is asked of the path, or the usual")
    inner = parser.add_argument_group("packets")
    inner.add_argument(
        "--mtu",
        type=byte_size,
        metavar="BYTES",
        help="of the packets before they are wrapped (default: as large as fits)",
    )
    inner.add_argument("-u", "--udp", action="store_true", help="UDP instead of TCP")
    inner.add_argument("--no-timestamps", action="store_true", help="TCP without timestamps")
    inner.add_argument(
        "--sack", type=count, default=0, metavar="N", help="TCP: SACK blocks in every segment"
    )
    inner.add_argument(
        "-l",
        "--payload",
        type=byte_size,
        metavar="BYTES",
        help="of a packet (default: all it takes)",
    )
    family = inner.add_mutually_exclusive_group()
    family.add_argument("-4", dest="family", action="store_const", const="ipv4", default="any")
    family.add_argument("-6", dest="family", action="store_const", const="ipv6")
    parser.add_argument("--json", action="store_true", help="as JSON")


def _add_probe_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "target",
        nargs="?",
        default="127.0.0.1",
        metavar="HOST[:PORT]",
        help=f"default %(default)s:{DEFAULT_PORT}",
    )
    parser.add_argument(
        "--tcp",
        action="store_true",
        help="only connect (an iperf3 server serves one test at a time, and prints a line for each"
        " probe)",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=1.0, metavar="S", help="for all of it (default 1 s)"
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
    add_server_options(parser)
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
