"""Show a link's payload ceiling: bytes of each layer, the rate, and the right MTU."""

from __future__ import annotations

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from netmeasure.overhead.sizes import TIMESTAMPS
from netmeasure.report.mtu import FIGURES, mismatch, share_percent, sizes
from netmeasure.report.rates import steady_bps
from netmeasure.report.tables import Row, add_column, add_row, plain_table
from netmeasure.result import Ceiling, Flow, PathFacts
from netmeasure.units import bitrate

FRAMINGS = {
    "wire": "counted on the wire, with preamble and gap",
    "frame": "counted from the Ethernet header on, as tc's tbf does",
    "ip": "counted as IP packets",
}
_SHORT_FRAMINGS = {"wire": "on the wire", "frame": "in Ethernet frames", "ip": "in IP packets"}
#: A measured share above this is not a rounding error: the link's options must be wrong.
TOO_MUCH = 1.005


def render(
    ceiling: Ceiling, path: PathFacts | None = None, *, link_mtu_said: bool = True
) -> RenderableType:
    """Return the whole answer of `netmeasure ceiling`.

    `link_mtu_said` is False if the link's MTU was not given and is a guess.
    """
    rate = "a link of unknown rate"
    if ceiling.link_bps is not None:
        rate = bitrate(ceiling.link_bps, FIGURES)
    parts: list[RenderableType] = [
        Text(f"Payload ceiling of {rate}: {conditions(ceiling)}", style="bold"),
        Text(f"{FRAMINGS[ceiling.framing].capitalize()}.\n"),
        Padding(_layers(ceiling), (0, 0, 0, 2)),
        Text(""),
        Padding(_figures(ceiling), (0, 0, 0, 2)),
    ]
    if not link_mtu_said:
        parts.append(
            Text(
                f"\nThe link's MTU was not given and is taken to be {ceiling.link_mtu_bytes}: give"
                " --link-mtu to learn whether these packets pass whole."
            )
        )
    if path is not None:
        parts += [Text(f"\n{line}") for line in path_lines(path, ceiling)]
    if sentence := mismatch(ceiling):
        parts.append(Text(f"\n{sentence}"))
    return Group(*parts)


def _layers(ceiling: Ceiling) -> Table:
    table = plain_table()
    add_column(table, "layer")
    add_column(table, "bytes", right=True)
    add_column(table, "share", right=True)
    add_column(table, "source", wraps=True)
    for layer in ceiling.layers:
        share = share_percent(layer.bytes / ceiling.link_bytes)
        add_row(table, layer.name, str(layer.bytes), share, layer.source)
    packets = len(ceiling.packet_bytes)
    said = "" if packets == 1 else f"in {packets} packets: {sizes(ceiling)} bytes"
    add_row(table, "on the link", str(ceiling.link_bytes), share_percent(1), said)
    return table


def _figures(ceiling: Ceiling) -> Table:
    table = plain_table(header=False)
    add_column(table)
    add_column(table, right=True)
    add_column(table, wraps=True)
    share = f"{share_percent(ceiling.share)} of the link's rate"
    if ceiling.payload_bps is None:
        add_row(table, "payload rate", share_percent(ceiling.share), "of the link's rate")
    else:
        add_row(table, "payload rate", bitrate(ceiling.payload_bps, FIGURES), share)
        add_row(table, "packets", f"{ceiling.packets_per_second:.0f} /s", "on the link")
    inner = "of the inner packets" if ceiling.encapsulation else "of the packets"
    add_row(table, "MTU", str(ceiling.mtu_bytes), inner)
    if ceiling.mss_bytes is not None:
        add_row(table, "MSS", str(ceiling.mss_bytes), "as announced: TCP's options are part of it")
    words = f"largest that passes a link with an MTU of {ceiling.link_mtu_bytes} whole"
    add_row(table, "right MTU", str(ceiling.right_mtu_bytes), words)
    if ceiling.right_mss_bytes is not None:
        add_row(table, "right MSS", str(ceiling.right_mss_bytes), "")
    return table


def conditions(ceiling: Ceiling) -> str:
    """Return the conditions of a ceiling, such as "MTU 1450, IPv4, TCP timestamps, in vxlan"."""
    words = [f"MTU {ceiling.mtu_bytes}", f"IPv{ceiling.ip_version}"]
    if ceiling.mss_bytes is None:
        words.append(f"UDP datagrams of {ceiling.payload_bytes} bytes")
    else:
        words.append("TCP timestamps" if ceiling.timestamps else "TCP without timestamps")
        if ceiling.payload_bytes != ceiling.mss_bytes - TIMESTAMPS.bytes * ceiling.timestamps:
            words.append(f"segments of {ceiling.payload_bytes} bytes")
    if ceiling.encapsulation:
        words.append(f"in {ceiling.encapsulation}")
    return ", ".join(words)


def path_lines(path: PathFacts, ceiling: Ceiling) -> list[str]:
    """Return lines on the kernel's information about the path, with its reliability."""
    named = f" ({path.interface_kind})" if path.interface_kind else ""
    way = "unknown interface" if path.interface is None else f"{path.interface}{named}"
    lines = [
        f"Path to {path.address}: MTU {path.path_mtu_bytes or 'unknown'}, through {way} with MTU"
        f" {path.interface_mtu_bytes or 'unknown'}, {_speed(path)}."
    ]
    kind = path.interface_kind or ""
    if kind in ("vlan", "vxlan", "geneve", "wireguard") and kind not in ceiling.encapsulation:
        lines.append(
            f"{path.interface} puts headers around its packets that are not counted here: add"
            f" --encap {kind}."
        )
    return lines


def _speed(path: PathFacts) -> str:
    if path.speed_bps is None:
        return "link rate unknown"
    if not path.speed_is_real:
        return f"which says {bitrate(path.speed_bps)}, but is no physical device"
    return f"link rate {bitrate(path.speed_bps)}"


def share_row(flow: Flow) -> Row | None:
    """Return a row on a flow's share of its link's ceiling; None: one of the two is unknown."""
    ceiling, share, steady_rate = flow.ceiling, flow.ceiling_share, steady_bps(flow)
    if ceiling is None or share is None or steady_rate is None or ceiling.payload_bps is None:
        return None
    steady, most = (bitrate(bps, FIGURES) for bps in (steady_rate, ceiling.payload_bps))
    if steady.split()[1] == most.split()[1]:
        steady = steady.split()[0]
    words = f"{steady} of {most}: {conditions(ceiling)}, {_SHORT_FRAMINGS[ceiling.framing]}"
    return "of the ceiling", share_percent(share), words + _doubt(share)


def share_words(share: float) -> str:
    """Return a share of the ceiling such as "99.9 %", with a warning if it is more than
    possible."""
    return f"{share_percent(share)}{_doubt(share)}"


def _doubt(share: float) -> str:
    words = "; more than possible: the link's rate, MTU or framing differs from the options"
    return words if share > TOO_MUCH else ""
