"""Test host figures: control groups of both versions, and the reported cost of a run."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from netmeasure.clock import now_ns
from netmeasure.engine import resources
from netmeasure.engine.cgroups import Cgroup, Usage
from netmeasure.engine.resources import IdleMonitor, ResourceLog
from netmeasure.result.resources import Resources


def group(tmp_path: Path, listing: str, files: dict[str, str]) -> Usage:
    (tmp_path / "listing").write_text(listing)
    for name, text in files.items():
        path = tmp_path / "root" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Cgroup(tmp_path / "listing", tmp_path / "root").read()


def test_version_2(tmp_path: Path) -> None:
    files = {
        "pod/memory.current": "1000\n",
        "pod/memory.max": "5000\n",
        "pod/memory.stat": "anon 600\nfile 350\nshmem 50\ninactive_file 200\nactive_file 100\n",
        "pod/cpu.stat": "usage_usec 9\nnr_throttled 1\nthrottled_usec 7\n",
    }
    found = Usage(1000, 5000, 7000, memory_files_bytes=300)
    assert group(tmp_path, "0::/pod\n", files) == found


def test_version_2_without_limit(tmp_path: Path) -> None:
    files = {"pod/memory.current": "1000\n", "pod/memory.max": "max\n", "pod/cpu.stat": ""}
    assert group(tmp_path, "0::/pod\n", files) == Usage(1000, None, None)


def test_within_a_namespace_of_its_own(tmp_path: Path) -> None:
    """The listing then names a path that does not exist: the root is the group's own folder."""
    files = {"memory.current": "1000\n", "memory.max": "2000\n"}
    assert group(tmp_path, "0::/../../pod\n", files) == Usage(1000, 2000, None)


def test_version_1(tmp_path: Path) -> None:
    listing = "4:memory:/pod\n1:cpu,cpuacct:/pod\n0::/\n"
    files = {
        "memory/pod/memory.usage_in_bytes": "1000\n",
        "memory/pod/memory.limit_in_bytes": "9223372036854771712\n",
        "cpu/pod/cpu.stat": "nr_periods 3\nthrottled_time 77\n",
    }
    assert group(tmp_path, listing, files) == Usage(1000, None, 77)


def test_no_group_at_all(tmp_path: Path) -> None:
    assert Cgroup(tmp_path / "no", tmp_path / "root").read() == Usage()
    assert group(tmp_path, "nonsense\n::\n", {}) == Usage()


def busy(seconds: float) -> None:
    end = time.process_time() + seconds
    while time.process_time() < end:
        pass


def test_what_a_run_is_said_to_have_cost() -> None:
    async def main() -> Resources | None:
        log = ResourceLog()
        assert log.collected(0) is None
        async with log.running():
            busy(0.2)
        return log.collected(now_ns())

    found = asyncio.run(main())
    assert found is not None
    assert len(found.at_ns) == 2
    assert found.at_ns[0] < found.at_ns[1] <= 0
    # the kernel counts in steps of 10 ms
    assert found.process_cpu_ns >= 0.18e9
    assert found.rss_bytes[-1] > 2**20
    assert found.cpus >= 1


def test_the_runs_own_share_is_what_comes_on_top_of_the_idle_host() -> None:
    async def main() -> Resources | None:
        log = ResourceLog()
        await log.rest(0.3)
        async with log.running():
            busy(0.3)
        return log.collected(now_ns())

    found = asyncio.run(main())
    assert found is not None
    assert found.baseline is not None
    assert found.own is not None
    whole = found.whole
    assert whole is not None
    assert found.baseline.duration_ns >= 0.3e9
    # nothing of this process's was going on: it slept
    assert found.baseline.process_cpu_ns <= 0.1e9
    assert whole.process_cpu_ns >= 0.28e9
    for mode in ("user", "system", "softirq", "steal"):
        name = f"host_{mode}_ns"
        difference = whole.share(name) - found.baseline.share(name)
        assert getattr(found.own, f"{mode}_ratio") == pytest.approx(difference)
    # a counter of the whole host is at least this process's CPU time, within the resolution of its
    # clock
    assert whole.host_cpu_ns >= whole.process_cpu_ns - 0.03e9


def test_without_a_baseline_there_is_no_own_share() -> None:
    async def main() -> Resources | None:
        log = ResourceLog()
        async with log.running():
            busy(0.25)
        return log.collected(now_ns())

    found = asyncio.run(main())
    assert found is not None
    assert (found.baseline, found.own) == (None, None)


def test_an_idle_server_remembers_the_last_two_looks_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "IDLE_EVERY_S", 0.25)

    async def main() -> None:
        watch = IdleMonitor()
        assert watch.baseline() is None
        task = asyncio.create_task(watch.keep())
        await asyncio.sleep(1)
        found = watch.baseline()
        assert found is not None
        assert 0.25e9 <= found.duration_ns <= 0.9e9
        watch.restart()
        assert watch.baseline() is None
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    asyncio.run(main())


def test_samples_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(resources, "MAX_SAMPLES", 4)
    monkeypatch.setattr(resources, "EVERY_S", 0.001)

    async def main() -> Resources | None:
        log = ResourceLog()
        async with log.running():
            await asyncio.sleep(0.1)
        return log.collected(0)

    found = asyncio.run(main())
    assert found is not None
    assert 2 <= len(found.at_ns) <= 5
    assert list(found.at_ns) == sorted(found.at_ns)


def test_runs_at_the_same_time_share_their_periodic_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """At its start and at its end, each takes its own, unless another is as exact."""
    monkeypatch.setattr(resources, "EVERY_S", 0.001)
    monkeypatch.setattr(resources, "SHARED_NS", 3600 * 10**9)
    read, moments = resources._Sampler._read, list[int]()

    def noted(sampler: resources._Sampler) -> resources._Sample:
        sample = read(sampler)
        moments.append(sample.at_ns)
        return sample

    monkeypatch.setattr(resources._Sampler, "_read", noted)
    monkeypatch.setattr(resources._Sampler, "_last", None)  # of an earlier test

    async def run_one(together: asyncio.Barrier) -> Resources | None:
        log = ResourceLog()
        async with log.running():
            await together.wait()
            while len(log._samples) < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.001)
            await together.wait()
        return log.collected(0)

    async def main() -> list[Resources | None]:
        together = asyncio.Barrier(10)
        return await asyncio.gather(*(run_one(together) for _ in range(10)))

    taken = 0
    for found in asyncio.run(main()):
        assert found is not None
        assert list(found.at_ns) == sorted(set(found.at_ns))
        assert set(found.at_ns) <= set(moments)
        taken += len(found.at_ns)
    assert taken >= 10 * 6
    assert len(moments) < taken / 2
