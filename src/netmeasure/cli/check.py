"""Run `netmeasure check`: check saved runs against objectives."""

from __future__ import annotations

import argparse
import sys

from netmeasure.cli import objectives
from netmeasure.cli.exits import Exit
from netmeasure.cli.saved import campaigns_of, read_saved, results_of
from netmeasure.comparison.suite import by_case
from netmeasure.errors import SpecError


async def check(options: argparse.Namespace) -> int:
    """Judge the runs of all files together, or those of campaigns test by test; return the exit
    code."""
    if options.slo is None and options.qoo is None:
        raise SpecError(
            "there is nothing to check", hint="give objectives, such as --slo 'setup<1s'"
        )
    objectives.check_options(options)
    saved = read_saved(options.files)
    results = results_of(saved)
    if not results:
        raise SpecError("the files hold no run")
    if campaigns := campaigns_of(options.files, saved):
        runs = [run for one in campaigns for run in one.runs]
        held = objectives.conclude_many(by_case(runs), options)
        failed = sum(run.result is None for run in runs)
        if failed:
            sys.stderr.write(
                f"netmeasure: {failed} of {len(runs)} runs have failed and were not checked\n"
            )
        return held or (Exit.CANT_TELL if failed else Exit.OK)
    return objectives.conclude(results, options, options.files[0])
