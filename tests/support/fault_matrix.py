"""Run cells of the fault matrix, many at a time, and report what is wrong with their ends."""

from __future__ import annotations

import asyncio
import collections
import concurrent.futures
import contextlib
import functools
import multiprocessing
import os
import signal
import ssl
import sys
from collections.abc import AsyncIterator, Callable, Iterable
from multiprocessing import forkserver
from multiprocessing.connection import Connection as Pipe
from typing import Any, NamedTuple, Self

import netmeasure as nm
from netmeasure.protocol.states import Kind, Side
from support import census, certificates, warm
from support.fault_proxy import FaultProxy
from support.fault_table import BENIGN, TO_PROCESS, Cell, Talk
from support.ports import free_port

_KEY = b"the matrix's own secret, 32 bytes"
#: How long each end waits for the next step of the other end, except for faults that it must
#: survive.
IMPATIENT_S, PATIENT_S = 1.0, 15.0
#: What both ends' waits may come to in all, and what a busy machine may take besides.
_WAITS, _SLACK_S = 6, 30.0
_RUNS_S = 1
_POLL_S = 0.05
_GRACE_S = 0.5
_BITRATE = 1_000_000
_NICE = 10
_OCCUPANT = "occupant"


class End:
    """Hold how a test ended at one end of ours, as text that can be sent through a pipe."""

    def __init__(self) -> None:
        self.done = False
        self.complete = False
        self.doubts = False
        self.code = ""
        self.said = ""
        self.wrong: list[str] = []
        self.moved: list[tuple[int | None, int | None]] = []

    def has(self, result: nm.Result | None, error: BaseException | None) -> Self:
        """Return the end for a result, and for its error if there was one."""
        self.done = True
        if error is not None:
            self._judge_error(error)
        if result is not None:
            self._judge_result(result, error)
        return self

    def _judge_error(self, error: BaseException) -> None:
        if not isinstance(error, nm.MeasureError):
            self.wrong.append(f"ended with {error!r}")
            return
        text, self.code = f"{error}", error.code
        if not (error.code and error.phase and text and "\n" not in text and len(text) < 400):
            self.wrong.append(f"says {error.code!r} in {error.phase!r}: {text[:400]}")

    def _judge_result(self, result: nm.Result, error: BaseException | None) -> None:
        self.complete, self.doubts = result.complete, bool(result.notes)
        self.said = result.error.message if result.error is not None else ""
        if result.complete is (result.error is not None) or (error and result.complete):
            self.wrong.append(f"is complete: {result.complete}, with the error {result.error}")
        if nm.Result.from_json(result.to_json()) != result:
            self.wrong.append("has a result that is another one once it was saved")
        self.moved = [(flow.sender.bytes, flow.receiver.bytes) for flow in result.flows]


#: In a process of its own, the certificate that its parent has made.
_given: list[certificates.Certificate] = []


def _certificate() -> certificates.Certificate:
    return _given[0] if _given else certificates.certificate()


def spec(talk: Talk, wait_s: float) -> Any:
    """Return the specification of a client of ours."""
    ca = str(_certificate().pem) if talk.tls else None
    deadlines = nm.Deadlines(
        connect_s=PATIENT_S,
        handshake_s=wait_s,
        stall_s=wait_s,
        vanished_s=wait_s,
        drain_s=wait_s,
        results_s=wait_s,
    )
    more: dict[str, Any] = {
        "timing": nm.Timing(duration_s=0.3),
        "deadlines": deadlines,
        "secret": nm.Secret(key=_KEY) if talk.secret else None,
        "tls": talk.tls,
        "ca_file": ca,
    }
    if talk.test in ("rr", "crr"):
        return nm.RrSpec(keep_connections=talk.test == "rr", target_tps=100, **more)
    more["latency"] = False  # the proxy does not forward UDP, which would add a note to each result
    kind = nm.UdpSpec if talk.test == "udp" else nm.TcpSpec
    direction = "download" if talk.download else "upload"
    return kind(direction=direction, target_bps=_BITRATE, **more)  # type: ignore[arg-type]


