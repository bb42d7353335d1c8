"""Test the resources used in a time, the run's own share of them, and the cost of a gigabyte."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, strategies as st

from netmeasure.result import SideReport, StreamReport, Totals
from netmeasure.result.resources import HostShares, HostUse, Resources, own_shares, value_at
from support.optional import known

MS = 1_000_000
#: Two CPUs for one second, a sample every 250 ms, with an arbitrary offset.
AT = (0, 250 * MS, 500 * MS, 750 * MS, 1000 * MS)


def resources(**more: Any) -> Resources:
    def grows(by: int, offset: int = 77) -> tuple[int, ...]:
        return tuple(offset + i * by * MS for i in range(len(AT)))

    return Resources(
        at_ns=AT,
        cpus=2,
        process_user_ns=grows(10),
        process_system_ns=grows(40),
        host_user_ns=grows(20),
        host_system_ns=grows(60),
        host_softirq_ns=grows(30),
        host_steal_ns=grows(10),
        host_idle_ns=grows(380),
        rss_bytes=(5, 9, 7, 7, 6),
        **more,
    )


def test_all_of_a_run() -> None:
    used = resources(cgroup_memory_bytes=(1, 2, 3, 2, 1), cgroup_throttled_ns=AT).whole
    assert used == HostUse(
        duration_ns=1000 * MS,
        cpus=2,
        process_user_ns=40 * MS,
        process_system_ns=160 * MS,
        host_user_ns=80 * MS,
        host_system_ns=240 * MS,
        host_softirq_ns=120 * MS,
        host_steal_ns=40 * MS,
        host_idle_ns=1520 * MS,
        rss_bytes=9,
        cgroup_memory_bytes=3,
        cgroup_throttled_ns=1000 * MS,
    )
    assert used.process_cpu_ns == 200 * MS
    assert used.host_cpu_ns == 440 * MS  # time that the hypervisor took does not count
    assert used.share("host_softirq_ns") == pytest.approx(0.12)


def test_a_stretch_between_samples() -> None:
    used = resources().over(375 * MS, 875 * MS)
    assert used is not None
    assert used.duration_ns == 500 * MS
    assert used.process_user_ns == 20 * MS
    assert used.rss_bytes == 7
    assert (used.cgroup_memory_bytes, used.cgroup_throttled_ns) == (None, None)


def test_a_stretch_without_a_sample_in_it() -> None:
    at = (0, 10_000 * MS)
    columns: dict[str, Any] = {
        name: (0, 100 * MS) for name in Resources.__struct_fields__ if name.endswith("_ns")
    }
    there = {name: columns[name] for name in columns if not name.startswith("cgroup")}
    found = Resources(**{**there, "at_ns": at}, cpus=1, rss_bytes=(5, 6))
    used = found.over(2000 * MS, 3000 * MS)
    assert used is not None
    assert (used.host_user_ns, used.rss_bytes) == (10 * MS, 5)


@pytest.mark.parametrize("stretch", [(-900, 100), (900, 1900), (400, 599), (2000, 3000)])
def test_what_the_clock_ticks_cannot_resolve_is_unknown(stretch: tuple[int, int]) -> None:
    assert resources().over(stretch[0] * MS, stretch[1] * MS) is None


@given(st.lists(st.integers(0, 10**12), min_size=2, max_size=9, unique=True), st.data())
def test_stretches_that_adjoin_add_up(moments: list[int], data: st.DataObject) -> None:
    at = sorted(moments)
    counter = sorted(
        data.draw(st.lists(st.integers(0, 10**12), min_size=len(at), max_size=len(at)))
    )
    start, middle, end = sorted(data.draw(st.tuples(*[st.integers(-5, 10**12 + 5)] * 3)))
    values = [value_at(at, counter, moment) for moment in (start, middle, end)]
    assert counter[0] <= values[0] <= values[1] <= values[2] <= counter[-1]
    assert value_at(at, counter, at[0]) == counter[0]
    assert value_at(at, counter, at[-1]) == counter[-1]


def test_the_runs_own_share() -> None:
    load = resources().whole
    assert load is not None
    idle = HostUse(
        duration_ns=500 * MS,
        cpus=2,
        process_user_ns=0,
        process_system_ns=0,
        host_user_ns=30 * MS,
        host_system_ns=20 * MS,
        host_softirq_ns=0,
        host_steal_ns=25 * MS,
        host_idle_ns=925 * MS,
        rss_bytes=1,
    )
    own = own_shares(load, idle)
    assert own is not None
    assert own.user_ratio == pytest.approx(0.08 - 0.06)
    assert own.system_ratio == pytest.approx(0.24 - 0.04)
    assert own.softirq_ratio == pytest.approx(0.12)
    assert own.steal_ratio == pytest.approx(0.04 - 0.05)
    assert own.busy_ratio == pytest.approx(0.34)
    assert own_shares(load, None) is None
    assert own_shares(None, idle) is None


def test_what_a_gigabyte_cost() -> None:
    """The process used 0.2 s; the host used 0.44 s, of which 0.34 s were its own, for 0.5 GB."""
    load = resources()
    idle = load.whole
    assert idle is not None
    streams = (
        StreamReport(id=1, role="receiver", bytes=300_000_000),
        StreamReport(id=2, role="sender", bytes=900_000_000, acked_bytes=200_000_000),
    )
    side = SideReport(streams=streams, resources=load)
    assert side.payload_bytes == 500_000_000
    assert side.process_s_per_gb == pytest.approx(0.4)
    assert side.host_s_per_gb == pytest.approx(0.88)
    assert side.own_host_s_per_gb is None
    own = own_shares(
        load.whole,
        HostUse(**{n: 0 for n in HostUse.__struct_fields__ if n != "duration_ns"}, duration_ns=1),
    )
    known = SideReport(streams=streams, resources=resources(own=own))
    assert known.own_host_s_per_gb == pytest.approx(0.88)


def test_an_own_share_below_that_of_the_process_is_none() -> None:
    """The host was as busy before the run, so other programs got less CPU time during it. The
    process used 0.2 s in 0.5 s."""

    def side(busy_ratio: float, softirq_ratio: float = 0.05) -> SideReport:
        own = HostShares(
            user_ratio=busy_ratio - softirq_ratio,
            system_ratio=0.0,
            softirq_ratio=softirq_ratio,
            steal_ratio=0.0,
        )
        streams = (StreamReport(id=1, role="receiver", bytes=500_000_000),)
        return SideReport(streams=streams, resources=resources(own=own))

    load = resources().whole
    assert load is not None
    process = load.share("process_cpu_ns")
    for busy_ratio in (-0.1, 0.0, 0.5 * process):
        assert side(busy_ratio).own_host_s_per_gb is None
        assert known(side(busy_ratio).resources).own_is_lost
    assert side(process, softirq_ratio=1.1 * process).own_host_s_per_gb is None
    assert side(process).own_host_s_per_gb == pytest.approx(side(process).process_s_per_gb)


def test_what_cannot_be_told_costs_nothing_known() -> None:
    assert SideReport().process_s_per_gb is None
    unknown = StreamReport(id=1, role="sender", bytes=10)
    assert SideReport(streams=(unknown,), resources=resources()).host_s_per_gb is None
    empty = StreamReport(id=1, role="receiver", bytes=0)
    assert SideReport(streams=(empty,), resources=resources()).host_s_per_gb is None
    assert Totals(bytes=10).threads_s_per_gb is None


def test_the_threads_of_a_flow() -> None:
    """The cost of a sender is divided by the bytes that arrived."""
    spent = {"cpu_user_ns": 10**8, "cpu_system_ns": 3 * 10**8}
    assert Totals(bytes=10**9, **spent).threads_s_per_gb == pytest.approx(0.4)
    sender = Totals(bytes=10**9, acked_bytes=5 * 10**8, **spent)
    assert sender.threads_s_per_gb == pytest.approx(0.8)
