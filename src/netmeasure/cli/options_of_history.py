"""Define the words and options of `netmeasure history`."""

from __future__ import annotations

import argparse

from netmeasure.cli.values import count
from netmeasure.history import DEFAULT_LAST

#: The database where none is given, in the folder where the command runs.
DEFAULT_DB = "netmeasure-history.sqlite"


def add_history_options(parser: argparse.ArgumentParser) -> None:
    """Add the words and options of `history`."""
    parser.add_argument(
        "action",
        choices=("add", "list", "check", "ack"),
        help="add: store runs; list: show them; check: report changes; ack: accept changes",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="FILE | NUMBER",
        help="add: files that --json wrote; ack: numbers that check shows (none: all)",
    )
    parser.add_argument(
        "--db",
        default=DEFAULT_DB,
        metavar="FILE|URL",
        help="SQLite file, or URL of another database, such as postgresql+psycopg://HOST/NAME"
        " (default %(default)s)",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="add: a label of these runs, such as cni=1.3.1; list, check: only runs that have it;"
        " may be given several times",
    )
    parser.add_argument(
        "--last",
        type=count,
        metavar="N",
        help=f"check: look at the last N runs of each series (default {DEFAULT_LAST})",
    )
    parser.add_argument("--note", metavar="TEXT", help="ack: why the changes are accepted")
    parser.add_argument(
        "--all", action="store_true", help="check: show acknowledged changes as well"
    )
    parser.add_argument("--plot", action="store_true", help="check: draw the runs below each line")
    parser.add_argument("--json", action="store_true", help="list, check: print JSON")