def limits(talk: Talk, wait_s: float) -> nm.ServerLimits:
    return nm.ServerLimits(
        max_tests=1 if talk.queue else 64,
        cookie_s=wait_s,
        handshake_s=wait_s,
        streams_s=wait_s,
        stall_s=wait_s,
        drain_s=wait_s,
        results_s=wait_s,
        vanished_s=wait_s,
    )


@contextlib.asynccontextmanager
async def serving(talk: Talk, wait_s: float) -> AsyncIterator[tuple[nm.Server, End]]:
    """Run a server of ours until it has reported how its only client ended, or has no clients
    left."""
    end, results, refusals = End(), list[nm.Result](), list[str]()
    its = _certificate() if talk.tls else None
    server = nm.serve(
        "127.0.0.1",
        0,
        limits=limits(talk, wait_s),
        on_result=results.append,
        on_refusal=refusals.append,
        secret=nm.Secret(key=_KEY) if talk.secret else None,
        tls=nm.ServerTls(certificate=str(its.pem), key=str(its.key)) if its else None,
    )
    async with server:
        yield server, end
    mine = [result for result in results if getattr(result.spec, "title", None) != _OCCUPANT]
    if len(mine) > 1:
        end.wrong.append(f"has {len(mine)} results of its one client")
    for result in mine:
        end.has(result, None)
    if not mine:
        end.said = "; ".join(refusals)


async def _left(server: nm.Server) -> None:
    """Wait until a server's client has gone and its resources are freed."""
    await asyncio.sleep(_POLL_S)  # the server accepts after the proxy has connected
    while server._sessions or server._strangers:  # noqa: ASYNC110
        await asyncio.sleep(_POLL_S)


# ---- ends in processes of their own ------------------------------------------------------------


class _Part(NamedTuple):
    """Hold what a process needs to know to be one end."""

    talk: Talk
    side: Side
    wait_s: float
    port: int
    certificate: certificates.Certificate | None


def _child(pipe: Pipe, part: _Part) -> None:
    """Be one end of a test. Report how the test ended, and which resources it has left behind."""
    if part.certificate is not None:
        _given.append(part.certificate)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    before = census.take()
    end = asyncio.run(
        _serve_in_child(pipe, part.talk, part.wait_s)
        if part.side is Side.SERVER
        else _measured(part.talk, part.wait_s, part.port)
    )
    end.wrong += [f"left {line}" for line in census.leftovers(before)]
    pipe.send(end)
    pipe.close()


async def warm_up() -> None:
    """Create what a process keeps after its first test: thread pools, modules."""
    async with nm.serve("127.0.0.1", 0) as server:
        await nm.measure(server.address, nm.TcpSpec(timing=nm.Timing(total_bytes=1000)))


async def _serve_in_child(pipe: Pipe, talk: Talk, wait_s: float) -> End:
    async with serving(talk, wait_s) as (server, end):
        pipe.send(server.port)
        await _readable(pipe)  # the other end has ended
        pipe.recv()
        await _left(server)
        end.done = True
    return end


async def _measured(talk: Talk, wait_s: float, port: int) -> End:
    client = nm.connect(f"127.0.0.1:{port}").run(spec(talk, wait_s))
    error: BaseException | None = None
    try:
        async with client:
            await client.wait()
    except Exception as exc:
        error = exc
    return End().has(client.result, error)


