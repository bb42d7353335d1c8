"""Check results against `--slo`: show the judgements as lines, as JUnit's XML and as an exit
code. Score results by `--qoo`.

What only these options need is imported in the functions, since it would delay the first byte of
every test.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, TextIO

from netmeasure.cli.exits import Exit
from netmeasure.cli.output import check_writable, write_file
from netmeasure.errors import SpecError
from netmeasure.result import Result

if TYPE_CHECKING:
    from netmeasure.objectives.judge import Judgement


def check_options(options: argparse.Namespace) -> None:
    """Raise SpecError, before the test, for invalid objectives and a file that can't be written."""
    if options.slo is not None:
        from netmeasure.objectives.objective import parse_objectives

        parse_objectives(options.slo)
    elif options.junit is not None:
        raise SpecError(
            "--junit has nothing to write", hint="give objectives, such as --slo 'setup<1s'"
        )
    if options.qoo is not None:
        from netmeasure.objectives.quality import parse_requirement

        parse_requirement(options.qoo)
    check_writable(options.junit)


def conclude(results: Sequence[Result], options: argparse.Namespace, target: str) -> Exit:
    """Print the quality, print and save the judgements of the runs; return OK, BELOW or CANT_TELL.

    The lines go to standard error if standard output is for JSON.
    """
    _score([(target, results)], options)
    if options.slo is None or not results:
        return Exit.OK
    from netmeasure.objectives.judge import judge
    from netmeasure.objectives.objective import parse_objectives

    judgements = judge(parse_objectives(options.slo), results)
    return _deliver([(target, judgements)], options)


def conclude_many(
    groups: Sequence[tuple[str, Sequence[Result]]], options: argparse.Namespace
) -> Exit:
    """Print and save the judgements of each group of runs, such as those of one test of a campaign;
    return the exit code.

    An objective about a figure that a group can't have, such as the loss of TCP, is not checked for
    the group; if no group has the figure, it is unknown.
    """
    groups = [(name, results) for name, results in groups if results]
    _score(groups, options)
    if options.slo is None or not groups:
        return Exit.OK
    from netmeasure.objectives.judge import judge
    from netmeasure.objectives.objective import parse_objectives

    objectives = parse_objectives(options.slo)
    judged = [(name, judge(objectives, results)) for name, results in groups]
    known = {one.objective for _, found in judged for one in found if one.value is not None}
    kept = [
        (name, [one for one in found if one.value is not None or one.objective not in known])
        for name, found in judged
    ]
    return _deliver(kept, options)


def _score(groups: Sequence[tuple[str, Sequence[Result]]], options: argparse.Namespace) -> None:
    """Print the Quality of Outcome of each group of runs: the lowest of its runs."""
    if options.qoo is None:
        return
    from netmeasure.objectives.quality import lowest_quality, parse_requirement

    requirement = parse_requirement(options.qoo)
    for name, results in groups:
        if not results:
            continue
        found = lowest_quality(requirement, results)
        of = f"{name}: " if len(groups) > 1 else ""
        among = f", the lowest of {len(results)} runs" if len(results) > 1 else ""
        _stream(options).write(f"qoo: {of}{found.words}{among}\n")


def _stream(options: argparse.Namespace) -> TextIO:
    """Return where the lines go: to standard error if standard output is for JSON."""
    taken = getattr(options, "json_lines", False) or options.json in ("-", "summary")
    return sys.stderr if taken else sys.stdout


def _deliver(
    groups: Sequence[tuple[str, Sequence[Judgement]]], options: argparse.Namespace
) -> Exit:
    if options.junit is not None:
        from netmeasure.objectives.junit import to_junit_of_many

        write_file(to_junit_of_many(groups), options.junit)
    several = len(groups) > 1
    for name, judgements in groups:
        of = f"{name}: " if several else ""
        _stream(options).write("".join(f"slo: {of}{judgement.words}\n" for judgement in judgements))
    outcomes = {judgement.outcome for _, judgements in groups for judgement in judgements}
    if "missed" in outcomes:
        return Exit.BELOW
    return Exit.CANT_TELL if "unknown" in outcomes else Exit.OK
