"""Keep the runs of a campaign in a file as they come, so that a cut campaign can go on.

The first line says which plan it is; each other line is a run. A line is written at once and
followed by its end, so that a line without an end was cut and is dropped.
"""

from __future__ import annotations

import os
from pathlib import Path

import msgspec

from netmeasure.campaign.plan import Plan
from netmeasure.comparison.suite import SuiteRun
from netmeasure.errors import ResultFormatError, SpecError
from netmeasure.result import Result
from netmeasure.result.encoding import encoded
from netmeasure.result.node import NodeUse
from netmeasure.result.resources import HostUse

_VERSION = 1
#: How every first line begins, also one that was cut.
_HEAD = b'{"suite_version":'


class _Head(msgspec.Struct, kw_only=True):
    suite_version: int
    plan: str
    title: str = ""
    seed: int
    baseline: HostUse | None = None


class _Line(msgspec.Struct, kw_only=True):
    round: int
    test: str
    target: str
    variant: str
    error: str | None = None
    node: NodeUse | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class Journal:
    """Hold the file of a campaign's runs.

    Attributes:
        runs: The runs that the file had when it was opened.
        seed: The seed of its campaign; None: the file is new.
        baseline: What this host did before the first run, as the file has it.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        """Open a file, or prepare to make it.

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
        whole, _, cut = data.rpartition(b"\n")
        if whole:
            self._read(whole.split(b"\n"))
        elif not _HEAD.startswith(cut[: len(_HEAD)]):
            raise self._foreign()
        if cut:  # only of a file that is ours
            os.truncate(path, len(data) - len(cut))

    def _read(self, lines: list[bytes]) -> None:
        try:
            head = msgspec.json.decode(lines[0], type=_Head)
        except (msgspec.DecodeError, UnicodeError):
            raise self._foreign() from None
        if head.suite_version != _VERSION:
            raise SpecError(f"{self._path} is of another version: {head.suite_version}")
        if head.plan != self._plan.digest:
            raise SpecError(
                f"{self._path} has the runs of another plan, or of this one before it was changed",
                hint="name a new file, or remove this one",
            )
        self.seed, self.baseline = head.seed, head.baseline
        for number, line in enumerate(lines[1:], 2):
            try:
                one = msgspec.json.decode(line, type=_Line)
                result = None
                if bytes(one.result) != b"null":
                    result = Result.from_json(bytes(one.result))
            except (msgspec.DecodeError, UnicodeError, ResultFormatError) as exc:
                raise SpecError(f"{self._path}, line {number}: {exc}") from None
            self.runs.append(
                SuiteRun(
                    round=one.round,
                    test=one.test,
                    target=one.target,
                    variant=one.variant,
                    result=result,
                    error=one.error,
                    node=one.node,
                )
            )

    def _foreign(self) -> SpecError:
        return SpecError(f"{self._path} is no file of a campaign's runs", hint="name a new file")

    def begin(self, seed: int, baseline: HostUse | None) -> None:
        """Write the first line of a new file. Raises SpecError."""
        self.seed, self.baseline = seed, baseline
        head = _Head(
            suite_version=_VERSION,
            plan=self._plan.digest,
            title=self._plan.title,
            seed=seed,
            baseline=baseline,
        )
        self._append(msgspec.json.encode(head))

    def add(self, run: SuiteRun) -> None:
        """Write a run. Raises SpecError if the file can't be written."""
        line = _Line(
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
