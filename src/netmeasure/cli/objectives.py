"""Hold results against `--slo`: judgements as lines, as JUnit's XML and as an exit code."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

from netmeasure.cli.exits import Exit
from netmeasure.cli.output import check_writable, write_file
from netmeasure.errors import SpecError
from netmeasure.objectives.objective import parse_objectives
from netmeasure.result import Result


def check_options(options: argparse.Namespace) -> None:
    """Raise SpecError, before the test, for objectives that are none and a file that can't be
    written."""
    if options.slo is not None:
        parse_objectives(options.slo)
    elif options.junit is not None:
        raise SpecError("--junit has nothing to write", hint="say what must hold with --slo")
    check_writable(options.junit)


def conclude(results: Sequence[Result], options: argparse.Namespace, target: str) -> Exit:
    """Print and save how the runs stand to the objectives; return OK, BELOW or CANT_TELL.

    The lines go to standard error where standard output is for JSON.
    """
    if options.slo is None or not results:
        return Exit.OK
    from netmeasure.objectives.judge import judge  # no test waits for numpy before its first byte

    judgements = judge(parse_objectives(options.slo), results)
    if options.junit is not None:
        from netmeasure.objectives.junit import to_junit

        write_file(to_junit(judgements, target), options.junit)
    taken = getattr(options, "json_lines", False) or options.json in ("-", "summary")
    stream = sys.stderr if taken else sys.stdout
    stream.write("".join(f"slo: {judgement.words}\n" for judgement in judgements))
    outcomes = {judgement.outcome for judgement in judgements}
    if "missed" in outcomes:
        return Exit.BELOW
    return Exit.CANT_TELL if "unknown" in outcomes else Exit.OK
