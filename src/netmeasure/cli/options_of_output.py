"""Define the options about JSON, live intervals and objectives."""

from __future__ import annotations

import argparse


def add_output_options(parser: argparse.ArgumentParser) -> None:
    """Add the options about JSON and live intervals."""
    output = parser.add_argument_group("output")
    output.add_argument(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write the result as JSON to FILE, or to standard output instead of the report;"
        " summary or summary=FILE leaves the series out",
    )
    output.add_argument(
        "--json-lines",
        action="store_true",
        help="print each event as a line of JSON while it runs; the last line has the result",
    )
    output.add_argument("-q", "--quiet", action="store_true", help="show nothing while it runs")
    output.add_argument(
        "-v", "--verbose", action="store_true", help="show each stream, live and in the report"
    )
    add_objective_options(output)


def add_objective_options(parser: argparse._ActionsContainer) -> None:
    """Add the options about objectives."""
    parser.add_argument(
        "--slo",
        metavar="OBJECTIVES",
        help="exit with code 8 if one is missed, with 9 if the runs can't decide it; such as"
        " 'setup<1s, connect.p99<100ms, steady>9G, loss<0.1%%, cpu_s_per_gb<1'",
    )
    parser.add_argument("--junit", metavar="FILE", help="write the verdicts of --slo as JUnit XML")
    parser.add_argument(
        "--qoo",
        metavar="NEEDS",
        help="print the Quality of Outcome, 0 to 100 %%, for what an application needs, each figure"
        " from optimal to unacceptable, such as 'p99 100..200ms, loss 0.1..2%%, rate 4M'",
    )
