"""Test payload ceilings against sums by hand from the RFCs, the article's networks, invariants."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st
from msgspec.structs import replace

from netmeasure.analysis.ceiling import Traffic, ceiling, fragment_sizes, right_mtu
from netmeasure.analysis.flow_ceiling import flow_ceiling
from netmeasure.errors import SpecError
from netmeasure.overhead.encapsulation import Packet, parse_stack, wrapped
from netmeasure.overhead.sizes import IpVersion
from netmeasure.report.ceiling import conditions, share_row
from netmeasure.report.mtu import mismatch
from netmeasure.result import Ceiling, Flow, SocketFacts, Steady, StreamReport, TcpInfo
from netmeasure.spec import HttpSpec, Link, TcpSpec, UdpSpec

TEN_GIGABIT = 10**10


def link(mtu: int | None = 1500, encapsulation: str = "", framing: str = "wire") -> Link:
    return Link(
        rate_bps=TEN_GIGABIT,
        mtu_bytes=mtu,
        encapsulation=encapsulation,
        framing=framing,  # type: ignore[arg-type]
    )


def full(mtu: int, encapsulation: str, version: IpVersion = 4) -> int:
    """Return the packet on the link that a full inner packet becomes."""
    return wrapped(Packet(mtu, mtu, version), parse_stack(encapsulation)).bytes


# ---- known answers -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("traffic", "payload"),
    [
        (Traffic(), 1448),  # 1500 - 20 - 20 - 12
        (Traffic(timestamps=False), 1460),
        (Traffic(ip_version=6), 1428),
        (Traffic(sack_blocks=3), 1420),  # 2 + 2 + 3 * 8 more
        (Traffic(timestamps=False, sack_blocks=4), 1424),
        (Traffic("udp"), 1472),
        (Traffic("udp", 6), 1452),
    ],
)
def test_payload_of_a_full_packet(traffic: Traffic, payload: int) -> None:
    found = ceiling(link(), traffic)
    assert found.payload_bytes == payload
    assert found.link_bytes == 1538  # 8 + 14 + 1500 + 4 + 12
    assert found.payload_bps == pytest.approx(TEN_GIGABIT * payload / 1538)


@pytest.mark.parametrize(
    ("encapsulation", "added"),
    [
        ("", 0),
        ("ipip", 20),
        ("ipip:v6", 40),
        ("vxlan", 50),  # 14 + 8 + 8 + 20
        ("vxlan:v6", 70),
        ("vlan,vxlan", 54),
        ("geneve", 50),
        ("geneve:8", 58),
        ("geneve:252:v6", 322),
        ("gre", 24),
        ("gre:key", 28),
        ("gre:key:csum:seq:v6", 56),
        ("gretap", 38),
        ("wireguard", 60),  # 16 + 16 + 8 + 20; nothing for padding in a full packet
        ("wireguard:v6", 80),
        ("vlan", 0),  # tags are not part of the MTU
        ("qinq", 0),
    ],
)
def test_what_an_encapsulation_takes_of_the_mtu(encapsulation: str, added: int) -> None:
    found = ceiling(link(1500, encapsulation))
    assert found.right_mtu_bytes == found.mtu_bytes == 1500 - added
    assert found.right_mss_bytes == 1500 - added - 40
    assert found.packet_bytes == (1500,)


@pytest.mark.parametrize(
    ("encapsulation", "mtu", "packet"),
    [
        # tunnel: IP 20, SPI and sequence 8, IV 8, ICV 16, trailer 2; padded to 4
        ("esp", 1446, 1500),
        ("esp:aes-gcm-16", 1400, 1456),
        ("esp:aes-gcm-12", 1450, 1500),
        ("esp:aes-gcm-8", 1454, 1500),
        ("esp:chacha20-poly1305", 1446, 1500),
        ("esp:aes-gcm-16:v6", 1426, 1500),
        ("esp:aes-gcm-16:nat-t", 1438, 1500),  # 8 for UDP
        # IV 16, ICV 12; payload and trailer are a multiple of 16: 1440 = 1438 + 2
        ("esp:aes-cbc-sha1", 1438, 1496),
        ("esp:aes-cbc-sha256", 1438, 1500),
        ("esp:aes-cbc-sha384", 1422, 1492),
        ("esp:aes-cbc-sha512", 1422, 1500),
        # transport: no second IP header, the first one stays outside
        ("esp:transport", 1466, 1500),
        ("esp:aes-cbc-sha256:transport:nat-t", 1442, 1492),
    ],
)
def test_esp(encapsulation: str, mtu: int, packet: int) -> None:
    assert full(mtu, encapsulation) == packet
    if mtu != 1400:
        assert right_mtu(1500, 4, parse_stack(encapsulation)) == mtu


def test_wireguard_pads_to_16_but_not_beyond_its_mtu() -> None:
    stack = parse_stack("wireguard")
    assert wrapped(Packet(100, 1420, 4), stack).bytes == 112 + 60
    assert wrapped(Packet(1412, 1420, 4), stack).bytes == 1420 + 60
    assert wrapped(Packet(1420, 1420, 4), stack).bytes == 1420 + 60


@pytest.mark.parametrize(("framing", "counted"), [("ip", 45), ("frame", 59), ("wire", 64 + 8 + 12)])
def test_short_frames_are_padded_on_the_wire_only(framing: str, counted: int) -> None:
    found = ceiling(link(framing=framing), Traffic("udp"), payload_bytes=17)
    assert found.link_bytes == counted
    assert found.packet_bytes == (45,)


def test_64_byte_frames_at_10_gbit_are_14_88_million_a_second() -> None:
    """The well-known packet rate of 10 Gbit/s with 64-byte frames: 10 Gbit/s over (64 + 20)
    bytes."""
    found = ceiling(link(), Traffic("udp"), payload_bytes=18)
    assert found.packets_per_second == pytest.approx(14_880_952, abs=1)


def test_tags_count_on_the_wire() -> None:
    assert ceiling(link(encapsulation="vlan")).link_bytes == 1542
    assert ceiling(link(encapsulation="qinq", framing="frame")).link_bytes == 1522
    assert ceiling(link(encapsulation="vlan,vxlan,qinq")).link_bytes == 1546


def test_fragments() -> None:
    assert fragment_sizes(1500, 1500, 4) == (1500,)
    assert fragment_sizes(1501, 1500, 4) == (1500, 21)
    assert fragment_sizes(3000, 1500, 4) == (1500, 1500, 40)
    assert fragment_sizes(1501, 1498, 4) == (1492, 29)  # 1472 is the multiple of 8 below 1478
    # 1280 - 48 = 1232 in each
    assert fragment_sizes(1500, 1280, 6) == (1280, 276)


# ---- the article ---------------------------------------------------------------------------------


def test_encapsulation_lowers_the_maximum_slightly() -> None:
    """The link has 10 Gbit/s and MTU 9000; direct routing is compared with VXLAN."""
    direct, tunnel = ceiling(link(9000)), ceiling(link(9000, "vxlan"))
    assert direct.payload_bps == pytest.approx(9.9004e9, rel=1e-4)
    assert tunnel.payload_bps == pytest.approx(9.8451e9, rel=1e-4)
    assert tunnel.right_mtu_bytes == 8950


WEAVE = "vxlan,esp:aes-gcm-16:transport"


def test_the_encrypted_network_whose_mtu_forgot_esp() -> None:
    """The MTU takes only VXLAN into account, while the link of 9000 carries VXLAN and ESP."""
    found = ceiling(link(9000, WEAVE), mtu_bytes=8950)
    # 8950 + 14 + 8 + 8 and a trailer of 2 are 8982: 2 more to a multiple of 4; IV 8, ESP 8, ICV 16
    # and an IP header of 20 make 9036, of which the first fragment takes 20 + 8976
    assert found.packet_bytes == (8996, 60)
    assert found.right_mtu_bytes == 8916
    said = mismatch(found)
    assert said is not None
    for words in ("is 34 too large", "2 fragments", "0.65 %", "the right MTU is 8916"):
        assert words in said


def test_the_mtu_that_the_article_recommends_passes_whole() -> None:
    """The article's 8196 fits, and so would 720 bytes more (8916: two digits are swapped)."""
    found = ceiling(link(9000, WEAVE), mtu_bytes=8196)
    assert len(found.packet_bytes) == 1
    said = mismatch(found)
    assert said is not None
    for words in ("8196 is 720 smaller than necessary", "0.17 %", "1.09 times the packets", "8916"):
        assert words in said


