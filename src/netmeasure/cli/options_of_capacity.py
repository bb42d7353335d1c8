"""Define the options of `netmeasure capacity`."""

from __future__ import annotations

import argparse

from netmeasure.cli.options_of_tests import add_family
from netmeasure.cli.values import bitrate, byte_size, count, port_number, seconds, share
from netmeasure.spec import DEFAULT_PORT


def add_capacity_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `capacity`."""
    parser.add_argument("target", metavar="HOST[:PORT]", help="a netmeasure server")
    parser.add_argument(
        "-p", "--port", type=port_number, help=f"the server's port (default {DEFAULT_PORT})"
    )
    parser.add_argument(
        "-d",
        "--direction",
        choices=("upload", "download"),
        default="upload",
        help="seen from the client (default %(default)s)",
    )
    parser.add_argument(
        "--loss",
        type=share,
        default=0.001,
        metavar="SHARE",
        help="the share of datagrams that may be lost; 0: none (default 0.1%%)",
    )
    parser.add_argument(
        "-t",
        "--time",
        type=seconds,
        default=10.0,
        metavar="S",
        help="begin no test that would end later than S (default 10 s)",
    )
    parser.add_argument(
        "--most",
        type=bitrate,
        default=10**12,
        metavar="RATE",
        help="highest rate of payload to try (default 1T)",
    )
    parser.add_argument(
        "-P",
        "--streams",
        type=count,
        default=1,
        metavar="N",
        help="streams that share each rate (default %(default)s)",
    )
    parser.add_argument(
        "-l",
        "--length",
        type=byte_size,
        metavar="BYTES",
        help="payload of a datagram (default: the most that fits into the path's MTU)",
    )
    add_family(parser)
    parser.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to FILE, or to standard output instead of the report",
    )
    parser.add_argument("-q", "--quiet", action="store_true", help="show nothing while it runs")
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="file of the secret that the server must know (or NETMEASURE_SECRET in the"
        " environment)",
    )
