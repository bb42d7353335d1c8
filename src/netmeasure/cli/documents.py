"""Run `netmeasure export`, `report` and `schema`: saved runs in other forms, and their schemas."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from netmeasure.campaign.kept import KeptCampaign
from netmeasure.cli.exits import Exit
from netmeasure.cli.output import check_writable, write_file
from netmeasure.cli.saved import campaigns_of, read_results, read_saved, results_of, short_names
from netmeasure.errors import SpecError
from netmeasure.export.registry import export_results
from netmeasure.export.schema import document_schema
from netmeasure.publishing.forms import FORMS


async def export(options: argparse.Namespace) -> int:
    """Print saved runs in another format; return the exit code."""
    text = export_results(read_results(options.files), options.to)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="surrogateescape")  # iperf3's titles as they came
    sys.stdout.write(text)
    return Exit.OK


async def report(options: argparse.Namespace) -> int:
    """Write a report of saved runs to a file; return the exit code."""
    path: str = options.output
    form = Path(path).suffix.removeprefix(".").lower()
    if form not in FORMS:
        raise SpecError(
            f"the ending of {path} is not that of a report",
            hint=f"end the name with {', '.join(f'.{name}' for name in FORMS)}",
        )
    saved = read_saved(options.files)
    if campaigns := campaigns_of(options.files, saved):
        return _report_campaign(campaigns, form, path)
    runs = [results_of([one]) for one in saved]
    check_writable(path)
    from netmeasure.publishing.publish import publish  # rich and matplotlib are loaded only here

    groups = list(zip(short_names(options.files), runs, strict=True))
    write_file(publish(groups, form), path)
    return Exit.OK


def _report_campaign(campaigns: Sequence[KeptCampaign], form: str, path: str) -> int:
    if len(campaigns) > 1:
        raise SpecError(
            "a report shows one campaign only", hint="netmeasure compare makes a table of two"
        )
    from netmeasure.publishing.campaign import publish_suite  # loads rich

    check_writable(path)
    write_file(publish_suite(campaigns[0].suite, form), path)
    return Exit.OK


async def print_schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of a kind of document; return the exit code."""
    text = msgspec.json.format(msgspec.json.encode(document_schema(options.name)), indent=2)
    sys.stdout.write(text.decode() + "\n")
    return Exit.OK
