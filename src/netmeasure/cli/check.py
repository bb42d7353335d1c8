"""Run `netmeasure check`: hold saved runs against objectives."""

from __future__ import annotations

import argparse

from netmeasure.cli import objectives
from netmeasure.cli.saved import read_campaigns, read_results
from netmeasure.comparison.suite import by_case
from netmeasure.errors import SpecError


async def check(options: argparse.Namespace) -> int:
    """Judge the runs of all files together, those of campaigns test by test; return the exit
    code."""
    if options.slo is None:
        raise SpecError("there is nothing to check", hint="say what must hold with --slo")
    objectives.check_options(options)
    if campaigns := read_campaigns(options.files, "give files that --json or --keep wrote"):
        return objectives.conclude_many(
            by_case(run for one in campaigns for run in one.runs), options
        )
    results = read_results(options.files)
    if not results:
        raise SpecError("the files hold no run")
    return objectives.conclude(results, options, options.files[0])
