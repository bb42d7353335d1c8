"""Run `netmeasure suite`: run a whole campaign, print a line for each run, and one table at its
end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

from netmeasure.campaign.plan import Plan, default_plan
from netmeasure.campaign.plan_reader import plan_of, read_plan
from netmeasure.campaign.suite import Campaign
from netmeasure.cli import objectives
from netmeasure.cli.exits import Exit, code_of_many, complain
from netmeasure.cli.interruptible import until_signal
from netmeasure.cli.network import client_secret
from netmeasure.cli.output import check_writable, deliver, write_file
from netmeasure.comparison.suite import Suite, SuiteRun, by_case
from netmeasure.errors import PlanError, SpecError

_OF_HOSTS = ("time", "port", "http", "ftp")


async def suite(options: argparse.Namespace) -> int:
    """Carry out the campaign; return the exit code."""
    try:
        plan = _plan(options)
    except PlanError as exc:
        for mistake in exc.mistakes:
            complain(SpecError(f"{_place(options)}{mistake}"))
        return Exit.USAGE
    if options.check:
        _list(plan)
        return Exit.OK
    for path in (options.json, options.markdown, options.html):
        check_writable(path)
    objectives.check_options(options)
    # imported now, so that the import does not delay the event loop of a running test
    from netmeasure import analysis

    analysis.load()
    campaign = Campaign(plan, keep=options.keep, secret=client_secret(options))
    code = await _follow(campaign, options)
    if not campaign.runs:
        return code or Exit.CUT_SHORT
    found = campaign.suite
    _deliver(found, options)
    held = objectives.conclude_many(by_case(campaign.runs), options)
    return code or code_of_many(held, Exit.OK if found.complete else _failed(campaign.runs))


def _failed(runs: Sequence[SuiteRun]) -> Exit:
    """Return the exit code of a campaign in which runs failed."""
    errors = [run.result.error if run.result is not None else None for run in runs]
    phases = {None if error is None else error.phase for error in errors}
    return Exit.NO_CONNECTION if phases <= {"resolve", "connect"} else Exit.CUT_SHORT


def _place(options: argparse.Namespace) -> str:
    return f"{options.what[0]}: " if _is_plan(options.what) else ""


def _is_plan(words: list[str]) -> bool:
    return len(words) == 1 and (words[0].endswith(".toml") or Path(words[0]).is_file())


def _plan(options: argparse.Namespace) -> Plan:
    """Return the plan of the file, or the usual one of the servers. Raises SpecError."""
    given: dict[str, Any] = {}
    for name in ("runs", "seed"):
        if getattr(options, name) is not None:
            given[name] = getattr(options, name)
    if not _is_plan(options.what):
        for word in options.what:
            if word.endswith(".toml"):
                raise SpecError("suite takes one plan, or servers", hint="not both")
        document = default_plan(
            options.what,
            duration=f"{5 if options.time is None else options.time:g}s",
            port=options.port,
            http_port=options.http,
            ftp_port=options.ftp,
        )
        return plan_of(document | given)
    for name in _OF_HOSTS:
        if getattr(options, name) is not None:
            raise SpecError(f"--{name} is for the default plan", hint="write it into your plan")
    path = options.what[0]
    try:
        data = Path(path).read_bytes()
    except OSError as exc:
        raise SpecError(f"can't read {path}: {exc.strerror}") from None
    return read_plan(data, given)


def _list(plan: Plan) -> None:
    for case in plan.cases:
        names = [name for name in (case.target, case.variant) if name]
        print(f"{case.test}{''.join(f', {name}' for name in names)}: {case.address}")
    cases = "1 case" if len(plan.cases) == 1 else f"{len(plan.cases)} cases"
    print(f"{cases}, {plan.runs} runs of each")


async def _follow(campaign: Campaign, options: argparse.Namespace) -> Exit:
    """Follow the runs to their end or to a signal; return the signal's exit code, or OK."""
    code = await until_signal(_show(campaign, options))
    if code:
        more = " (the same command continues)" if options.keep else ""
        sys.stderr.write(
            f"netmeasure: ended by the user before run {len(campaign.runs) + 1}"
            f" of {campaign.planned} was over{more}\n"
        )
    return code


async def _show(campaign: Campaign, options: argparse.Namespace) -> None:
    stream = sys.stderr if options.json == "-" else sys.stdout
    shown = not options.quiet
    if shown and campaign.runs:
        stream.write(f"{len(campaign.runs)} of {campaign.planned} runs are there already\n")
    async with aclosing(campaign.run()) as runs:
        async for run in runs:
            if shown:
                stream.write(f"{_line(campaign, run)}\n")
                stream.flush()
    reasons: dict[str, list[str]] = {}
    for (test, _, variant), why in campaign.given_up.items():
        reasons.setdefault(why, []).append(", ".join(filter(None, (test, variant))))
    for why, names in reasons.items():
        sys.stderr.write(f"netmeasure: gave up {'; '.join(names)}: {why}\n")


def _line(campaign: Campaign, run: SuiteRun) -> str:
    from netmeasure.report.words import run_line

    count = f"{len(campaign.runs):{len(str(campaign.planned))}}/{campaign.planned}"
    names = ", ".join(filter(None, (run.test, run.target, run.variant)))
    if run.result is None:
        return f"{count}  {names}  not measured: {run.error}"
    return run_line(f"{count}  {names}", run.result)


def _deliver(found: Suite, options: argparse.Namespace) -> None:
    from netmeasure.report import suite as report

    if options.markdown is not None:
        write_file(report.to_markdown(found).encode(), options.markdown)
    if options.html is not None:
        from netmeasure.publishing.campaign import publish_suite

        write_file(publish_suite(found), options.html)
    shown = None if options.json == "-" else report.render(found)
    deliver(shown, [(found.to_json(), options.json)])
