"""Define the options of the commands about a path or a server that transfer no bulk data."""

from __future__ import annotations

import argparse

from netmeasure.cli.options_of_tests import add_family, add_link_options
from netmeasure.cli.values import byte_size, count, port_number, seconds
from netmeasure.spec import DEFAULT_PORT


def add_ceiling_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `netmeasure ceiling`."""
    parser.add_argument(
        "target",
        nargs="?",
        metavar="HOST[:PORT]",
        help="take MTU, IP version and link rate from the path to it, where the kernel knows them",
    )
    add_link_options(parser, "defaults come from the path to HOST, if one is given")
    inner = parser.add_argument_group("packets")
    inner.add_argument(
        "--mtu",
        type=byte_size,
        metavar="BYTES",
        help="size of the IP packets before encapsulation (default: the largest that fits)",
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
        help="payload of a packet (default: the most that fits)",
    )
    add_family(inner, "packets")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")


def add_probe_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `netmeasure probe`."""
    parser.add_argument(
        "target",
        nargs="?",
        default="127.0.0.1",
        metavar="HOST[:PORT]",
        help=f"server to check (default %(default)s:{DEFAULT_PORT})",
    )
    parser.add_argument(
        "--tcp",
        action="store_true",
        help="only connect, and send nothing: for iperf3 servers, which print a line for each"
        " probe and serve one test at a time",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=1.0, metavar="S", help="time limit (default 1 s)"
    )


def add_ready_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `netmeasure ready`."""
    parser.add_argument(
        "target",
        nargs="+",
        metavar="HOST[:PORT] | URL",
        help=f"what to wait for (port {DEFAULT_PORT} without one); tcp, tls, http, https, ftp URLs",
    )
    parser.add_argument(
        "--denied",
        action="store_true",
        help="wait until connections fail, to test a network policy that denies them",
    )
    parser.add_argument(
        "--timeout", type=seconds, default=60.0, metavar="S", help="time limit (default 60 s)"
    )
    parser.add_argument(
        "--every",
        type=seconds,
        default=0.01,
        metavar="S",
        help="time between two attempts at a target (default 10 ms)",
    )
    parser.add_argument(
        "--attempt-timeout",
        type=seconds,
        default=1.0,
        metavar="S",
        help="give up an attempt after so long without an answer (default 1 s)",
    )
    add_family(parser)
    parser.add_argument("--ca-file", metavar="FILE", help="trusted certificates, in PEM")
    parser.add_argument(
        "--insecure", action="store_true", help="use TLS without checking certificates"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
    parser.add_argument(
        "-q", "--quiet", action="store_true", help="print nothing; the exit code has the answer"
    )


def add_path_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `netmeasure path`."""
    parser.add_argument(
        "target",
        metavar="HOST[:PORT]",
        help="any TCP server; UDP and the way back can be tested with a netmeasure server only",
    )
    parser.add_argument(
        "-u", "--udp", action="store_true", help="send UDP datagrams instead of TCP"
    )
    parser.add_argument(
        "-p", "--port", type=port_number, help=f"the server's port (default {DEFAULT_PORT})"
    )
    parser.add_argument(
        "--timeout",
        type=seconds,
        default=5.0,
        metavar="S",
        help="time limit of the name look-up and of the first answer (default 5 s)",
    )
    add_family(parser)
    parser.add_argument("--json", action="store_true", help="print JSON instead of lines")
