"""Run tests by schedule and on request, never two on one path at the same time, and keep their
figures."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from types import TracebackType

import msgspec

from netmeasure.client import measure
from netmeasure.errors import BusyError, MeasureError, NetmeasureError
from netmeasure.export.rows import RunRow, run_rows
from netmeasure.exporter.config import Config, Module, Scheduled, path_of, shown
from netmeasure.measurement.run import partial_result
from netmeasure.result import Result


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the outcome of one run.

    Attributes:
        rows: The figures, one row for each direction; a failed run has at least one row.
        started_s: The planned start of the run, in seconds since 1970.
        waited_s: How long the run waited for other runs on its path.
        took_s: How long the run took, waiting included.
    """

    rows: tuple[RunRow, ...]
    started_s: float
    waited_s: float
    took_s: float

    @property
    def success(self) -> bool:
        """Return whether the run is complete."""
        return all(row.success for row in self.rows)


class Kept(msgspec.Struct, kw_only=True):
    """Hold the state of a scheduled test.

    Attributes:
        scheduled: The test.
        last: Its last run; None: no run yet.
        good: Its last complete run.
        counts: Its runs by outcome: "complete" or "failed". "skipped" counts starts that were not
            possible because the previous run had not ended.
    """

    scheduled: Scheduled
    last: Outcome | None = None
    good: Outcome | None = None
    counts: Counter[str] = msgspec.field(
        default_factory=lambda: Counter(complete=0, failed=0, skipped=0)
    )


class Exporter:
    """Run an exporter's tests. Use it as an async context manager; scheduled tests run within the
    block."""

    def __init__(self, config: Config, *, chance: random.Random | None = None) -> None:
        self.config = config
        self.kept = [Kept(scheduled=one) for one in config.scheduled]
        self.probes: Counter[str] = Counter(complete=0, failed=0, refused=0)
        self.probing = 0
        self._chance = chance or random.Random()
        self._slots = asyncio.Semaphore(config.at_once)
        self._paths: dict[str, tuple[asyncio.Lock, int]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Exporter:
        self._tasks = [
            asyncio.create_task(self._repeat(kept), name="netmeasure-scheduled")
            for kept in self.kept
        ]
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def alive(self) -> bool:
        """Return whether all scheduled tests are still being repeated."""
        return not any(task.done() for task in self._tasks)

    async def probe(self, target: str, module: Module, timeout_s: float) -> Outcome:
        """Run a module against a target once. Raises SpecError, and BusyError if too many probes
        run or wait. A failure of the test itself is an outcome, not an error."""
        module.aimed(target)
        path = path_of(target)
        if self.probing >= self.config.max_probes:
            self.probes["refused"] += 1
            raise BusyError(f"{self.probing} probes run or wait already", hint="ask again later")
        self.probing += 1
        try:
            outcome = await self._run(target, module, path, timeout_s)
        finally:
            self.probing -= 1
        self.probes["complete" if outcome.success else "failed"] += 1
        return outcome

    async def _repeat(self, kept: Kept) -> None:
        """Run a scheduled test repeatedly."""
        one, loop = kept.scheduled, asyncio.get_running_loop()
        due = loop.time()
        while True:
            start = due + self._chance.uniform(0, one.jitter_s)
            await asyncio.sleep(start - loop.time())
            kept.last = await self._run(one.target, one.module, one.path, one.module.timeout_s)
            if kept.last.success:
                kept.good = kept.last
            kept.counts["complete" if kept.last.success else "failed"] += 1
            due += one.every_s
            while due < loop.time():
                due += one.every_s
                kept.counts["skipped"] += 1

    async def _run(
        self, target: str, module: Module, path: str | None, timeout_s: float
    ) -> Outcome:
        wall_s, began = time.time(), time.monotonic()
        waited_s: float | None = None
        result: Result | None = None
        error: BaseException | None = None
        address, spec = module.aimed(target)
        try:
            async with asyncio.timeout(timeout_s), self._alone(path), self._slots:
                waited_s = time.monotonic() - began
                result = await measure(address, spec)
        except TimeoutError as exc:
            result, error = partial_result(exc), exc
        except NetmeasureError as exc:
            result, error = partial_result(exc), exc
        took_s = time.monotonic() - began
        rows = [] if result is None else list(run_rows([result]))
        if error is not None or not rows:
            code, phase = _failure(error, waited_s)
            blank = RunRow(
                run=1,
                started_at="",
                target=shown(target),
                kind=str(spec.__struct_config__.tag),
                success=False,
            )
            rows = [
                msgspec.structs.replace(row, success=False, error=code, error_phase=phase)
                for row in rows or [blank]
            ]
        return Outcome(
            rows=tuple(msgspec.structs.replace(row, target=shown(target)) for row in rows),
            started_s=wall_s,
            waited_s=took_s if waited_s is None else waited_s,
            took_s=took_s,
        )

    @asynccontextmanager
    async def _alone(self, path: str | None) -> AsyncIterator[None]:
        """Keep other tests off a path while the body runs; None: other tests may run."""
        if path is None:
            yield
            return
        lock, users = self._paths.get(path, (asyncio.Lock(), 0))
        self._paths[path] = lock, users + 1
        try:
            async with lock:
                yield
        finally:
            lock, users = self._paths[path]
            if users == 1:  # probes may have any number of targets
                del self._paths[path]
            else:
                self._paths[path] = lock, users - 1


def _failure(error: BaseException | None, waited_s: float | None) -> tuple[str, str | None]:
    """Return the code and the phase of the error that ended a run."""
    if isinstance(error, MeasureError):
        return error.code, error.phase
    if isinstance(error, NetmeasureError):
        return error.code, None
    if isinstance(error, TimeoutError):
        return ("busy", "queue") if waited_s is None else ("timeout", None)
    return "stopped", None
