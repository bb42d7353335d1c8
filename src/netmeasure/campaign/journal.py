"""Append the runs of a campaign to a file, so that an interrupted campaign can go on."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from netmeasure.campaign.kept import VERSION, Head, Line, is_kept, read_kept
from netmeasure.campaign.plan import Plan
from netmeasure.comparison.suite import SuiteRun
from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.result.encoding import encoded
from netmeasure.result.resources import HostUse


class Journal:
    """Hold the file of a campaign's runs.

    Attributes:
        runs: The runs that were in the file when it was opened.
        seed: The seed of its campaign; None: the file is new.
        baseline: The use of this host before the first run, from the file.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        """Open a file, or prepare to create it.

        Raises:
            SpecError: The file has the runs of another plan, or can't be read or written.
        """
        self._path = path
        self._plan = plan
        self.runs: list[SuiteRun] = []
        self.seed: int | None = None
        self.baseline: HostUse | None = None
        try:
            with path.open("ab"):
                pass
            data = path.read_bytes()
        except OSError as exc:
            raise SpecError(f"can't write {path}: {exc.strerror}") from None
        if data and not is_kept(data):
            raise SpecError(
                f"{path}: this is not a file of a campaign's runs", hint="name a new file"
            )
        whole = data.rfind(b"\n") + 1
        if whole:
            self._read(data)
        if whole < len(data):
            os.truncate(path, whole)

    def _read(self, data: bytes) -> None:
        try:
            kept = read_kept(data)
        except ResultFormatError as exc:
            raise SpecError(f"{self._path}: {exc}", hint=exc.hint or "name a new file") from None
        if kept.head.plan != self._plan.digest:
            raise SpecError(
                f"{self._path} has the runs of another plan, or of this one before it was changed",
                hint="name a new file, or remove this one",
            )
        self.seed, self.baseline = kept.head.seed, kept.head.baseline
        self.runs += kept.runs

    def begin(self, seed: int, baseline: HostUse | None) -> None:
        """Write the first line of a new file. Raises SpecError."""
        self.seed, self.baseline = seed, baseline
        plan = self._plan
        head = Head(
            suite_version=VERSION,
            plan=plan.digest,
            title=plan.title,
            seed=seed,
            baseline=baseline,
            runs_planned=len(plan.cases) * plan.runs,
            margin=plan.margin,
            order=[(case.test, case.target, case.variant) for case in plan.cases],
        )
        self._append(msgspec.json.encode(head))

    def add(self, run: SuiteRun) -> None:
        """Write a run. Raises SpecError if the file can't be written."""
        line = Line(
            round=run.round,
            test=run.test,
            target=run.target,
            variant=run.variant,
            error=run.error,
            node=run.node,
        )
        if run.result is not None:
            line.result = msgspec.Raw(encoded(run.result, indent=None))
        self._append(msgspec.json.encode(line))

    def _append(self, line: bytes) -> None:
        try:
            with self._path.open("ab") as file:
                file.write(line + b"\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as exc:
            raise SpecError(f"can't write {self._path}: {exc.strerror}") from None
