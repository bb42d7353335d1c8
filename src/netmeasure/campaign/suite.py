"""Run a plan: all its cases in turns, and each run kept as soon as it ends."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncGenerator, Sequence
from os import PathLike
from pathlib import Path

from msgspec.structs import replace

from netmeasure.campaign.commands import run_command
from netmeasure.campaign.journal import Journal
from netmeasure.campaign.plan import Case, Commands, Plan
from netmeasure.campaign.turns import in_turns
from netmeasure.client import measure
from netmeasure.comparison.suite import Suite, SuiteRun, tabulate
from netmeasure.engine.resources import observe_host
from netmeasure.errors import CommandError, MeasureError
from netmeasure.node.watch import NodeWatch
from netmeasure.repetition import worth_going_on
from netmeasure.result.resources import HostUse
from netmeasure.spec import FtpSpec, HttpSpec, RequestSpec, Secret

_Key = tuple[str, str, str]
_SEEDS = 2**32


class Campaign:
    """Run a plan, and hold its runs::

        campaign = nm.Campaign(nm.read_plan(Path("plan.toml").read_bytes()))
        async for run in campaign.run():
            print(run.test, run.variant, run.result.steady)
        print(campaign.suite.to_json())

    Attributes:
        plan: The plan.
        runs: The runs so far, including those of the file.
        baseline: The use of this host at rest before the first run; None: not observed.
        seed: The seed of the order of the runs.
        given_up: The reason for each case (test, target, variant) that was given up because it
            measured nothing. It has no further runs.
    """

    def __init__(
        self,
        plan: Plan,
        *,
        keep: str | PathLike[str] | None = None,
        secret: Secret | None = None,
    ) -> None:
        """Prepare a campaign.

        Args:
            plan: The plan.
            keep: A file for the runs. If it already has runs of this plan, the campaign goes on
                after them; None: keep the runs in memory only.
            secret: The secret that the servers have.

        Raises:
            SpecError: The file has the runs of another plan, or can't be used.
        """
        self.plan = plan
        self._secret = secret
        self._journal = None if keep is None else Journal(Path(keep), plan)
        old = self._journal
        self.runs: list[SuiteRun] = [] if old is None else list(old.runs)
        self.baseline: HostUse | None = None if old is None else old.baseline
        seed = plan.seed if old is None or old.seed is None else old.seed
        self.seed: int = random.randrange(_SEEDS) if seed is None else seed
        self._begun = old is not None and old.seed is not None
        self.given_up: dict[_Key, str] = {}
        for run in self.runs:
            self._give_up_if_hopeless(run)

    @property
    def planned(self) -> int:
        """Return how many runs the plan has."""
        return len(self.plan.cases) * self.plan.runs

    @property
    def suite(self) -> Suite:
        """Return the table of the runs so far."""
        return tabulate(
            self.runs,
            order=[(case.test, case.target, case.variant) for case in self.plan.cases],
            runs_planned=self.planned,
            seed=self.seed,
            title=self.plan.title,
            margin=self.plan.margin,
            baseline=self.baseline,
        )

    def left(self) -> list[tuple[int, Case]]:
        """Return (round, case) for each run that is still to be made, in order."""
        made = {run.key for run in self.runs}
        return [
            (number, case)
            for number, case in in_turns(self.plan, self.seed)
            if (number, *_key(case)) not in made and _key(case) not in self.given_up
        ]

    async def run(self) -> AsyncGenerator[SuiteRun, None]:
        """Make the remaining runs, and yield each as soon as it ends.

        A run that fails is yielded as incomplete, and the next run begins. A case that measures
        nothing in its first run, or twice in succession, is given up. Cancelling the iteration, or
        leaving the loop, joins the threads of the current run, which is not kept.

        Raises:
            SpecError: The file of the runs can't be written.
        """
        await self._begin()
        for number, case in self.left():
            if _key(case) in self.given_up:
                continue
            run = await self._one(number, case)
            # append before the write: once the thread has begun to write, the file has the run as
            # well
            self.runs.append(run)
            if self._journal is not None:
                await asyncio.to_thread(self._journal.add, run)
            self._give_up_if_hopeless(run)
            yield run

    async def _begin(self) -> None:
        """Observe this host at rest, and write the first line of the file."""
        if self._begun:
            return
        if self.plan.baseline_s:
            self.baseline = await observe_host(self.plan.baseline_s)
        if self._journal is not None:
            await asyncio.to_thread(self._journal.begin, self.seed, self.baseline)
        self._begun = True

    async def _one(self, number: int, case: Case) -> SuiteRun:
        run = SuiteRun(round=number, test=case.test, target=case.target, variant=case.variant)
        variant = next(one for one in self.plan.variants if one.name == case.variant)
        try:
            await self._commands(variant.before, number, case)
            try:
                async with NodeWatch() as watch:
                    run = await self._measured(run, case)
                run = replace(run, node=watch.use)
            finally:
                await self._commands(variant.after, number, case)
        except CommandError as exc:
            return replace(run, error=str(exc))
        return run

    async def _measured(self, run: SuiteRun, case: Case) -> SuiteRun:
        spec = case.spec
        if self._secret is not None and not isinstance(spec, HttpSpec | FtpSpec | RequestSpec):
            spec = replace(spec, secret=self._secret)
        try:
            result = await measure(case.address, spec, port=case.port)
        except MeasureError as exc:
            return replace(run, result=exc.result, error=str(exc))
        return replace(run, result=result)

    async def _commands(self, commands: Commands, number: int, case: Case) -> None:
        told = {
            "NETMEASURE_TEST": case.test,
            "NETMEASURE_TARGET": case.target,
            "NETMEASURE_ADDRESS": case.address,
            "NETMEASURE_VARIANT": case.variant,
            "NETMEASURE_ROUND": str(number),
        }
        for command in commands:
            await run_command(command, told, self.plan.command_timeout_s)

    def _give_up_if_hopeless(self, run: SuiteRun) -> None:
        key = (run.test, run.target, run.variant)
        mine = [one for one in self.runs if (one.test, one.target, one.variant) == key]
        if not _worth_going_on(mine):
            told = run.result.error if run.result is not None else None
            hint = f" ({told.hint})" if told is not None and told.hint else ""
            self.given_up[key] = f"{run.error}{hint}" if run.error else "nothing was measured"


def _worth_going_on(runs: Sequence[SuiteRun]) -> bool:
    """Return whether another run of a case is useful, by the rule for repeated tests."""
    return len(runs) > 0 and any(
        run.result is not None and worth_going_on([run.result]) for run in runs[-2:]
    )


def _key(case: Case) -> _Key:
    return case.test, case.target, case.variant
