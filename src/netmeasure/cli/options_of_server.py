"""Define the options of the server."""

from __future__ import annotations

import argparse

from netmeasure.cli.network import add_server_options
from netmeasure.cli.options_of_tests import add_family
from netmeasure.cli.values import count, own_port, port_range
from netmeasure.spec import DEFAULT_PORT, ServerLimits


def add_options_of_server(parser: argparse.ArgumentParser) -> None:
    """Add the options of `netmeasure server`."""
    defaults = ServerLimits()
    parser.add_argument(
        "-p",
        "--port",
        type=own_port,
        default=DEFAULT_PORT,
        help="port to listen on, 0 for any free one (default %(default)s)",
    )
    parser.add_argument(
        "-B", "--bind", metavar="ADDRESS", help="address to listen on (default: all addresses)"
    )
    add_family(parser)
    parser.add_argument(
        "--max-tests",
        type=count,
        metavar="N",
        help="most tests at the same time; further netmeasure clients wait, others are refused as"
        f" busy (default {defaults.max_tests}, or as many as this host's limits allow)",
    )
    parser.add_argument(
        "--max-tests-per-address",
        type=count,
        metavar="N",
        help="most tests at the same time from one IPv4 address or IPv6 /64 (default: half of"
        " --max-tests, at least 4)",
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const="whole",
        choices=("whole", "summary"),
        metavar="summary",
        help="print each result as a line of JSON; summary: without the series, a few kB each",
    )
    parser.add_argument(
        "--metrics",
        type=own_port,
        metavar="PORT",
        help="serve statistics for Prometheus on PORT, as /metrics; 0: any free one",
    )
    parser.add_argument(
        "--crr-port",
        type=own_port,
        default=0,
        metavar="PORT",
        help="port for the connections of tests by --crr, one such test at a time; firewalls must"
        " let it through (default: each test gets a free one)",
    )
    add_server_options(parser)
    files = parser.add_argument_group(
        "synthetic files", "served beside the tests: a name is a size, such as /10G.dat"
    )
    files.add_argument(
        "--http", type=own_port, metavar="PORT", help="serve HTTP on PORT; 0: any free one"
    )
    files.add_argument(
        "--ftp", type=own_port, metavar="PORT", help="serve FTP on PORT; 0: any free one"
    )
    files.add_argument(
        "--passive-ports",
        type=port_range,
        metavar="LOW-HIGH",
        help="ports of FTP's data connections (default: any free ones)",
    )
