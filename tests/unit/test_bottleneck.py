"""Test which bottleneck is named for figures whose meaning is obvious."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

import msgspec
import pytest

from netmeasure.analysis.bottleneck import End, Rate, limits
from netmeasure.result import SocketFacts, StreamReport, TcpInfo

SECOND = 1_000_000_000


def info(busy: float = 1.0, rwnd: float = 0.0, sndbuf: float = 0.0, **more: Any) -> TcpInfo:
    """Return one second of a connection; the times are shares of it, counted from earlier ones
    on."""
    return TcpInfo(
        at_ns=(0, SECOND),
        busy_ns=(7, 7 + round(busy * SECOND)),
        rwnd_limited_ns=(5, 5 + round(rwnd * SECOND)),
        sndbuf_limited_ns=(3, 3 + round(sndbuf * SECOND)),
        **more,
    )


def stream(
    role: str = "sender", cpu: float | None = 0.2, tcp_info: TcpInfo | None = None
) -> StreamReport:
    spent = None if cpu is None else round(cpu * SECOND / 2)
    return StreamReport(
        id=1,
        role=role,  # type: ignore[arg-type]
        first_ns=1,
        last_ns=1 + SECOND,
        cpu_user_ns=spent,
        cpu_system_ns=spent,
        tcp_info=tcp_info,
    )


def named(
    sender: StreamReport, receiver: StreamReport | None = None, target: int | None = None
) -> Any:
    found = limits(End([sender]), End([receiver] if receiver else []), Rate(1e8, target))
    assert found is not None
    return found.limited_by


def test_nothing_is_known() -> None:
    assert limits(End([]), End([]), Rate(None, None)) is None
    assert limits(End([stream(cpu=None)]), End([]), Rate(1e8, None)) is None


@pytest.mark.parametrize(
    ("figures", "name"),
    [
        ({}, "network"),
        ({"rwnd": 0.6}, "receive_window"),
        ({"sndbuf": 0.6}, "send_buffer"),
        ({"rwnd": 0.3, "sndbuf": 0.3}, "network"),
        ({"busy": 0.5}, "application"),
        ({"busy": 0.5, "rwnd": 0.4}, "receive_window"),
    ],
)
def test_what_the_kernel_accounts_for(figures: dict[str, float], name: str) -> None:
    assert named(stream(tcp_info=info(**figures))) == name


@pytest.mark.parametrize(
    ("local", "remote", "name"),
    [
        ("192.0.2.1:5001", "192.0.2.2:5201", "link"),
        ("192.0.2.1:5001", "192.0.2.1:5201", "network"),
        ("127.0.0.1:5001", "127.0.0.2:5201", "network"),
        ("[::1]:5001", "[::1]:5201", "network"),
        ("[2001:db8::1]:5001", "[2001:db8::2]:5201", "link"),
        (None, None, "link"),
    ],
)
def test_a_host_has_no_link_to_itself(local: str | None, remote: str | None, name: str) -> None:
    """On loopback, threads that wait for a CPU look like a queue."""
    queued = info(rtt_ns=(5 * 10**6,) * 2, min_rtt_ns=(10**6,) * 2, unsent_bytes=(1000, 1000))
    sender = msgspec.structs.replace(
        stream(tcp_info=queued), socket=SocketFacts(local=local, remote=remote)
    )
    assert named(sender) == name


def test_a_cpu_that_is_used_up_comes_before_windows() -> None:
    assert named(stream(cpu=0.95, tcp_info=info(rwnd=0.9))) == "sender_cpu"
    assert named(stream(tcp_info=info(rwnd=0.9)), stream("receiver", 0.95)) == "receiver_cpu"
    assert named(stream(cpu=0.95), stream("receiver", 0.99)) == "sender_cpu"


def test_a_target_that_is_met_is_the_limit() -> None:
    assert named(stream(cpu=0.95), target=100_000_000) == "pacing"
    assert named(stream(cpu=0.95), target=200_000_000) == "sender_cpu"


def test_the_target_is_per_stream() -> None:
    found = limits(End([stream(), stream()]), End([]), Rate(1e8, 50_000_000))
    assert found is not None
    assert found.limited_by == "pacing"


def test_cpu_alone_does_not_name_the_network() -> None:
    """Without the kernel's accounting, it is unknown whether the sender was idle."""
    found = limits(End([stream(cpu=0.5)]), End([]), Rate(1e8, None))
    assert found is not None
    assert found.limited_by is None
    assert found.sender_cpu_ratio == pytest.approx(0.5)
    assert found.busy_ratio is None


def test_the_figures_of_rfc_6349() -> None:
    told = info(
        rtt_ns=(30_000_000, 30_000_000),
        min_rtt_ns=(20_000_000, 20_000_000),
        sent_bytes=(0, 1000),
        retransmitted_bytes=(0, 10),
    )
    found = limits(End([stream(tcp_info=told)]), End([]), Rate(1e8, None))
    assert found is not None
    assert found.tcp_efficiency == pytest.approx(0.99)
    assert found.buffer_delay_ratio == pytest.approx(0.5)
    assert found.window_needed_bytes == 250_000  # 100 Mbit/s times 20 ms


def test_a_column_that_is_missing_is_no_zero() -> None:
    found = limits(End([stream(tcp_info=TcpInfo(at_ns=(0, SECOND)))]), End([]), Rate(1e8, None))
    assert found is not None
    assert (found.busy_ratio, found.tcp_efficiency, found.window_needed_bytes) == (None, None, None)


@pytest.mark.parametrize(
    ("steps", "pacing", "dispersion"),
    [
        # bbr's start has lost 216 segments, and each later sample 8 by chance
        ([120, 96, *(8 for _ in range(19))], 1.0, 0.0),
        # reno or cubic would not have kept this rate
        ([96, *(8 for _ in range(19))], 1.2, 29.6),
        # a policer has dropped clusters throughout
        ([40, 0, 0, 0, 0, 40, 0, 0, 0, 0, 40, 0, 0, 0, 0], 1.0, 480 / 13),
        # a period of seven samples has one cluster
        ([0, 0, 0, 42, 0, 0, 0], 1.0, 36.0),
    ],
)
def test_one_overshoot_is_no_pattern_of_losses(
    steps: list[int], pacing: float, dispersion: float
) -> None:
    count = len(steps) + 1
    at_ns = tuple(i * SECOND // 10 for i in range(count))
    lossy = TcpInfo(
        at_ns=at_ns,
        busy_ns=at_ns,
        retransmits=tuple(accumulate(steps, initial=0)),
        acked_bytes=tuple(1_250_000 * i for i in range(count)),
        pacing_bps=(round(pacing * 1e8),) * count,
    )
    found = limits(End([stream(tcp_info=lossy)]), End([]), Rate(1e8, None))
    assert found is not None
    assert found.retransmit_dispersion == pytest.approx(dispersion, rel=0.01)
