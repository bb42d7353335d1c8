"""Keep a history of runs: add runs, list them, find changes of level, and acknowledge changes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

import msgspec

from netmeasure.errors import SpecError
from netmeasure.history import DEFAULT_LAST
from netmeasure.history.changepoints import MIN_RUNS, Shift, Told, shifts
from netmeasure.history.figures import least_scatter, matters
from netmeasure.history.store import KnownChange, SeriesOfRuns, Store, StoredRun
from netmeasure.result import FlowDirection, Result

#: The most runs by which the place of a change moves when runs are added.
SAME_PLACE = 5


class RunHistory(msgspec.Struct, frozen=True, kw_only=True):
    """Describe one stored series of runs.

    Attributes:
        target: The target that was measured.
        test: The test's kind and its settings that are not the defaults, such as "TCP upload
            streams=4".
        labels: The labels that the runs were added with.
        runs: How many runs are stored.
        incomplete: How many of them are incomplete; these have no figures.
        first_at: The start of the first run, ISO 8601 in UTC.
        last_at: The start of the last run.
    """

    target: str
    test: str
    labels: dict[str, str]
    runs: int
    incomplete: int
    first_at: str
    last_at: str


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one change of the level of a figure.

    Attributes:
        number: Its number in the history, for `History.acknowledge`.
        target: The target that was measured.
        test: The test's kind and its settings that are not the defaults.
        labels: The labels of the runs.
        direction: "upload" or "download", seen from the client.
        metric: The field of `RunFigures` that changed, such as "steady_bps".
        before: The mean level before the change, in the figure's unit; for positive figures it is
            the geometric mean.
        after: The mean level of the runs since the change.
        last_before_at: The start of the last run at the old level, ISO 8601 in UTC.
        first_after_at: The start of the first run at the new level.
        runs_after: How many runs are at the new level.
        values: The figure of each analysed run, in order of time.
        acknowledged: Whether the change was acknowledged.
        note: The note of the acknowledgement; None: no note.
    """

    number: int
    target: str
    test: str
    labels: dict[str, str]
    direction: FlowDirection
    metric: str
    before: float
    after: float
    last_before_at: str
    first_after_at: str
    runs_after: int
    values: tuple[float, ...]
    acknowledged: bool = False
    note: str | None = None


