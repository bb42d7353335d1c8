"""Run `netmeasure export` and `netmeasure schema`: saved runs in other forms, and their schemas."""

from __future__ import annotations

import argparse
import sys

import msgspec

from netmeasure.cli.exits import Exit
from netmeasure.cli.saved import read_results
from netmeasure.export.registry import export_results
from netmeasure.export.schema import document_schema


async def export(options: argparse.Namespace) -> int:
    """Print saved runs in another format; return the exit code."""
    sys.stdout.write(export_results(read_results(options.files), options.to))
    return Exit.OK


async def print_schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of a kind of document; return the exit code."""
    text = msgspec.json.format(msgspec.json.encode(document_schema(options.name)), indent=2)
    sys.stdout.write(text.decode() + "\n")
    return Exit.OK