def test_an_mtu_that_is_far_too_small_for_the_link() -> None:
    """The MTU is the default of some overlays: 1376 bytes on a link that carries 9000."""
    found = ceiling(link(9000, WEAVE), mtu_bytes=1376)
    # 1376 + 30 and a trailer of 2 are padded to 1408; IV 8, ESP 8, ICV 16, IP 20, frame 38
    assert found.link_bytes == 1376 + 30 + 2 + 32 + 20 + 38
    lost = 1 - (1324 / found.link_bytes) / (8864 / 9038)
    assert f"loses {100 * lost:.2f} % of the payload rate" in (mismatch(found) or "")
    assert "6.69 times the packets" in (mismatch(found) or "")


@pytest.mark.parametrize("mtu", [8916, 8915, 8880])
def test_a_few_bytes_less_are_not_worth_a_word(mtu: int) -> None:
    assert mismatch(ceiling(link(9000, WEAVE), mtu_bytes=mtu)) is None


def test_small_payloads_are_not_held_against_the_mtu() -> None:
    small = ceiling(link(9000, WEAVE), Traffic("udp"), mtu_bytes=1450, payload_bytes=64)
    assert mismatch(small) is None


def test_a_loss_is_said_without_a_rate_too() -> None:
    found = ceiling(replace(link(9000, WEAVE), rate_bps=None), mtu_bytes=8950)
    assert found.payload_bps is found.packets_per_second is None
    assert "0.65 % of the payload rate and" in (mismatch(found) or "")


