"""Define the options of `netmeasure mesh`."""

from __future__ import annotations

import argparse

from netmeasure.cli.options_of_output import add_objective_options
from netmeasure.cli.values import bitrate, count, seconds


def add_mesh_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `mesh`."""
    parser.add_argument(
        "--scheduler",
        required=True,
        metavar="ADDRESS",
        help="Dask's scheduler, such as tcp://10.0.0.1:8786; its workers are the nodes",
    )
    parser.add_argument(
        "--at-once",
        type=count,
        default=1,
        metavar="K",
        help="most tests that a node takes part in at a time (default %(default)s)",
    )
    parser.add_argument(
        "--address",
        action="append",
        default=[],
        metavar="NAME=ADDRESS",
        help="measure the worker NAME at this address, not at Dask's; may be given several times",
    )
    parser.add_argument(
        "--settle",
        type=seconds,
        default=0.0,
        metavar="S",
        help="begin when no worker has come or gone for S, or after ten times S (default: at once)",
    )
    test = parser.add_argument_group("the test of each pair")
    test.add_argument(
        "-t", "--time", type=seconds, default=2.0, metavar="S", help="duration (default 2 s)"
    )
    kind = test.add_mutually_exclusive_group()
    kind.add_argument("-u", "--udp", action="store_true", help="UDP instead of TCP")
    kind.add_argument("--rr", action="store_true", help="round trips instead of a bulk transfer")
    kind.add_argument(
        "--crr", action="store_true", help="round trips, each on a fresh TCP connection"
    )
    test.add_argument(
        "-b", "--bitrate", type=bitrate, default=0, metavar="RATE", help="target bitrate, 0: none"
    )
    test.add_argument("-C", "--congestion", metavar="NAME", help="congestion control")
    tls = parser.add_argument_group("TLS, as Dask has it")
    tls.add_argument("--tls-ca-file", metavar="FILE", help="certificate of the CA (PEM)")
    tls.add_argument("--tls-cert", metavar="FILE", help="this client's certificate (PEM)")
    tls.add_argument("--tls-key", metavar="FILE", help="its private key (PEM)")
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write JSON to FILE, or to standard output instead of the report",
    )
    add_objective_options(output)
    output.add_argument("-q", "--quiet", action="store_true", help="show nothing while it runs")
