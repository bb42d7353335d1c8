"""Test an exporter: tests by schedule and on request become metrics, and so do failures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import re
import shutil
import subprocess
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import msgspec
import pytest
import yaml

import netmeasure as nm
from netmeasure.errors import BusyError
from netmeasure.export.fields import fields_of
from netmeasure.export.openmetrics import metric_name
from netmeasure.export.rows import RunRow
from netmeasure.exporter import metrics
from netmeasure.exporter.config import Config, Module, Scheduled
from netmeasure.exporter.exporter import Exporter, Outcome
from netmeasure.exporter.web import MARGIN_S, served
from support.measured import RunLoop, served as serving
from support.ports import nobody
from support.waiting import until

parser = pytest.importorskip("prometheus_client.openmetrics.parser")

ROOT = Path(__file__).parents[2]
SMALL = nm.TcpSpec(timing=nm.Timing(total_bytes=1000), block_bytes=1000)
QUICK = Module(name="quick", spec=SMALL, timeout_s=20.0)
HASTY = msgspec.structs.replace(QUICK, name="hasty", timeout_s=0.3)
CONFIG = Config(modules={"quick": QUICK, "hasty": HASTY}, at_once=4)

HEADER = "X-Prometheus-Scrape-Timeout-Seconds"

Samples = list[tuple[str, dict[str, str], float]]


def read(body: bytes) -> Samples:
    """The samples of an exposition, as Prometheus's own parser reads them."""
    return [
        (sample.name, sample.labels, sample.value)
        for family in parser.text_string_to_metric_families(body.decode())
        for sample in family.samples
    ]


def value(samples: Samples, name: str, **labels: str) -> float:
    (found,) = (v for n, have, v in samples if n == name and labels.items() <= have.items())
    return found


def scheduled(target: str, module: Module = QUICK, **more: Any) -> Scheduled:
    usual: dict[str, Any] = {
        "every_s": 0.02,
        "jitter_s": 0.005,
        "path": target,
        "labels": {"site": "here"},
    }
    return Scheduled(target=target, module=module, **usual | more)


