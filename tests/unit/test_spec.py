"""Test specifications: a wrong value is refused at once, a right one is kept."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

import netmeasure as nm
from netmeasure.client import make_run
from netmeasure.errors import SpecError
from netmeasure.spec import (
    DEFAULT_BLOCK_BYTES,
    MAX_BLOCK_BYTES,
    MAX_COUNT,
    Deadlines,
    HttpSpec,
    Link,
    RrSpec,
    ServerLimits,
    SocketOptions,
    TcpSpec,
    Timing,
    UdpSpec,
)
from netmeasure.spec.target import check_family

NAN = float("nan")
INF = float("inf")
WAITS = [name for name in ServerLimits.__struct_fields__ if name.endswith("_s")]


def untyped(struct: type[msgspec.Struct], **values: Any) -> Any:
    return pytest.param(
        struct,
        values,
        id=f"{struct.__name__} {values}",
    )


def test_defaults() -> None:
    spec = TcpSpec()
    assert (spec.direction, spec.streams, spec.block_bytes) == ("upload", 1, DEFAULT_BLOCK_BYTES)
    assert spec.timing.limit_s == 10
    assert spec.total_bytes is None
    assert spec.target_bps is None


@pytest.mark.parametrize(
    ("struct", "name", "low", "high", "step"),
    [
        (Timing, "duration_s", 0.001, 86_400, 0.0005),
        (Timing, "total_bytes", 1, MAX_COUNT, 1),
        (Timing, "total_blocks", 1, MAX_COUNT // MAX_BLOCK_BYTES, 1),
        (Timing, "omit_s", 0, 600, 0.001),
        (Timing, "interval_s", 0.01, 86_400, 0.001),
        (Timing, "until", 0.001, 0.5, 0.0001),
        (SocketOptions, "mss_bytes", 88, 32_767, 1),
        (SocketOptions, "window_bytes", 1, 536_870_912, 1),
        (SocketOptions, "bind_port", 1, 65_535, 1),
        *(
            (Deadlines, name, 0.01, 86_400, 0.001)
            for name in Deadlines.__struct_fields__
            if name != "queue_s"
        ),
        (Deadlines, "queue_s", 0, 86_400, 0.001),
        *((ServerLimits, name, 0.01, 86_400, 0.001) for name in WAITS),
        pytest.param(
            *(ServerLimits, "max_tests", 1, 100_000, 1),
            id="max_tests",
        ),
        (Link, "rate_bps", 1, 10**13, 1),
        (Link, "mtu_bytes", 68, 65_535, 1),
        (TcpSpec, "streams", 1, 1024, 1),
        (TcpSpec, "block_bytes", 1, 1024 * 1024, 1),
        (TcpSpec, "target_bps", 1, 10**13, 1),
    ],
)
def test_ranges(
    struct: type[msgspec.Struct], name: str, low: float, high: float, step: float
) -> None:
    for good in (low, high):
        assert getattr(struct(**{name: good}), name) == good
    for bad in (low - step, high + step, NAN, INF, -INF):
        with pytest.raises(SpecError, match="it must be"):
            struct(**{name: bad})


def test_the_message_names_value_range_and_unit() -> None:
    with pytest.raises(SpecError, match=r"^omit is 601 s: it must be 0 to 600 s$"):
        Timing(omit_s=601)
    with pytest.raises(SpecError, match=r"^number of streams is 0: it must be 1 to 1024$"):
        TcpSpec(streams=0)
    with pytest.raises(SpecError, match=r"^number of streams is 513: it must be 1 to 512$"):
        TcpSpec(streams=513, direction="both")


@pytest.mark.parametrize(
    ("struct", "values"),
    [
        (TcpSpec, {"direction": "sideways"}),
        (TcpSpec, {"direction": ""}),
        (TcpSpec, {"send_mode": "discard"}),
        (TcpSpec, {"receive_mode": "sendfile"}),
        (SocketOptions, {"congestion": ""}),
        (SocketOptions, {"congestion": "x" * 16}),
        (SocketOptions, {"congestion": "é" * 8}),
        (Link, {"framing": "bits"}),
        (Link, {"encapsulation": "vxlan,foo"}),
        untyped(TcpSpec, link=10**9),
        untyped(SocketOptions, family="ipv5"),
        untyped(SocketOptions, no_delay="no"),
        untyped(Timing, duration_s="10"),
        untyped(Timing, omit_s=None),
        untyped(Timing, interval_s=None),
        untyped(Timing, total_bytes=1.5),
        untyped(Deadlines, stall_s=None),
        untyped(TcpSpec, streams=None),
        untyped(TcpSpec, streams=1.5),
        untyped(TcpSpec, block_bytes="1M"),
        untyped(TcpSpec, timing=5),
    ],
)
def test_refused(struct: type[msgspec.Struct], values: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        struct(**values)


@pytest.mark.parametrize("congestion", ["bbr", "x" * 15])
def test_names_of_congestion_controls(congestion: str) -> None:
    assert SocketOptions(congestion=congestion).congestion == congestion


@pytest.mark.parametrize(
    "ends",
    [
        {"duration_s": 1, "total_bytes": 1},
        {"duration_s": 1, "total_blocks": 1},
        {"total_bytes": 1, "total_blocks": 1},
        {"duration_s": 1, "total_bytes": 1, "total_blocks": 1},
    ],
)
def test_one_end_only(ends: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="only one of"):
        Timing(**ends)


@pytest.mark.parametrize(
    ("timing", "limit_s", "total_bytes"),
    [
        (Timing(), 10, None),
        (Timing(omit_s=3), 10, None),
        (Timing(duration_s=0.25), 0.25, None),
        (Timing(until=0.02), 60, None),
        (Timing(until=0.02, duration_s=5), 5, None),
        (Timing(total_bytes=700), None, 700),
        (Timing(total_blocks=3), None, 3000),
    ],
)
def test_what_ends_a_test(timing: Timing, limit_s: float | None, total_bytes: int | None) -> None:
    assert timing.limit_s == limit_s
    assert TcpSpec(timing=timing, block_bytes=1000).total_bytes == total_bytes


@pytest.mark.parametrize("limit", [{"total_bytes": 1}, {"total_blocks": 1}, {"endless": True}])
def test_a_test_that_ends_itself_is_limited_by_time(limit: dict[str, Any]) -> None:
    with pytest.raises(SpecError, match="limited by time only"):
        Timing(until=0.02, **limit)


@pytest.mark.parametrize("direction", ["upload", "both"])
def test_datagrams_that_are_sent_can_not_end_a_test(direction: Any) -> None:
    with pytest.raises(SpecError, match="does not know what arrived"):
        UdpSpec(direction=direction, timing=Timing(until=0.02))
    assert UdpSpec(direction="download", timing=Timing(until=0.02)).limit_s == 60


def test_the_most_blocks_fit_a_signed_64_bit_number() -> None:
    most = TcpSpec(
        timing=Timing(total_blocks=MAX_COUNT // MAX_BLOCK_BYTES), block_bytes=MAX_BLOCK_BYTES
    )
    assert most.total_bytes is not None
    assert most.total_bytes < 2**63


@pytest.mark.parametrize(
    "spec", [Timing(), SocketOptions(), Deadlines(), ServerLimits(), TcpSpec()]
)
def test_specs_are_frozen_and_hashable(spec: msgspec.Struct) -> None:
    with pytest.raises(AttributeError):
        setattr(spec, spec.__struct_fields__[0], None)
    assert hash(spec) == hash(type(spec)())


def test_saved_specs_are_checked_too() -> None:
    assert msgspec.json.decode(msgspec.json.encode(TcpSpec(streams=4)), type=TcpSpec).streams == 4
    assert msgspec.to_builtins(TcpSpec())["kind"] == "tcp"
    for text in (b'{"kind":"tcp","streams":0}', b'{"kind":"udp"}', b'{"kind":"tcp","streams":"1"}'):
        with pytest.raises(msgspec.ValidationError):
            msgspec.json.decode(text, type=TcpSpec)


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: SocketOptions(window_bytes=10 * 2**30), "is 10.0 GiB: it must be 1 B to 512 MiB"),
        (
            lambda: SocketOptions(window_bytes=2**29 + 1),
            "536870913 bytes: it must be 1 B to",
        ),
        (lambda: UdpSpec(datagram_bytes=2**16), "is 65536 B: it must be 16 to 65507 B"),
        (
            lambda: RrSpec(transport="udp", request_bytes=2**16),
            "is 65536 B: it must be 16 to 65507 B",
        ),
        (lambda: SocketOptions(mss_bytes=7), "is 7 B: it must be 88 B to 32.0 KiB"),
        (lambda: SocketOptions(pacing_bps=10**14), "100 Tbit/s: it must be 1.00 bit/s to 10.0 Tb"),
        (lambda: Timing(duration_s=90_000), "is 90000 s: it must be 0.001 to 86400 s"),
        (lambda: Timing(total_bytes=10**30), "is 1e+30 bytes: it must be 1 B to 8388608 TiB"),
    ],
)
def test_values_out_of_range_are_told_in_the_units_of_users(make: Any, said: str) -> None:
    with pytest.raises(SpecError) as caught:
        make()
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("host", "family"),
    [("192.0.2.1", "ipv6"), ("2001:db8::1", "ipv4"), ("fe80::1%eth0", "ipv4"), ("[::1]", "ipv4")],
)
def test_an_address_of_the_other_ip_version_is_named(host: str, family: Any) -> None:
    asked = family.replace("ip", "IP")
    url_host = host if "." in host else f"[{host.strip('[]')}]"
    options = SocketOptions(family=family)
    for make in (
        lambda: check_family(host, family),
        lambda: SocketOptions(family=family, bind_address=host),
        lambda: make_run(host, TcpSpec(options=options)),
        lambda: HttpSpec(url=f"http://{url_host}/file", options=options),
    ):
        with pytest.raises(SpecError, match=f"but only {asked} was asked for") as caught:
            make()
        assert "leave out -" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("host", "family"), [("192.0.2.1", "ipv4"), ("::1", "ipv6"), ("lab1", "ipv6"), ("::1", "any")]
)
def test_other_hosts_pass(host: str, family: Any) -> None:
    check_family(host, family)


def test_texts_of_any_bytes() -> None:
    """Bytes of a command line that are not UTF-8 are kept in texts for people."""
    assert nm.TcpSpec(title="caf\udce9", extra_data="\udcff").title == "caf\udce9"
    for wrong in ({"title": "\ud800"}, {"extra_data": "\ud800"}):
        with pytest.raises(nm.SpecError, match="half of a surrogate pair"):
            nm.UdpSpec(**wrong)  # type: ignore[arg-type]
    for name in ("congestion", "bind_device"):
        with pytest.raises(nm.SpecError, match="is not the name of a"):
            nm.SocketOptions(**{name: "\udcff"})  # type: ignore[arg-type]