def test_packets_of_twice_the_mtu_lose_nothing_and_it_is_not_said_that_they_do() -> None:
    found = ceiling(link(1500, "gretap:key:v6"), mtu_bytes=17_000)
    assert found.share > found.right_share
    assert "loses no payload rate" in (mismatch(found) or "")


# ---- wrong values --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        *("foo", "vxlan,", ",vxlan", "vxlan:v5", "vxlan:v4:v6", "vxlan:v6:v6", "vlan:v6"),
        *("geneve:3", "geneve:256", "geneve:4:8", "geneve:-4", "gre:keys", "wireguard:16"),
        *("esp:des", "esp:tunnel:transport", "esp:aes-gcm-8:aes-gcm-16", "esp:transport:v6"),
    ],
)
def test_stacks_that_are_refused(text: str) -> None:
    with pytest.raises(SpecError):
        parse_stack(text)
    with pytest.raises(SpecError):
        Link(encapsulation=text)


@pytest.mark.parametrize(
    ("link_mtu", "encapsulation", "version", "mtu"),
    [
        (1500, "vlan,ipip", 4, None),  # a tag with no frame around it
        (68, "vxlan", 4, None),
        (1280, "vxlan", 6, None),
        (1279, "vxlan:v6", 4, None),
        (1500, "", 4, 67),
        (1500, "", 6, 1279),
        (1500, "", 4, 65_536),
        (1500, "", 4, 9000),
        (1500, "vlan", 4, 1501),
        (1500, "esp:transport", 4, 1501),
    ],
)
def test_links_that_cannot_be(
    link_mtu: int, encapsulation: str, version: IpVersion, mtu: int | None
) -> None:
    with pytest.raises(SpecError):
        ceiling(link(link_mtu, encapsulation), Traffic(ip_version=version), mtu_bytes=mtu)


@pytest.mark.parametrize("payload", [-1, 0, 1449])
def test_a_payload_that_does_not_fit(payload: int) -> None:
    with pytest.raises(SpecError, match="1 to 1448"):
        ceiling(link(), payload_bytes=payload)


@pytest.mark.parametrize(
    "traffic",
    [
        Traffic(sack_blocks=4),
        Traffic(timestamps=False, sack_blocks=5),
        Traffic(sack_blocks=-1),
        Traffic("udp", sack_blocks=1),
    ],
)
def test_more_options_than_a_tcp_header_holds(traffic: Traffic) -> None:
    with pytest.raises(SpecError):
        ceiling(link(), traffic)


# ---- what always holds ---------------------------------------------------------------------------

