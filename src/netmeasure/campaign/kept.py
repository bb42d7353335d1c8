"""Read the file of a campaign's runs.

The first line identifies the plan; each other line is a run. A line without a line break was cut
while it was written, and is ignored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import msgspec

from netmeasure.comparison.suite import Suite, SuiteRun, tabulate
from netmeasure.errors import ResultFormatError
from netmeasure.result import Result
from netmeasure.result.node import NodeUse
from netmeasure.result.resources import HostUse
from netmeasure.spec import DEFAULT_MARGIN

VERSION = 1
_BEGINNING = b'{"suite_version":'


class Head(msgspec.Struct, kw_only=True):
    """Hold the first line of the file."""

    suite_version: int
    plan: str
    title: str = ""
    seed: int
    baseline: HostUse | None = None
    runs_planned: int | None = None
    margin: float = DEFAULT_MARGIN
    order: list[tuple[str, str, str]] = []


class Line(msgspec.Struct, kw_only=True):
    """Hold one run in the form of the file."""

    round: int
    test: str
    target: str
    variant: str
    error: str | None = None
    node: NodeUse | None = None
    result: msgspec.Raw = msgspec.Raw(b"null")


class KeptCampaign(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the runs of a campaign's file.

    Attributes:
        head: The first line, which describes the campaign.
        runs: Its runs, in their order.
    """

    head: Head
    runs: tuple[SuiteRun, ...]

    @property
    def results(self) -> list[Result]:
        """Return the results of the runs."""
        return [run.result for run in self.runs if run.result is not None]

    @property
    def suite(self) -> Suite:
        """Return the table of the runs. Only new files have the order of the plan; in old ones,
        tests and variants are in the order of their first runs."""
        head = self.head
        return tabulate(
            self.runs,
            order=head.order,
            runs_planned=len(self.runs) if head.runs_planned is None else head.runs_planned,
            seed=head.seed,
            title=head.title,
            margin=head.margin,
            baseline=head.baseline,
        )


def is_kept(data: bytes) -> bool:
    """Return whether a file has a campaign's runs; its first line may be cut."""
    return bool(data) and data[: len(_BEGINNING)] == _BEGINNING[: len(data)]


def read_kept(data: bytes) -> KeptCampaign:
    """Return the campaign of a file. Raises ResultFormatError."""
    whole, _, _ = data.rpartition(b"\n")
    first, *others = whole.split(b"\n")
    try:
        head = msgspec.json.decode(first, type=Head)
    except (msgspec.DecodeError, UnicodeError):
        raise ResultFormatError("this is not a file of a campaign's runs") from None
    if head.suite_version != VERSION:
        raise ResultFormatError(
            f"the file of these runs has version {head.suite_version}, not {VERSION}",
            hint="read them with the netmeasure that wrote them",
        )
    return KeptCampaign(head=head, runs=tuple(_runs(others)))


def _runs(lines: Sequence[bytes]) -> Iterator[SuiteRun]:
    for number, line in enumerate(lines, 2):
        try:
            one = msgspec.json.decode(line, type=Line)
            result = None
            if bytes(one.result) != b"null":
                result = Result.from_json(bytes(one.result))
        except (msgspec.DecodeError, UnicodeError, ResultFormatError) as exc:
            raise ResultFormatError(f"line {number}: {exc}") from None
        yield SuiteRun(
            round=one.round,
            test=one.test,
            target=one.target,
            variant=one.variant,
            result=result,
            error=one.error,
            node=one.node,
        )
