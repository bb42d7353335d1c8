"""Define the options of `exporter`."""

from __future__ import annotations

import argparse

from netmeasure.cli.values import own_port

#: The port of an exporter; a server's --metrics has none of its own.
DEFAULT_PORT = 9852


def add_exporter_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of `exporter`."""
    parser.add_argument(
        "--config",
        metavar="FILE",
        help="TOML file of modules and scheduled tests (default: some modules, nothing scheduled)",
    )
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
