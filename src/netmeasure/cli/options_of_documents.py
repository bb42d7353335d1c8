"""Define the options of the commands that turn saved runs into other documents."""

from __future__ import annotations

import argparse

from netmeasure.export.formats import FORMATS, SCHEMAS
from netmeasure.publishing.forms import FORMS


def add_export_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `export`."""
    parser.add_argument("files", nargs="+", metavar="FILE", help="files that --json wrote")
    parser.add_argument(
        "--to",
        required=True,
        choices=list(FORMATS),
        help="; ".join(f"{name}: {words}" for name, words in FORMATS.items()),
    )


def add_report_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `report`."""
    parser.add_argument(
        "files", nargs="+", metavar="FILE", help="files that --json or iperf3 -J wrote"
    )
    ends = "; ".join(f".{name}: {words}" for name, words in FORMS.items())
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="FILE",
        help=f"file of the report; its ending chooses the format ({ends})",
    )


def add_schema_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `schema`."""
    parser.add_argument(
        "name",
        nargs="?",
        default="result",
        choices=SCHEMAS,
        metavar="NAME",
        help=f"the kind of document: {', '.join(SCHEMAS)} (default %(default)s)",
    )