@contextlib.asynccontextmanager
async def listening(answer: bytes | None = None, host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Listen, and be silent until the client closes, or send `answer` and close."""

    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if answer is None:
            await reader.read()
        else:
            writer.write(answer)
        writer.close()

    server = await asyncio.start_server(meet, host, 0)
    try:
        yield f"{host}:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def refusing(host: str = "127.0.0.1") -> AsyncIterator[str]:
    """Return an address on which no program listens."""
    with nobody(host) as port:
        yield f"{host}:{port}"


@contextlib.asynccontextmanager
async def asking(exporter: Exporter) -> AsyncIterator[Callable[..., Any]]:
    """The pages of an exporter: `await get(path)` gives status and body."""
    async with served(exporter, "127.0.0.1", 0) as (address,), aiohttp.ClientSession() as session:

        async def get(path: str, **headers: str) -> tuple[int, bytes]:
            async with session.get(f"http://{address}{path}", headers=headers) as answer:
                return answer.status, await answer.read()

        yield get


def test_a_probe_of_a_healthy_target(run_once: RunLoop) -> None:
    async def main() -> Samples:
        async with serving() as (server, _), asking(Exporter(CONFIG)) as get:
            status, body = await get(f"/probe?target={server.address}&module=quick")
            assert status == 200
            return read(body)

    samples = run_once(main())
    of_run = {"kind": "tcp", "direction": "upload"}
    assert value(samples, "netmeasure_success", **of_run) == 1
    assert value(samples, "netmeasure_delivered_bytes", **of_run) == 1000
    assert value(samples, "netmeasure_set_up_seconds", **of_run) > 0
    assert not [one for one in samples if one[0] == "netmeasure_error"]
    took = value(samples, "netmeasure_run_duration_seconds")
    assert 0 <= value(samples, "netmeasure_run_waited_seconds") < took


def test_failures_are_metrics(run_once: RunLoop) -> None:
    async def main() -> list[Samples]:
        found = []
        async with (
            listening() as silent,
            listening(b"SSH-2.0-x\r\n") as ssh,
            refusing() as nobody,
            asking(Exporter(CONFIG)) as get,
        ):
            for target, module in ((silent, "hasty"), (ssh, "quick"), (nobody, "quick")):
                status, body = await get(f"/probe?target={target}&module={module}")
                assert status == 200
                found.append(read(body))
        return found

    for samples, code in zip(
        run_once(main()), ("timeout", "remote_protocol", "refused"), strict=True
    ):
        assert value(samples, "netmeasure_success") == 0
        (labels,) = (have for name, have, _ in samples if name == "netmeasure_error")
        assert code in labels["code"], labels
        names = {name for name, _, _ in samples}
        assert not names & {"netmeasure_steady_bits_per_second", "netmeasure_delivered_bytes"}


@pytest.mark.parametrize(
    ("path", "headers", "status", "words"),
    [
        ("/probe", {}, 400, "no target"),
        ("/probe?target=a&module=b", {}, 400, "no module is called 'b'"),
        ("/probe?target=http://a/&module=quick", {}, 400, "takes a host"),
        ("/probe?target=a:b&module=quick", {}, 400, "port"),
        ("/probe?target=gateway&module=quick", {}, 403, "none of the targets"),
        (
            "/probe?target=a&module=long",
            {HEADER: "10"},
            400,
            "takes 10 s, but the scrape may take 9.5 s",
        ),
        (
            "/probe?target=a&module=quick",
            {HEADER: "nan"},
            400,
            "no number of seconds",
        ),
    ],
)
def test_probes_that_can_not_be_requested(
    run_once: RunLoop, path: str, headers: dict[str, str], status: int, words: str
) -> None:
    long = Module(name="long", spec=nm.TcpSpec())
    config = Config(modules={"quick": QUICK, "long": long}, targets=("a*", "http://a/"))

    async def main() -> tuple[int, bytes]:
        async with asking(Exporter(config)) as get:
            found: tuple[int, bytes] = await get(path, **headers)
            return found

    got, body = run_once(main())
    assert got == status
    assert words in body.decode()


def test_probes_on_one_path_run_one_after_the_other(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    running = most = 0

    async def counted(*given: Any) -> nm.Result:
        nonlocal running, most
        running += 1
        most = max(most, running)
        try:
            return await nm.measure(*given)
        finally:
            running -= 1

    monkeypatch.setattr("netmeasure.exporter.exporter.measure", counted)

    async def main() -> tuple[list[Outcome], Exporter]:
        async with serving() as (server, _):
            exporter = Exporter(CONFIG)
            probes = (exporter.probe(server.address, QUICK, 20.0) for _ in range(6))
            return await asyncio.gather(*probes), exporter

    outcomes, exporter = run_once(main())
    assert all(outcome.success for outcome in outcomes)
    assert most == 1
    assert exporter._paths == {}


@pytest.mark.parametrize(
    ("targets", "at_once", "together"),
    [
        (["a", "b", "c", "d"], 3, 3),  # as many as may run at once
        (["a", "a:5202", "http://a:8080/x?by=me@b", "[::1]:1"], 4, 2),  # two paths
    ],
)
def test_how_many_probes_run_at_once(
    run_once: RunLoop,
    monkeypatch: pytest.MonkeyPatch,
    targets: list[str],
    at_once: int,
    together: int,
) -> None:
    begun: list[str] = []

    async def endless(*given: Any) -> nm.Result:
        begun.append(given[0])
        await asyncio.Event().wait()
        raise AssertionError

    monkeypatch.setattr("netmeasure.exporter.exporter.measure", endless)
    by_url = Module(name="by_url", spec=nm.HttpSpec(timing=SMALL.timing))

    async def main() -> int:
        exporter = Exporter(msgspec.structs.replace(CONFIG, at_once=at_once))
        probes = [
            asyncio.ensure_future(exporter.probe(one, by_url if "//" in one else QUICK, 60.0))
            for one in targets
        ]
        await until(lambda: len(begun) >= together)
        for _ in range(20):  # more would have begun within these steps of the loop
            await asyncio.sleep(0)
        found = len(begun)
        for probe in probes:
            probe.cancel()
        await asyncio.gather(*probes, return_exceptions=True)
        assert exporter._paths == {}
        return found

    assert run_once(main()) == together


def test_fifty_probes_at_a_time_and_one_more(run_once: RunLoop) -> None:
    async def main() -> Exporter:
        exporter = Exporter(CONFIG)
        async with listening() as silent, asking(exporter) as get:
            probes = [
                asyncio.ensure_future(exporter.probe(silent, QUICK, 60.0))
                for _ in range(CONFIG.max_probes)
            ]
            await asyncio.sleep(0)
            with pytest.raises(BusyError, match="50 probes run or wait"):
                await exporter.probe(silent, QUICK, 60.0)
            status, _ = await get(f"/probe?target={silent}&module=quick")
            assert status == 503
            status, body = await get("/metrics")  # this page waits for no test
            assert value(read(body), "netmeasure_probes_active") == 50
            for probe in probes:
                probe.cancel()
            await asyncio.gather(*probes, return_exceptions=True)
        return exporter

    exporter = run_once(main())
    assert exporter.probes == {"complete": 0, "failed": 0, "refused": 2}
    assert exporter.probing == 0
    assert exporter._paths == {}


def test_fifty_probes_are_answered_within_their_timeout(run_once: RunLoop) -> None:
    async def main() -> tuple[list[Outcome], Exporter]:
        exporter = Exporter(CONFIG)
        async with listening() as silent:
            probes = (exporter.probe(silent, HASTY, 0.3) for _ in range(CONFIG.max_probes))
            return await asyncio.gather(*probes), exporter

    outcomes, exporter = run_once(main())
    codes = [outcome.rows[0].error for outcome in outcomes]
    assert codes[0] == "timeout"
    assert set(codes[1:]) <= {"busy", "timeout"}  # most wait for their turn on the path
    assert exporter.probes == {"complete": 0, "failed": 50, "refused": 0}
    assert exporter.probing == 0
    assert exporter._paths == {}


#: How much later than its timeout a probe may be answered on a busy machine. A probe that has no
#: time limit of its own takes 15 s to give up a silent server, or never does.
LATE_S = 10.0


class Answered(NamedTuple):
    """Hold a probe's target and timeout, and when and how it was answered."""

    target: str
    timeout_s: float
    took_s: float
    status: int
    body: bytes


def test_each_of_fifty_probes_is_answered_or_refused_within_its_own_timeout(
    run_once: RunLoop,
) -> None:
    """Half of the timeouts come from modules, half from Prometheus's header minus the margin."""
    patient = msgspec.structs.replace(QUICK, name="patient", timeout_s=30.0)
    modules = {f"m{n}": msgspec.structs.replace(QUICK, timeout_s=0.3 + n / 10) for n in range(5)}
    config = Config(modules={"patient": patient, **modules}, at_once=4, max_probes=40)

    async def main() -> tuple[list[Answered], str, str, Exporter]:
        exporter = Exporter(config)
        async with (
            serving() as (server, _),
            refusing("127.0.0.2") as nobody,
            listening(host="127.0.0.3") as silent,
            listening(b"", "127.0.0.4") as vanishing,
            asking(exporter) as get,
        ):
            targets = [server.address] + [nobody, silent, vanishing] * 3 + [silent]

            async def probe(number: int) -> Answered:
                target = targets[number % len(targets)]
                step = number % 5
                module, timeout_s, headers = f"m{step}", 0.3 + step / 10, {}
                if number % 2 or target == server.address:
                    scrape_s = 1.2 + step / 10 if target == silent else 8.0
                    headers[HEADER] = str(scrape_s)
                    module, timeout_s = "patient", scrape_s - MARGIN_S
                began = time.monotonic()
                status, body = await get(f"/probe?target={target}&module={module}", **headers)
                return Answered(target, timeout_s, time.monotonic() - began, status, body)

            answers = await asyncio.gather(*map(probe, range(50)))
            return answers, server.address, silent, exporter

    answers, healthy, silent, exporter = run_once(main())
    for one in answers:
        assert one.took_s < one.timeout_s + LATE_S, one
    refused = [one for one in answers if one.status == 503]
    assert len(refused) == 10
    assert {one.body for one in refused} == {b"40 probes run or wait already\n"}
    measured = [one for one in answers if one.status == 200]
    assert len(measured) == 40
    outcomes = Counter[str]()
    for one in measured:
        samples = read(one.body)
        success = value(samples, "netmeasure_success")
        assert not success or one.target == healthy
        codes = [have["code"] for name, have, _ in samples if name == "netmeasure_error"]
        assert len(codes) == 1 - success
        outcomes.update(codes)
        if one.target == silent:
            assert codes[0] in ("timeout", "busy")  # most wait for their turn on the path
            assert one.took_s > one.timeout_s - 0.01  # it uses its whole timeout
    assert exporter.probes["complete"] > 0
    assert outcomes["timeout"] > 0
    assert outcomes["refused"] > 0
    assert exporter.probes.total() == 50
    assert exporter.probing == 0
    assert exporter._paths == {}


#: The kinds of objects that would remain if a run were not released.
KINDS = ("Result", "Run", "Task", "coroutine", "frame", "traceback", "Outcome")


class Held(NamedTuple):
    """What this process holds while no test runs."""

    descriptors: int
    threads: int
    objects: Counter[str]
    resident_bytes: int

    @classmethod
    async def by_now(cls) -> Held:
        """Count when both ends of the last test are gone: the number of objects no longer falls."""
        least, unchanged = Counter(dict.fromkeys(KINDS, 10**9)), 0
        while unchanged < 20:
            # a list of all objects would own a tuple that another thread makes of an iterator, and
            # CPython raises SystemError there if such a tuple has a second owner
            await until(lambda: not any(map(_computes, threading.enumerate())))
            gc.collect()
            now = Counter(type(one).__qualname__ for one in gc.get_objects())
            now = Counter({kind: now[kind] for kind in KINDS})
            unchanged = unchanged + 1 if now.total() >= least.total() else 0
            least = now if now.total() < least.total() else least
            await asyncio.sleep(0.02)
        descriptors = len(os.listdir("/proc/self/fd"))
        return cls(descriptors, threading.active_count(), least, resident_bytes())


def _computes(thread: threading.Thread) -> bool:
    return thread.name == "netmeasure-compute"


def resident_bytes() -> int:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_two_hundred_scheduled_runs_leave_nothing_behind(run_once: RunLoop) -> None:
    async def main() -> tuple[Samples, list[Held]]:
        async with (
            serving() as (server, _),
            listening() as silent,
            listening(b"") as vanishing,
            refusing() as nobody,
        ):
            healthy = scheduled(server.address)
            config = Config(
                modules=CONFIG.modules,
                scheduled=(
                    healthy,
                    scheduled(silent, HASTY),
                    scheduled(vanishing),
                    scheduled(nobody),
                ),
                at_once=4,
            )
            exporter = Exporter(config)
            held = []

            def runs() -> int:
                return sum(
                    kept.counts["complete"] + kept.counts["failed"] for kept in exporter.kept
                )

            def reached(many: int) -> bool:
                return runs() >= many

            for many in (50, 200):
                async with asking(exporter) as get, exporter:
                    await until(partial(reached, many))
                    assert (await get("/healthz"))[0] == 200
                    _, body = await get("/metrics")
                held.append(await Held.by_now())
            for kept, good in zip(exporter.kept, (True, False, False, False), strict=True):
                assert kept.last is not None
                assert kept.last.success == good
                assert (kept.good is not None) == good
                assert kept.counts["failed" if good else "complete"] == 0
            return read(body), held

    samples, (few, many) = run_once(main())
    assert many.descriptors <= few.descriptors
    assert many.threads <= few.threads
    # the 150 runs leave no object of these kinds each; timers that were cancelled stay until the
    # event loop sweeps them
    assert not {kind for kind in KINDS if many.objects[kind] > few.objects[kind] + 50}
    assert many.resident_bytes < few.resident_bytes + 16 * 2**20
    targets = {have["target"] for name, have, _ in samples if name == "netmeasure_success"}
    assert len(targets) == 4
    assert all(have["site"] == "here" for name, have, _ in samples if "target" in have)
    for name in ("netmeasure_last_success_timestamp_seconds", "netmeasure_delivered_bytes"):
        assert len([one for one in samples if one[0] == name]) == 1
    assert {have["code"] for name, have, _ in samples if name == "netmeasure_error"} >= {
        "timeout",
        "refused",
    }
    skipped = [
        v for n, have, v in samples if n.endswith("runs_total") and "skipped" in have.values()
    ]
    assert max(skipped) > 0  # runs of the target that hangs


def test_a_port_that_is_taken(run_once: RunLoop) -> None:
    async def main() -> None:
        async with listening() as address:
            port = int(address.rpartition(":")[2])
            with pytest.raises(nm.ServeError, match=f"can't listen on port {port} of 127.0.0.1: "):
                async with served(Exporter(CONFIG), "127.0.0.1", port):
                    raise AssertionError

    run_once(main())


# ---- files for Prometheus and Grafana ------------------------------------------------------------


def exposed() -> set[str]:
    """Return the names of all metrics that an exporter can have."""
    exporter = Exporter(CONFIG)
    names = {
        name
        for family in metrics.of_exporter(exporter)
        for name in (family.name, f"{family.name}_total")
    }
    for name, field in fields_of(RunRow).items():
        names.add(metric_name(name, field.unit)[0])
    return names


@pytest.mark.parametrize("file", ["prometheus/alerts.yml", "grafana/netmeasure.json"])
def test_rules_and_dashboards_use_existing_metrics_only(file: str) -> None:
    text = (ROOT / "deploy" / file).read_text()
    used = set(re.findall(r"\bnetmeasure_[a-z0-9_]+", text))
    assert len(used) > 5
    assert used <= exposed()


def test_rules_and_dashboards_are_well_formed() -> None:
    rules = yaml.safe_load((ROOT / "deploy" / "prometheus" / "alerts.yml").read_text())
    for rule in rules["groups"][0]["rules"]:
        assert rule["expr"].count("(") == rule["expr"].count(")")
        assert rule["annotations"]["summary"]
    board = json.loads((ROOT / "deploy" / "grafana" / "netmeasure.json").read_text())
    for panel in board["panels"]:
        assert panel["title"]
        for target in panel["targets"]:
            assert target["expr"].count("(") == target["expr"].count(")")
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])
    scrape = yaml.safe_load((ROOT / "deploy" / "prometheus" / "prometheus.yml").read_text())
    assert [job["job_name"] for job in scrape["scrape_configs"]] == [
        "netmeasure",
        "netmeasure-probe",
    ]


def test_prometheus_itself_takes_rules_and_configuration() -> None:
    """Check the files with promtool, if it is installed (Debian's package prometheus has it). It
    can't check the metrics, for it knows only the text format before OpenMetrics."""
    promtool = shutil.which("promtool")
    if promtool is None:
        pytest.skip("there is no promtool")
    folder = ROOT / "deploy" / "prometheus"
    for what, file in (("rules", "alerts.yml"), ("config", "prometheus.yml")):
        ran = subprocess.run([promtool, "check", what, str(folder / file)], capture_output=True)
        assert ran.returncode == 0, ran.stderr.decode()