async def _readable(pipe: Pipe) -> None:
    loop, ready = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(pipe.fileno(), ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(pipe.fileno())


class _Child:
    """Hold a process of ours that can be killed and stopped."""

    def __init__(self, talk: Talk, side: Side, wait_s: float, port: int = 0) -> None:
        context = multiprocessing.get_context("forkserver")
        self.pipe, theirs = context.Pipe()
        part = _Part(talk, side, wait_s, port, _certificate() if talk.tls else None)
        self._process = context.Process(target=_child, args=(theirs, part))
        self._process.start()
        theirs.close()
        self.pid = self._process.pid or 0

    async def told(self) -> Any:
        """Return the next message of the process; None if it has died."""
        await _readable(self.pipe)
        try:
            return self.pipe.recv()
        except (EOFError, OSError):
            return None

    async def close(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        await asyncio.to_thread(self._process.join)
        self._process.close()
        self.pipe.close()


@contextlib.contextmanager
def processes() -> Any:
    """Keep a process that has imported all modules that ends in processes of their own need.

    That includes modules that this process has imported late, for a test.
    """
    asyncio.run(warm_up())
    late = [name for name in sys.modules if name.startswith(("netmeasure.", "numpy."))]
    warm.stop()  # a process has one such server, and what that has imported is fixed
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["support.fault_matrix", *late])
    forkserver.ensure_running()
    try:
        yield
    finally:
        warm.stop()


# ---- one cell ----------------------------------------------------------------------------------


class Trial:
    """Hold one cell: both ends with the proxy between them."""

    def __init__(self, cell: Cell, impatient_s: float = IMPATIENT_S) -> None:
        self.cell = cell
        self.wait_s = PATIENT_S if cell.fault in BENIGN else impatient_s
        self.deadline_s = _WAITS * self.wait_s + _RUNS_S + _SLACK_S
        self.wrong: list[str] = []
        #: the error of a client of ours, if there was one
        self.codes: list[str] = []
        #: whether the fault happened at all
        self.reached = False
        self.hung: list[str] = []
        self._child: _Child | None = None
        self._iperf3: dict[Side, asyncio.subprocess.Process] = {}
        self._first_word: asyncio.Future[Any] | None = None
        self._occupied: asyncio.Task[nm.Result] | None = None
        self._stop = asyncio.Event()

    async def run(self) -> list[str]:
        """Return what was wrong; an empty list if nothing was."""
        work = asyncio.ensure_future(self._run_all())
        done, _ = await asyncio.wait([work], timeout=2 * self.deadline_s)
        if not done:
            self.wrong.append(f"the trial itself hangs in {_where(work)}")
            work.cancel()
            await asyncio.wait([work], timeout=_SLACK_S)
        return [f"{self.cell.name}: {line}" for line in self.wrong]

    async def _run_all(self) -> None:
        try:
            async with contextlib.AsyncExitStack() as stack:
                await self._run(stack)
        except Exception as exc:
            self.wrong.append(f"the trial itself: {exc!r}")

    @property
    def _hits_process(self) -> bool:
        return self.cell.fault in TO_PROCESS

    def _is_child(self, side: Side) -> bool:
        """Return whether an end of ours needs a process of its own."""
        return self._hits_process and side is self.cell.victim

    async def _run(self, stack: contextlib.AsyncExitStack) -> None:
        talk = self.cell.talk
        server: nm.Server | None = None
        ends: dict[Side, End] = {}
        closing = stack.push_async_callback
        if talk.server == "iperf3":
            port = free_port()
            await self._start_iperf3(Side.SERVER, "-s", "-1", "-p", str(port))
            closing(self._end_iperf3, Side.SERVER)
        elif self._is_child(Side.SERVER):
            self._child = _Child(talk, Side.SERVER, self.wait_s)
            closing(self._child.close)
            port = await self._child.told()
        else:
            inner = contextlib.AsyncExitStack()
            here, ends[Side.SERVER] = await inner.enter_async_context(serving(talk, self.wait_s))
            closing(inner.aclose)
            server, port = here, here.port
        if talk.queue:
            closing(self._vacate)
            if not await self._occupy(port):
                self.wrong.append("not reached: the test that takes the only place has failed")
                return
        proxy = FaultProxy(
            ("127.0.0.1", port),
            self.cell,
            on_strike=self._signal,
            on_message=self._heard,
            **(_tls() if talk.tls else {}),
        )
        await stack.enter_async_context(proxy)
        await self._within(self._client(proxy, ends, stack), "the first end")
        await self._ended(proxy, server, ends)
        self.reached = proxy.struck.is_set()
        if not self.reached:
            self.wrong.append(f"not reached: {proxy.steps_passed} messages passed")
        if server is not None:
            await inner.aclose()
        self._judge(ends)

    async def _client(
        self, proxy: FaultProxy, ends: dict[Side, End], stack: contextlib.AsyncExitStack
    ) -> None:
        """Start the client, and wait until the end that is not hit by the fault has ended."""
        talk = self.cell.talk
        if talk.client == "iperf3":
            udp = ["-u"] if talk.test == "udp" else []
            way = ["-R"] if talk.download else []
            words = ["-c", "127.0.0.1", "-p", str(proxy.port), "-t", str(_RUNS_S), "-b", "1M", "-J"]
            await self._start_iperf3(Side.CLIENT, *words, *udp, *way)
            await self._first(proxy.struck.wait(), self._iperf3[Side.CLIENT].wait())
        elif self._is_child(Side.CLIENT):
            self._child = _Child(talk, Side.CLIENT, self.wait_s, proxy.port)
            closing = stack.push_async_callback
            closing(self._child.close)
            self._first_word = asyncio.ensure_future(self._child.told())
            closing(_cancelled, self._first_word)
            await self._first(proxy.struck.wait(), asyncio.shield(self._first_word))
        else:
            client = _measured(talk, self.wait_s, proxy.port)
            ends[Side.CLIENT] = await self._within(client, "the client") or End()

    async def _first(self, *waits: Any) -> None:
        """Wait until one of these is over."""
        tasks = [asyncio.ensure_future(wait) for wait in waits]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                await _cancelled(task)

    async def _ended(
        self, proxy: FaultProxy, server: nm.Server | None, ends: dict[Side, End]
    ) -> None:
        """Wait for the ends that are still running."""
        cell = self.cell
        if cell.talk.queue:
            self._stop.set()
        if server is not None:
            await self._within(_left(server), "the server")
            ends[Side.SERVER].done = True
        if cell.fault == "freeze":
            if cell.victim is Side.CLIENT and Side.SERVER in self._iperf3:
                await self._iperf3_over(Side.SERVER)
            self._continue()
            proxy.thaw()
        if self._child is not None and cell.fault == "freeze":
            if cell.victim is Side.SERVER:
                self._child.pipe.send("over")
            word = self._first_word or self._child.told()
            end = await self._within(word, f"the frozen {cell.victim.value}")
            if end is None:
                self.wrong.append(f"the frozen {cell.victim.value} has died")
            else:
                ends[cell.victim] = end
        for side in self._iperf3:
            if self._iperf3[side].returncode is None:
                await self._iperf3_over(side)

    async def _within(self, work: Any, who: str) -> Any:
        try:
            async with asyncio.timeout(self.deadline_s):
                return await work
        except TimeoutError:
            self.wrong.append(f"{who} hangs: it is not over after {self.deadline_s:g} s")

    def _judge(self, ends: dict[Side, End]) -> None:
        cell = self.cell
        if (client := ends.get(Side.CLIENT)) is not None and client.code:
            self.codes.append(client.code)
        for side, end in ends.items():
            self.wrong += [f"the {side.value} {line}" for line in end.wrong]
            if cell.fault in BENIGN and not end.complete:
                self.wrong.append(f"the {side.value} did not come through: {end.said or end.code}")
            if cell.owes and side is not cell.victim and end.complete:
                self.wrong.append(f"the {side.value} is complete, without what it had to wait for")
            if end.complete and not end.doubts and cell.talk.test == "tcp" and cell.talk.extended:
                for sent, received in end.moved:
                    if sent is not None and received != sent:
                        self.wrong.append(
                            f"the {side.value} is complete: {sent} bytes sent, {received} received"
                        )
        complete = [end.moved for end in ends.values() if end.complete and not end.doubts]
        if len(complete) == 2 and cell.talk.test == "tcp" and complete[0] != complete[1]:
            self.wrong.append(f"both ends are complete, with different totals: {complete}")

    # ---- signals

    def _victim_pid(self) -> int:
        if self._child is not None:
            return self._child.pid
        return self._iperf3[self.cell.victim].pid

    def _signal(self) -> None:
        number = signal.SIGKILL if self.cell.fault == "kill" else signal.SIGSTOP
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._victim_pid(), number)

    def _continue(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._victim_pid(), signal.SIGCONT)

    # ---- a full server

    async def _occupy(self, port: int) -> bool:
        """Let another client take the server's only place, until this client has been told so.

        Return whether it has got the place: on a busy machine the server may give it up.
        """
        talk = self.cell.talk._replace(test="tcp", download=False)
        wanted = nm.TcpSpec(
            title=_OCCUPANT,
            target_bps=100_000,
            timing=nm.Timing(duration_s=600),
            secret=spec(talk, 1).secret,
        )
        started = asyncio.Event()

        async def occupy() -> None:
            async with nm.connect(f"127.0.0.1:{port}").run(wanted) as run:
                async for _ in run:
                    started.set()
                    break
                await self._stop.wait()
                run.stop()
                with contextlib.suppress(nm.MeasureError):
                    await run.wait()

        self._occupied = asyncio.ensure_future(occupy())  # type: ignore[arg-type]
        await self._first(started.wait(), asyncio.shield(self._occupied))
        return started.is_set()

    def _heard(self, kind: Kind) -> None:
        if kind is Kind.QUEUED and self.cell.talk.queue:
            self._stop.set()

    async def _vacate(self) -> None:
        self._stop.set()
        if self._occupied is not None:
            await asyncio.gather(self._occupied, return_exceptions=True)

    # ---- iperf3

    async def _start_iperf3(self, side: Side, *words: str) -> None:
        null = asyncio.subprocess.DEVNULL
        self._iperf3[side] = await asyncio.create_subprocess_exec(
            "iperf3", *words, stdin=null, stdout=null, stderr=null
        )
        # iperf3 busy-loops, and both ends of ours are in this process: many at once would starve
        # them
        os.setpriority(os.PRIO_PROCESS, self._iperf3[side].pid, _NICE)

    async def _iperf3_over(self, side: Side) -> None:
        """Wait for iperf3 after our end has ended.

        In some places iperf3 waits for ever and keeps a CPU busy. That is not a fault of ours.
        """
        wait_s = self.deadline_s if self.cell.fault in BENIGN else _GRACE_S
        try:
            async with asyncio.timeout(wait_s):
                await self._iperf3[side].wait()
        except TimeoutError:
            self.hung.append(f"iperf3's {side.value}")
            await self._end_iperf3(side)

    async def _end_iperf3(self, side: Side) -> None:
        process = self._iperf3[side]
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _cancelled(task: asyncio.Future[Any]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _where(task: asyncio.Task[Any]) -> str:
    """Return the functions in which a task waits."""
    names: list[str] = []
    awaited: Any = task.get_coro()
    while awaited is not None:
        names.append(getattr(awaited, "__qualname__", type(awaited).__name__))
        awaited = getattr(awaited, "cr_await", None)
    return " > ".join(names)


@functools.cache
def _contexts() -> tuple[ssl.SSLContext, ssl.SSLContext]:
    its = _certificate()
    return its.server(), ssl.create_default_context(cafile=str(its.pem))


def _tls() -> dict[str, ssl.SSLContext]:
    server, client = _contexts()
    return {"server_tls": server, "client_tls": client}


# ---- many cells --------------------------------------------------------------------------------


async def run_cells(
    wanted: Iterable[Cell],
    at_a_time: int,
    impatient_s: float = IMPATIENT_S,
    report: Callable[[str], object] = lambda line: None,
) -> tuple[list[str], collections.Counter[str]]:
    """Run cells, so many at a time. Return what was wrong, and which iperf3 programs hung."""
    loop = asyncio.get_running_loop()
    loop.set_default_executor(concurrent.futures.ThreadPoolExecutor(at_a_time + 4))
    crashes: list[str] = []
    loop.set_exception_handler(lambda _, context: crashes.append(f"in no cell: {context}"))
    waiting, wrong = list(wanted)[::-1], list[str]()
    hung: collections.Counter[str] = collections.Counter()

    async def work() -> None:
        while waiting:
            cell = waiting.pop()
            # on a busy machine an end may give up before the fault happens: retry with more time
            for wait_s in (impatient_s, 4 * impatient_s, PATIENT_S):
                trial = Trial(cell, wait_s)
                found = await trial.run()
                if trial.reached:
                    break
            wrong.extend(found)
            for line in found:
                report(line)
            hung.update(trial.hung)

    async with asyncio.TaskGroup() as group:
        for _ in range(at_a_time):
            group.create_task(work())
    return wrong + crashes, hung
