"""Test that the options of a test take effect and are recorded at both ends."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import netmeasure as nm
from netmeasure.engine import listeners
from support.measured import BOTH_WAYS, DIRECTIONS, RunLoop, measured, reports, served, spec, ways
from support.optional import known
from support.ports import free_ports

# ---- how bytes are moved -------------------------------------------------------------------------


@pytest.mark.parametrize("receive_mode", ["copy", "discard"])
@pytest.mark.parametrize("send_mode", ["copy", "sendfile"])
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_modes_are_used_and_recorded_at_both_ends(
    run_once: RunLoop, direction: str, send_mode: str, receive_mode: str
) -> None:
    wanted = spec(direction, 2, duration_s=0.1, send_mode=send_mode, receive_mode=receive_mode)
    mine, theirs = run_once(measured(wanted))
    for flow in (*mine.flows, *theirs.flows):
        assert flow.receiver.bytes == flow.sender.bytes
        assert flow.receiver.bytes
    modes = {(report.role, report.mode) for report in reports(mine)}
    assert modes == {("sender", send_mode), ("receiver", receive_mode)}
    assert (theirs.spec.send_mode, theirs.spec.receive_mode) == (send_mode, receive_mode)


@pytest.mark.parametrize("name", ["reno", "cubic"])
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_congestion_control_is_set_at_both_ends(
    run_once: RunLoop, direction: str, name: str
) -> None:
    mine, _ = run_once(measured(spec(direction, duration_s=0.05, options={"congestion": name})))
    assert [known(report.socket).congestion for report in reports(mine)] == [name, name]


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_mss_limits_what_the_sender_sends(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, duration_s=0.05, options={"mss_bytes": 1000})))
    sizes = mine.flow.streams[0].sender.tcp_info.mss_bytes
    assert 900 < max(sizes) <= 1000


@pytest.mark.parametrize("wanted", [True, False])
def test_no_delay_is_set_at_both_ends(run_once: RunLoop, wanted: bool) -> None:
    mine, _ = run_once(measured(spec("both", duration_s=0.05, options={"no_delay": wanted})))
    assert [known(report.socket).no_delay for report in reports(mine)] == [wanted] * 4


def test_the_window_is_set_at_both_ends(run_once: RunLoop) -> None:
    window = 50_000
    mine, _ = run_once(measured(spec("both", duration_s=0.05, options={"window_bytes": window})))
    # the kernel doubles what is asked for (socket(7)) and reads that back
    for report in reports(mine):
        assert (known(report.socket).sndbuf_bytes, known(report.socket).rcvbuf_bytes) == (
            2 * window,
            2 * window,
        )
    plain, _ = run_once(measured(spec(duration_s=0.05)))
    assert all(known(report.socket).sndbuf_bytes != 2 * window for report in reports(plain))


@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_connections_leave_from_the_bound_address(run_once: RunLoop, direction: str) -> None:
    options = {"bind_address": "127.0.0.3"}
    mine, theirs = run_once(measured(spec(direction, 2, duration_s=0.05, options=options)))
    for report in mine.client.streams:
        assert known(known(report.socket).local).startswith("127.0.0.3:")
    for report in mine.server.streams:
        assert known(report.socket).remote.startswith("127.0.0.3:")
    assert theirs.target.startswith("127.0.0.3:")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_streams_leave_from_the_bound_ports(run_once: RunLoop, direction: str) -> None:
    count = 2 * len(ways(direction))
    base = free_ports(count)
    mine, _ = run_once(measured(spec(direction, 2, duration_s=0.05, options={"bind_port": base})))
    locals_ = [known(report.socket).local for report in mine.client.streams]
    assert locals_ == [f"127.0.0.1:{base + index}" for index in range(count)]
    # a stream has the same number at both ends, whichever of them was accepted first
    assert [known(report.socket).remote for report in mine.server.streams] == locals_


#: A segment on loopback has 64 KiB, which is too coarse for these rates, and the kernel does not
#: pace the first ten segments.
PACED: dict[str, Any] = {"duration_s": 1.0, "options": {"mss_bytes": 1448}}


@pytest.mark.rates
@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_target_bitrate_is_kept(run_once: RunLoop, direction: str) -> None:
    mine, theirs = run_once(measured(spec(direction, target_bps=50_000_000, **PACED)))
    assert theirs.spec.target_bps == 50_000_000
    for flow in mine.flows:
        assert flow.steady.goodput_bps == pytest.approx(50e6, rel=0.03)
        assert flow.streams[0].sender.socket.pacing_bps == 50_000_000


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_target_bitrate_applies_to_each_stream(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, 3, target_bps=20_000_000, **PACED)))
    assert mine.flow.steady.goodput_bps == pytest.approx(60e6, rel=0.03)


@pytest.mark.rates
@pytest.mark.parametrize("direction", BOTH_WAYS)
def test_the_target_bitrate_is_the_average_too(run_once: RunLoop, direction: str) -> None:
    mine, _ = run_once(measured(spec(direction, target_bps=50_000_000, **PACED)))
    assert mine.flow.averages.after_omit_bps == pytest.approx(50e6, rel=0.05)


# ---- addresses -----------------------------------------------------------------------------------


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_ipv6(run: RunLoop, direction: str) -> None:
    mine, theirs = run(measured(spec(direction, 2, duration_s=0.1), host="::1"))
    assert mine.complete
    assert mine.target.startswith("[::1]:")
    assert theirs.target.startswith("[::1]:")
    for flow in mine.flows:
        assert flow.receiver.bytes == known(flow.sender.bytes) > 0
    for report in reports(mine):
        assert known(known(report.socket).local).startswith("[::1]:")


@pytest.mark.parametrize(("family", "prefix"), [("ipv4", "127.0.0.1:"), ("ipv6", "[::1]:")])
def test_a_server_on_every_address_serves_both_families_on_one_port(
    run_once: RunLoop, family: str, prefix: str
) -> None:
    async def main() -> nm.Result:
        async with served(None) as (server, _):
            assert len({address.rpartition(":")[2] for address in server.addresses}) == 1
            host = "127.0.0.1" if family == "ipv4" else "::1"
            options = {"family": family}
            return await nm.measure(host, spec(duration_s=0.05, options=options), port=server.port)

    mine = run_once(main())
    assert mine.client.streams[0].socket.local.startswith(prefix)


def test_a_free_port_of_ipv4_that_is_in_use_in_ipv6_is_not_taken(
    run_once: RunLoop, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_one = listeners.open_listener
    with socket.socket(socket.AF_INET6) as other:

        def opened(family: int, where: tuple[Any, ...], **options: Any) -> socket.socket:
            if family == socket.AF_INET6 and other.getsockname()[1] == 0:
                other.bind(("::1", where[1]))
            return open_one(family, where, **options)

        async def main() -> int:
            async with served(None) as (server, _):
                assert len(server.addresses) == 2
                return server.port

        monkeypatch.setattr(listeners, "open_listener", opened)
        assert run_once(main()) != other.getsockname()[1] > 0


@pytest.mark.parametrize("port", [-1, 0, 65_536, 70_000])
def test_an_impossible_port_is_refused(run_once: RunLoop, port: int) -> None:
    async def main() -> None:
        with pytest.raises(nm.SpecError):
            await nm.measure("127.0.0.1", spec(duration_s=0.05), port=port)

    run_once(main())
