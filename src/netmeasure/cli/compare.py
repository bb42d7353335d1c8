"""Run `netmeasure compare`: compare saved runs, or measure two targets in turns."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from msgspec.structs import replace

from netmeasure.campaign.kept import KeptCampaign
from netmeasure.cli import objectives
from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from netmeasure.cli.output import check_writable, deliver
from netmeasure.cli.saved import campaigns_of, read_saved, results_of, short_names
from netmeasure.cli.screens import choose_screen
from netmeasure.cli.specs import Options, shown_target, test_spec
from netmeasure.cli.watch import see_all
from netmeasure.client import make_run
from netmeasure.comparison.comparison import Comparison, compare as compare_runs, ratio_is_below
from netmeasure.comparison.suite import tabulate
from netmeasure.engine.limits import raise_descriptor_limit
from netmeasure.errors import SpecError
from netmeasure.measurement.run import Run
from netmeasure.repetition import Alternative, check_times, turns
from netmeasure.result.resultset import ResultSet

#: The largest ratio of --fail-below: a user who writes 95 means 95 %.
MAX_RATIO = 10.0
_NO_FILE = "compare takes files of --json and of iperf3 -J; to measure, add --measure"
_LONG = {"pairs": "--pairs (--repeat)"}
_OF_SAVED_RUNS = {
    *("command", "side", "against", "json", "margin", "fail_below"),
    *("quiet", "verbose", "slo", "junit", "qoo"),
}


async def compare(options: Options) -> int:
    """Compare, print and save; return the exit code."""
    if options.fail_below is not None and not 0 < options.fail_below <= MAX_RATIO:
        raise SpecError(
            f"--fail-below is {options.fail_below:g}: it must be above 0, at most {MAX_RATIO:g}",
            hint="write 95% or 0.95",
        )
    check_writable(options.json)
    objectives.check_options(options)
    return await _measure(options) if options.measure else _read(options)


# ---- saved runs ---------------------------------------------------------------------------------


def _read(options: Options) -> int:
    _refuse_test_options(options)
    files, others = options.side, options.against
    if others is None:
        if len(files) != 2:
            raise SpecError(
                f"compare takes two files, not {len(files)}",
                hint="of several files a side: compare A1 A2 --against B1 B2",
            )
        files, others = files[:1], files[1:]
    name_a, name_b = _names(files, others)
    saved = read_saved([*files, *others], _NO_FILE)
    if campaigns := campaigns_of([*files, *others], saved):
        a_runs, b_runs = campaigns[: len(files)], campaigns[len(files) :]
        return _conclude_campaigns((name_a, a_runs), (name_b, b_runs), options)
    a, b = results_of(saved[: len(files)]), results_of(saved[len(files) :])
    found = compare_runs(a, b, name_a=name_a, name_b=name_b, margin=options.margin)
    return conclude(found, options) or objectives.conclude(b, options, name_b)


def _conclude_campaigns(
    a: tuple[str, Sequence[KeptCampaign]], b: tuple[str, Sequence[KeptCampaign]], options: Options
) -> Exit:
    """Show and save one table of two sides' campaigns, with a line for each test and variant;
    return the exit code of --fail-below."""
    if options.slo is not None or options.qoo is not None:
        raise SpecError(
            "objectives are checked for one campaign only", hint="use netmeasure check FILE --slo"
        )
    runs = [
        replace(run, variant=name, test=", ".join(filter(None, (run.test, run.variant))))
        for name, campaigns in (a, b)
        for campaign in campaigns
        for run in campaign.runs
    ]
    order = [
        (", ".join(filter(None, (test, variant))), target, name)
        for name, campaigns in (a, b)
        for campaign in campaigns
        for test, target, variant in campaign.head.order
    ]
    found = tabulate(
        runs,
        order=order,
        runs_planned=len(runs),
        seed=a[1][0].head.seed,
        title=f"{b[0]} against {a[0]}",
        margin=options.margin,
    )
    report = None
    if options.json != "-":
        from netmeasure.report.suite import render  # rich is loaded only where it is used

        report = render(found)
    deliver(report, [(found.to_json(), options.json)])
    if options.fail_below is None:
        return Exit.OK
    cells = [row.cells[1] for row in found.rows if len(row.cells) > 1]
    below = [ratio_is_below(cell.ratio, cell.verdict, options.fail_below) for cell in cells]
    if True in below:
        return Exit.BELOW
    return Exit.CANT_TELL if None in below or not below else Exit.OK


def _refuse_test_options(options: Options) -> None:
    """Raise SpecError for options of measurements, which do not apply to saved runs."""
    usual = vars(parser().parse_args(["compare", "any"]))
    for name in usual:
        if name not in _OF_SAVED_RUNS and getattr(options, name) != usual[name]:
            option = "-4 or -6" if name == "family" else f"--{name.replace('_', '-')}"
            raise SpecError(
                f"{_LONG.get(name, option)} has no effect on saved runs",
                hint="to measure two targets in turns, add --measure",
            )


def _names(a: Sequence[str], b: Sequence[str]) -> tuple[str, str]:
    """Return the names of the columns: the shortest names of the files that still differ."""
    short_a, short_b = short_names([a[0], b[0]])
    return (short_a, short_b) if short_a != short_b else ("A", "B")


# ---- two targets --------------------------------------------------------------------------------


async def _measure(options: Options) -> int:
    targets = options.side
    if options.against is not None or len(targets) != 2:
        raise SpecError("--measure takes two targets", hint="compare --measure HOST-A HOST-B")
    _refuse_files(targets)
    check_times(options.pairs)
    for path in options.save or ():
        check_writable(path)
    specs = [test_spec(argparse.Namespace(**{**vars(options), "target": one})) for one in targets]
    ways = {spec.direction for spec in specs}
    if len(ways) > 1:
        raise SpecError(
            f"the two targets would be measured in different directions: {', '.join(sorted(ways))}",
            hint="choose one with -d",
        )

    if options.requests:
        raise_descriptor_limit()

    def begin(side: Alternative) -> Run:
        number = "ab".index(side)
        return make_run(targets[number], specs[number], port=options.port)

    begin("b")  # a mistake in B must be found before the first run of A
    shown = [shown_target(argparse.Namespace(target=one)) for one in targets]
    seen = await see_all(
        turns(options.pairs),
        begin,
        choose_screen(
            quiet=options.quiet, json_out=options.json == "-", per_stream=options.verbose
        ),
        target=lambda side: shown["ab".index(side)],
        label=lambda side, number: f"{side.upper()} {number} of {options.pairs}",
    )
    a, b = seen.results["a"], seen.results["b"]
    runs = [
        (ResultSet(results=tuple(side)).to_json(), path)
        for side, path in zip((a, b), options.save or (None, None), strict=True)
    ]
    if seen.unseen or not all(any(result.flows for result in side) for side in (a, b)):
        deliver(None, runs, seen.unseen)
        return seen.code
    name_a, name_b = targets if targets[0] != targets[1] else ("A", "B")
    found = compare_runs(a, b, name_a=name_a, name_b=name_b, margin=options.margin)
    code = conclude(found, options, runs) or objectives.conclude(b, options, name_b)
    return code if code and not seen.interrupted else seen.code


def _refuse_files(targets: Sequence[str]) -> None:
    for target in targets:
        if Path(target).is_file():
            raise SpecError(f"{target} is a file", hint="saved runs are compared without --measure")


# ---- both ---------------------------------------------------------------------------------------


def conclude(
    found: Comparison, options: Options, runs: Sequence[tuple[bytes, str | None]] = ()
) -> Exit:
    """Show and save the comparison and the runs; return the exit code of --fail-below."""
    report = None
    if options.json != "-":
        from netmeasure.report.compare import render  # rich is loaded only where it is used

        report = render(found)
    deliver(report, [*runs, (found.to_json(), options.json)])
    if options.fail_below is None:
        return Exit.OK
    below = found.is_below(options.fail_below)
    if below is None:
        return Exit.CANT_TELL
    return Exit.BELOW if below else Exit.OK