TUNNELS = (
    *("ipip", "ipip:v6", "vxlan", "geneve:8", "gre:key", "wireguard", "vlan,vxlan", "esp"),
    *("esp:aes-cbc-sha256", "esp:aes-cbc-sha1:nat-t:v6", "esp:transport"),
)
UNPADDED = tuple(name for name in TUNNELS if "esp" not in name)
stacks = st.lists(st.sampled_from(TUNNELS), max_size=3).map(",".join)
framings = st.sampled_from(["wire", "frame", "ip"])
versions = st.sampled_from([4, 6])
mtus = st.integers(2000, 65_535)


@given(stacks, framings, versions, mtus, st.integers(1280, 9000))
def test_never_above_the_link_rate_and_every_byte_has_its_layer(
    encapsulation: str, framing: str, version: IpVersion, link_mtu: int, mtu: int
) -> None:
    traffic = Traffic(ip_version=version)
    try:
        found = ceiling(link(link_mtu, encapsulation, framing), traffic, mtu_bytes=mtu)
    except SpecError:
        return
    assert found.payload_bps is not None
    assert 0 < found.payload_bps < TEN_GIGABIT
    assert sum(layer.bytes for layer in found.layers) == found.link_bytes
    assert max(found.packet_bytes) <= link_mtu
    assert (len(found.packet_bytes) == 1) == (full(mtu, encapsulation, version) <= link_mtu)
    assert found.link_bytes >= sum(found.packet_bytes)


@given(stacks, versions, mtus)
def test_the_right_mtu_is_the_largest_that_passes_whole(
    encapsulation: str, version: IpVersion, link_mtu: int
) -> None:
    stack = parse_stack(encapsulation)
    right = right_mtu(link_mtu, version, stack)
    assert full(right, encapsulation, version) <= link_mtu
    assert full(right + 1, encapsulation, version) > link_mtu
    assert right_mtu(link_mtu + 1, version, stack) >= right


@given(st.lists(st.sampled_from(UNPADDED), max_size=3).map(",".join), framings, mtus)
def test_a_larger_mtu_has_a_higher_ceiling(encapsulation: str, framing: str, mtu: int) -> None:
    lower = ceiling(link(mtu - 1, encapsulation, framing))
    assert ceiling(link(mtu, encapsulation, framing)).share > lower.share


@given(
    st.lists(st.sampled_from(TUNNELS), min_size=2, max_size=4),
    st.integers(1, 3),
    st.integers(68, 9000),
    st.integers(0, 1000),
)
def test_stacking_is_associative(layers: list[str], cut: int, size: int, more: int) -> None:
    packet = Packet(size, size + more, 4)
    inner, outer = parse_stack(",".join(layers[:cut])), parse_stack(",".join(layers[cut:]))
    assert wrapped(wrapped(packet, inner), outer) == wrapped(packet, inner + outer)


@given(st.text(alphabet="vxlangeip:,6841-rtc ", max_size=30) | st.text(max_size=20))
def test_any_text_is_a_stack_or_is_refused(text: str) -> None:
    try:
        stack = parse_stack(text)
    except SpecError:
        return
    assert len(stack) == (text.count(",") + 1 if text.strip() else 0)


@given(st.sampled_from([name for name in TUNNELS if "esp" in name]), st.integers(68, 9000))
def test_esp_fills_its_blocks_and_no_more(name: str, size: int) -> None:
    unit = 16 if "cbc" in name else 4
    packet = wrapped(Packet(size, size, 4), parse_stack(name))
    padding = sum(header.bytes for header in packet.headers if "padding" in header.name)
    covered = size - 20 if "transport" in name else size
    assert 0 <= padding < unit
    assert (covered + padding + 2) % unit == 0


# ---- of a test -----------------------------------------------------------------------------------


def report(mss: int | None, pmtu: int | None, remote: str | None = "10.0.0.1:5201") -> StreamReport:
    info = TcpInfo(
        at_ns=(1,),
        mss_bytes=None if mss is None else (mss,),
        pmtu_bytes=None if pmtu is None else (pmtu,),
    )
    return StreamReport(id=1, role="sender", tcp_info=info, socket=SocketFacts(remote=remote))


def of_flow(
    sender: StreamReport, spec: TcpSpec | UdpSpec | HttpSpec | None = None
) -> Ceiling | None:
    return flow_ceiling(spec or TcpSpec(link=link(None)), [sender], [])