class History:
    """Keep the figures of runs in a database, such as those of every night.

    A file is an SQLite database, which is created if it does not exist; a URL of SQLAlchemy names
    another database, such as PostgreSQL. The methods block: call them by `asyncio.to_thread` within
    asyncio, all in the same thread. This class needs the extra `netmeasure[history]`.

    Attributes:
        place: The file, or the URL without its password.
    """

    def __init__(self, place: str, *, make: bool = True) -> None:
        """Open a history.

        Args:
            place: A file, or a URL of SQLAlchemy's.
            make: Whether to create the file if it does not exist.

        Raises:
            SpecError: A package is missing.
            HistoryError: The database can't be used or is another program's, or the file does not
                exist.
        """
        self._store = Store(place, make=make)
        self.place = self._store.place

    @property
    def is_in_memory(self) -> bool:
        """Return whether the history lasts only until `close` (SQLite's ":memory:")."""
        return self._store.is_in_memory

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the database."""
        self._store.close()

    def add(self, results: Iterable[Result], labels: Mapping[str, str] | None = None) -> int:
        """Store the figures of runs; return how many were new. A run that is already stored is not
        stored again. Incomplete runs are stored without figures."""
        return self._store.add(results, labels or {})

    def series(self, labels: Mapping[str, str] | None = None) -> list[RunHistory]:
        """Return the stored series that have at least these labels."""
        found = []
        for one in self._store.series(labels or {}):
            runs = self._store.runs(one.id)
            found.append(
                RunHistory(
                    target=one.target,
                    test=one.test,
                    labels=one.labels,
                    runs=len(runs),
                    incomplete=sum(not complete for _, complete in runs),
                    first_at=runs[0][0],
                    last_at=runs[-1][0],
                )
            )
        return found

    def check(
        self, *, last: int = DEFAULT_LAST, labels: Mapping[str, str] | None = None
    ) -> list[Change]:
        """Return the changes of level within the newest runs of each series, including acknowledged
        ones.

        Args:
            last: How many runs of each series to analyse. With few runs only large changes are
                found; with many runs, old changes are reported as well.
            labels: Analyse only series that have at least these labels.
        """
        if last < MIN_RUNS:
            raise SpecError(f"the last {last} runs are too few: at least {MIN_RUNS} are needed")
        found: list[Change] = []
        for series in self._store.series(labels or {}):
            looked = self._store.looked(series.id)
            for (way, metric), runs in self._store.values(series.id, last).items():
                found += self._changes(series, way, metric, runs, looked)
            self._store.look(series.id)
        return found

    def _changes(
        self,
        series: SeriesOfRuns,
        way: str,
        metric: str,
        runs: Sequence[StoredRun],
        looked: int,
    ) -> Iterator[Change]:
        """Yield the changes of one figure, and store new changes.

        Args:
            series: The series.
            way: "upload" or "download".
            metric: The figure's name.
            runs: The figure of each run.
            looked: The number of the last run that existed at the last check.
        """
        values = tuple(run.value for run in runs)
        known = self._store.known(series.id, way, metric)
        places = {run.run: place for place, run in enumerate(runs)}
        told = [Told(places[one.run], one.after > one.before) for one in known if one.run in places]
        least = least_scatter(metric, positive=min(values) > 0)
        found = shifts(values, least, told, sum(run.run <= looked for run in runs))
        if not found:
            return
        ends = [*(shift.place for shift in found[1:]), len(values)]
        for shift, end in zip(found, ends, strict=True):
            if not matters(metric, shift.before, shift.after):
                continue
            before, first = runs[shift.place - 1], runs[shift.place]
            same = _same(known, places, shift)
            if same is None:
                row = (series.id, way, metric, first.run, shift.before, shift.after)
                number = self._store.tell(*row)
                same = KnownChange(number, first.run, shift.before, shift.after, None, None)
            yield Change(
                number=same.id,
                target=series.target,
                test=series.test,
                labels=series.labels,
                direction="download" if way == "download" else "upload",
                metric=metric,
                before=shift.before,
                after=shift.after,
                last_before_at=before.started_at,
                first_after_at=first.started_at,
                runs_after=end - shift.place,
                values=values,
                acknowledged=same.acknowledged_at is not None,
                note=same.note,
            )

    def acknowledge(
        self, numbers: Sequence[int] | None = None, *, note: str | None = None
    ) -> list[int]:
        """Mark changes as acknowledged, so that no later check fails because of them; return their
        numbers.

        Args:
            numbers: `Change.number` of each change; None: all open changes.
            note: The reason for the acknowledgement.

        Raises:
            SpecError: There is no change with one of the numbers.
        """
        if numbers is not None:
            unknown = sorted(set(numbers) - set(self._store.all_changes()))
            if unknown:
                raise SpecError(
                    f"{unknown[0]} is not the number of a change", hint="`history check` shows them"
                )
        at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return self._store.acknowledge(numbers, at, note)


def _same(
    known: Sequence[KnownChange], places: Mapping[int, int], shift: Shift
) -> KnownChange | None:
    """Return the earlier report of a change. The best place of a change moves by a few runs as runs
    are added, so the nearest reported change within a few runs is the same one."""
    up = shift.after > shift.before
    near = [
        (abs(places[one.run] - shift.place), one.id, one)
        for one in known
        if one.run in places and (one.after > one.before) == up
    ]
    return next((one for apart, _, one in sorted(near)[:1] if apart <= SAME_PLACE), None)
