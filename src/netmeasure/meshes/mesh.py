"""Measure every directed pair of a Dask cluster's workers, in rounds.

Dask starts the workers, sends the calls and detects lost workers. The extra `netmeasure[mesh]`
installs Dask. The caller imports it to create the client, so this module does not import it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import suppress
from typing import Any
from urllib.parse import urlsplit

import msgspec

from netmeasure.clock import now_ns
from netmeasure.comparison.mesh import MeshReport, MeshRun, join_mesh
from netmeasure.errors import SpecError
from netmeasure.meshes.rounds import Pair, in_rounds
from netmeasure.meshes.worker import MeshNode
from netmeasure.result import Result
from netmeasure.spec import FtpSpec, HttpSpec, PeerSpec, RequestSpec, TcpSpec, Timing

#: The time that a call of a worker may take in addition to its test: set-up, results, and Dask's
#: messages.
_SPARE_S = 60.0
#: If a test is this much later than planned, or fails, the mesh checks whether both workers still
#: answer, within the second time. The connections of a host without network stay open, so that Dask
#: would detect the loss only after minutes, and each round would wait for the host again.
_LATE_S = 10.0
_ANSWER_S = 5.0
MAX_AT_ONCE = 64
MAX_SETTLE_S = 600
_LOOKS = 10  # at the workers, while they settle


class _Node:
    """Hold a worker: its actor, and the address of its server."""

    def __init__(self, actor: Any, address: str, port: int) -> None:
        self.actor = actor
        self.address = address
        self.port = port

    async def measure(self, there: _Node, spec: bytes) -> tuple[bytes | None, str | None]:
        """Measure against another node's server; return the encoded result and an error.

        Raises various exceptions of Dask if this worker is gone: the actor of a lost worker raises
        one as soon as a method of it is named.
        """
        data, error = await self.actor.measure(there.address, there.port, spec)
        return data, error

    async def answers(self) -> str | None:
        """Return None if the worker answers, otherwise the reason why it counts as lost."""
        try:
            async with asyncio.timeout(_ANSWER_S):
                await self.actor.here()
        except TimeoutError:
            return f"it has not answered for {_ANSWER_S:g} s"
        except Exception as exc:  # Dask raises various exceptions if a worker is gone
            return _first_line(exc)
        return None


class Mesh:
    """Measure a mesh, and hold its runs::

        async with distributed.Client("tcp://...:8786", asynchronous=True) as client:
            mesh = nm.Mesh(client, at_once=2)
            async for run in mesh.run():
                print(run.client, run.server, run.error or "complete")
        print(mesh.report.odd)

    Attributes:
        nodes: The workers' names, known once the mesh runs.
        rounds: The pairs of each round.
        runs: The runs so far.
    """

    def __init__(
        self,
        client: Any,
        spec: PeerSpec | None = None,
        *,
        at_once: int = 1,
        addresses: Mapping[str, str] | None = None,
        settle_s: float = 0.0,
    ) -> None:
        """Prepare a mesh.

        Args:
            client: An asynchronous `distributed.Client`.
            spec: The test of each pair; None: a TCP upload of 2 s.
            at_once: The most tests that a node takes part in at a time.
            addresses: The addresses to measure between, by the workers' names; None: the addresses
                at which Dask's scheduler reaches them.
            settle_s: Begin when no worker has joined or left for this many seconds, or after ten
                times as long; 0: begin at once.

        Raises:
            SpecError: A value is out of range.
        """
        if not 0 <= settle_s <= MAX_SETTLE_S:
            raise SpecError(f"{settle_s:g} s to settle: it must be 0 to {MAX_SETTLE_S}")
        if not 1 <= at_once <= MAX_AT_ONCE:
            raise SpecError(f"{at_once} tests at once: it must be 1 to {MAX_AT_ONCE}")
        if isinstance(spec, HttpSpec | FtpSpec | RequestSpec):
            raise SpecError("a mesh measures between its nodes, not by URL")
        self._client = client
        self._spec: PeerSpec = TcpSpec(timing=Timing(duration_s=2.0)) if spec is None else spec
        self._addresses = dict(addresses or {})
        self._at_once = at_once
        self._settle_s = settle_s
        self._nodes: dict[str, _Node] = {}  # the workers that are not lost
        self._started: list[_Node] = []
        self._lost: dict[str, str] = {}  # the reason, by the worker's name
        self._begun_ns = 0
        self.nodes: tuple[str, ...] = ()
        self.rounds: list[list[Pair]] = []
        self.runs: list[MeshRun] = []

    @property
    def report(self) -> MeshReport:
        """Return the figures of all pairs so far, and the odd pairs."""
        return join_mesh(self.runs, self.nodes, at_once=self._at_once, rounds=len(self.rounds))

    async def run(self) -> AsyncGenerator[MeshRun, None]:
        """Start a server on each worker, measure all pairs, and yield each run when it ends.

        If a worker is lost, only its own pairs fail. They are tried once more at the end if a
        worker of the same name has joined. Leaving the loop ends the servers.

        Raises:
            SpecError: There are fewer than two workers, or two have the same name.
        """
        try:
            self.nodes = tuple(await self._start())
            # 1000 nodes take seconds
            self.rounds = await asyncio.to_thread(in_rounds, self.nodes, self._at_once)
            self._begun_ns = now_ns()
            for number, pairs in enumerate(self.rounds, 1):
                async for run in self._round(number, pairs):
                    yield run
            lost = [(run.client, run.server) for run in self.runs if run.error is not None]
            if lost:
                await self._look_again()
                without = self._all_but(lost)
                again = await asyncio.to_thread(in_rounds, self.nodes, self._at_once, without)
                for pairs in again:
                    self.rounds.append(pairs)
                    async for run in self._round(len(self.rounds), pairs):
                        yield run
        finally:
            await self._stop()

    def _all_but(self, lost: list[Pair]) -> frozenset[Pair]:
        every = {(a, b) for a in self.nodes for b in self.nodes}
        here = {pair for pair in lost if all(name in self._nodes for name in pair)}
        return frozenset(every - here)

    # ---- workers

    async def _workers(self) -> dict[str, str]:
        """Return the addresses of the workers that the scheduler knows, by their names."""
        async with asyncio.timeout(_SPARE_S):
            known = await self._client.scheduler.identity()
        found: dict[str, str] = {}
        for address, worker in known["workers"].items():
            name = str(worker["name"])
            if name in found:
                raise SpecError(f"two workers are called {name!r}", hint="give each its --name")
            found[name] = address
        return found

    async def _settled(self) -> dict[str, str]:
        """Return the workers once at least two workers have stayed the same for the time to
        settle."""
        workers = await self._workers()
        same = 0
        for _ in range(_LOOKS**2 if self._settle_s else 0):
            await asyncio.sleep(self._settle_s / _LOOKS)
            before, workers = workers, await self._workers()
            same = same + 1 if workers == before and len(workers) > 1 else 0
            if same == _LOOKS:
                break
        return workers

    async def _start(self) -> list[str]:
        workers = await self._settled()
        if len(workers) < 2:
            raise SpecError(
                f"a mesh needs at least two workers, and the cluster has {len(workers)}",
                hint="start one on each node: dask worker SCHEDULER --name NODE",
            )
        begun = (self._begin(name, where, _SPARE_S) for name, where in workers.items())
        await asyncio.gather(*begun)
        return sorted(workers, key=_by_number)

    async def _begin(self, name: str, worker: str, limit_s: float) -> None:
        """Start the server of a worker. A worker whose server can't be started is lost."""
        try:
            async with asyncio.timeout(limit_s):
                self._nodes[name] = await self._begun(name, worker)
            self._lost.pop(name, None)
        except TimeoutError:
            self._lost[name] = f"it has not started a server for {limit_s:g} s"
        except Exception as exc:  # Dask raises various exceptions if a worker is gone
            self._lost[name] = _first_line(exc)

    async def _begun(self, name: str, worker: str) -> _Node:
        address = self._addresses.get(name) or urlsplit(worker).hostname or "127.0.0.1"
        actor = await self._client.submit(
            MeshNode, actor=True, workers=[worker], allow_other_workers=False, pure=False
        )
        port = await actor.start(address, self._at_once)
        node = _Node(actor, address, port)
        self._started.append(node)
        return node

    async def _look_again(self) -> None:
        """Remove the workers that are gone, and start servers on those that have joined again."""
        with suppress(OSError):
            workers = await self._workers()
            for name in set(self._nodes) - set(workers):
                del self._nodes[name]
            back = set(self.nodes) & set(workers) - set(self._nodes)
            begun = (self._begin(name, workers[name], _LATE_S) for name in back)
            await asyncio.gather(*begun)

    async def _stop(self) -> None:
        async def stop(node: _Node) -> None:
            with suppress(Exception):  # a worker that is gone no longer has a server
                async with asyncio.timeout(_ANSWER_S):
                    await node.actor.stop()

        await asyncio.gather(*(stop(node) for node in self._started))
        self._started.clear()
        self._nodes.clear()

    # ---- tests

    async def _round(self, number: int, pairs: list[Pair]) -> AsyncGenerator[MeshRun, None]:
        tasks = [asyncio.ensure_future(self._test(number, *pair)) for pair in pairs]
        try:
            for done in asyncio.as_completed(tasks):
                run = await done
                self.runs.append(run)
                yield run
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _test(self, number: int, client: str, server: str) -> MeshRun:
        begun = now_ns() - self._begun_ns
        result, error = await self._measured(client, server)
        return MeshRun(
            round=number,
            client=client,
            server=server,
            begun_ns=begun,
            ended_ns=now_ns() - self._begun_ns,
            result=result,
            error=error,
        )

    async def _measured(self, client: str, server: str) -> tuple[Result | None, str | None]:
        if (lost := self._lost_of(client, server)) is not None:
            return None, lost
        here, there = self._nodes[client], self._nodes[server]
        spec = msgspec.msgpack.encode(self._spec)
        asked = asyncio.ensure_future(here.measure(there, spec))
        own_s = (self._spec.limit_s or 0) + self._spec.timing.omit_s
        until_s = now_ns() / 1e9 + own_s + _SPARE_S
        try:
            done, _ = await asyncio.wait({asked}, timeout=own_s + _LATE_S)
            while not done and now_ns() / 1e9 < until_s:
                await self._look_at(client, server)
                if client not in self._nodes:
                    break
                done, _ = await asyncio.wait({asked}, timeout=_LATE_S)
            if not done:
                self._lose(client, "its test has not ended")
                return None, self._lost_of(client, server)
            data, error = asked.result()
        except Exception as exc:  # Dask raises various exceptions if a worker is gone
            self._lose(client, _first_line(exc))
            return None, self._lost_of(client, server)
        finally:
            asked.cancel()
        if error:
            await self._look_at(server)
            error = self._lost_of(server) or error
        return None if data is None else Result.from_json(data), error or None

    async def _look_at(self, *names: str) -> None:
        """Mark the workers that do not answer as lost."""
        nodes = [(name, self._nodes[name]) for name in names if name in self._nodes]
        answers = await asyncio.gather(*(node.answers() for _, node in nodes))
        for (name, node), why in zip(nodes, answers, strict=True):
            if why is not None and self._nodes.get(name) is node:
                self._lose(name, why)

    def _lose(self, name: str, why: str) -> None:
        self._nodes.pop(name, None)
        self._lost.setdefault(name, why)

    def _lost_of(self, *names: str) -> str | None:
        """Return a sentence about the first lost one of these workers; None: none is lost."""
        for name in names:
            if name not in self._nodes:
                why = f": {self._lost[name]}" if name in self._lost else ""
                return f"the worker {name} is lost{why}"
        return None


async def mesh(
    client: Any,
    spec: PeerSpec | None = None,
    *,
    at_once: int = 1,
    addresses: Mapping[str, str] | None = None,
    settle_s: float = 0.0,
    on_run: Callable[[MeshRun], None] | None = None,
) -> MeshReport:
    """Measure every pair of a Dask cluster's workers, and return their figures.

    `on_run` is called with each run when it ends. The other arguments are those of `Mesh`.
    """
    measured = Mesh(client, spec, at_once=at_once, addresses=addresses, settle_s=settle_s)
    async for run in measured.run():
        if on_run is not None:
            on_run(run)
    return measured.report


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0][:200]


def _by_number(name: str) -> tuple[str, int]:
    """Return a sort key that puts node2 before node10."""
    digits = name[len(name.rstrip("0123456789")) :]
    return name[: len(name) - len(digits)], int(digits or 0)