@pytest.mark.parametrize(
    ("sender", "timestamps", "payload", "version"),
    [
        (report(1448, 1500), True, 1448, 4),
        (report(1460, 1500), False, 1460, 4),
        (report(1428, 1500, "[fd00::1]:5201"), True, 1428, 6),
        (report(1388, 9000), True, 1388, 4),  # the other side announced an MSS of 1400
        (report(None, 1500), True, 1448, 4),
    ],
)
def test_a_flow_says_what_its_packets_are(
    sender: StreamReport, timestamps: bool, payload: int, version: int
) -> None:
    found = of_flow(sender)
    assert found is not None
    assert (found.timestamps, found.payload_bytes) == (timestamps, payload)
    assert found.ip_version == version


@pytest.mark.parametrize(
    ("mss", "timestamps", "payload"), [(1448, True, 1448), (1460, False, 1460), (536, True, 1448)]
)
def test_a_receivers_segments_are_not_those_it_gets(
    mss: int, timestamps: bool, payload: int
) -> None:
    spec = HttpSpec(url="http://h/", link=link())
    found = flow_ceiling(spec, [], [replace(report(mss, 1500), role="receiver")])
    assert found is not None
    assert (found.timestamps, found.payload_bytes) == (timestamps, payload)


@pytest.mark.parametrize(
    ("sender", "spec"),
    [
        (report(1448, 1500), TcpSpec()),
        (report(1448, 1500), TcpSpec(link=Link())),
        (report(1448, None), None),
        (report(1448, 1500, None), None),
        (report(8948, 9000), TcpSpec(link=link(1500))),  # there must be a tunnel, or a mistake
        (report(None, 1500), UdpSpec(link=link(), datagram_bytes=1473)),  # fragments
    ],
)
def test_what_is_not_known_has_no_ceiling(sender: StreamReport, spec: TcpSpec | None) -> None:
    assert of_flow(sender, spec) is None


def test_datagrams_and_bodies() -> None:
    udp = of_flow(report(None, 1500), UdpSpec(link=link(), datagram_bytes=1000))
    assert udp is not None
    assert (udp.payload_bytes, udp.link_bytes) == (1000, 1066)
    body = of_flow(report(1448, 1500), HttpSpec(url="http://h/", link=link(framing="frame")))
    assert body is not None
    assert body.link_bytes == 1514


def test_the_row_of_the_report() -> None:
    found = of_flow(report(1448, 1500), TcpSpec(link=link(framing="frame")))
    assert found is not None
    steady = Steady(
        verdict="steady",
        start_ns=0,
        end_ns=10**9,
        bytes=1,
        goodput_bps=0.998 * TEN_GIGABIT * 1448 / 1514,
        batches=40,
        batch_ns=1,
    )
    flow = Flow(direction="upload", streams=(), steady=steady, ceiling=found)
    assert flow.ceiling_share == pytest.approx(0.998)
    name, share, words = share_row(flow) or ("", "", "")
    assert (name, share) == ("of the ceiling", "99.8 %")
    assert words == "9.545 of 9.564 Gbit/s: MTU 1500, IPv4, TCP timestamps, in Ethernet frames"
    slow = replace(flow, steady=replace(steady, goodput_bps=1e6))
    assert (share_row(slow) or ("", "", ""))[1:] == (
        "0.01 %",
        "1.000 Mbit/s of 9.564 Gbit/s: MTU 1500, IPv4, TCP timestamps, in Ethernet frames",
    )
    fast = replace(flow, steady=replace(steady, goodput_bps=TEN_GIGABIT))
    assert "more than possible" in (share_row(fast) or ("", "", ""))[2]
    assert share_row(replace(flow, ceiling=None)) is None
    assert replace(flow, steady=None).ceiling_share is None


@pytest.mark.parametrize(
    ("traffic", "payload", "text"),
    [
        (Traffic(), None, "MTU 1450, IPv4, TCP timestamps, in vxlan"),
        (Traffic(timestamps=False), 1000, "TCP without timestamps, segments of 1000 bytes, in"),
        (Traffic(sack_blocks=1), None, "TCP timestamps, segments of 1386 bytes, in"),
        (Traffic("udp", 6), 100, "MTU 1450, IPv6, UDP datagrams of 100 bytes, in vxlan"),
    ],
)
def test_what_a_ceiling_holds_for(traffic: Traffic, payload: int | None, text: str) -> None:
    assert text in conditions(ceiling(link(1500, "vxlan"), traffic, payload_bytes=payload))
