"""Define the words and options of `netmeasure suite`."""

from __future__ import annotations

import argparse

from netmeasure.cli.options_of_output import add_objective_options
from netmeasure.cli.values import count, port_number, seconds


def add_suite_options(parser: argparse.ArgumentParser) -> None:
    """Add the words and options of `suite`."""
    parser.add_argument(
        "what",
        nargs="+",
        metavar="PLAN.toml | HOST",
        help="a plan, or servers to measure by the default plan; of several servers, the others are"
        " compared with the first",
    )
    parser.add_argument(
        "--keep",
        metavar="FILE",
        help="keep each run in FILE as soon as it is over; if FILE has runs of the same plan,"
        " continue after them",
    )
    parser.add_argument("--runs", type=count, metavar="N", help="runs of each test (default 5)")
    parser.add_argument("--seed", type=count, metavar="N", help="seed of the order of the runs")
    usual = parser.add_argument_group("the default plan, for servers given without a plan")
    usual.add_argument(
        "-t", "--time", type=seconds, metavar="S", help="duration of each test (default 5 s)"
    )
    usual.add_argument("-p", "--port", type=port_number, help="port of the servers")
    usual.add_argument(
        "--http", type=port_number, metavar="PORT", help="download from their --http PORT, too"
    )
    usual.add_argument(
        "--ftp", type=port_number, metavar="PORT", help="download from their --ftp PORT, too"
    )
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the table as JSON to FILE, or to standard output instead of the report",
    )
    output.add_argument("--markdown", metavar="FILE", help="write the report as Markdown to FILE")
    output.add_argument("--html", metavar="FILE", help="write the report as a page to FILE")
    add_objective_options(output)
    output.add_argument(
        "--check", action="store_true", help="only check the plan and list its tests"
    )
    output.add_argument("-q", "--quiet", action="store_true", help="show nothing while it runs")
    parser.add_argument(
        "--secret-file",
        metavar="FILE",
        help="file of the secret that the servers must know (or NETMEASURE_SECRET in the"
        " environment)",
    )
