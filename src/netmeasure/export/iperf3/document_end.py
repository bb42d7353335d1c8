"""Build the member "end" of iperf3's document.

`sender` says whether this process is the sending side, whatever the object describes; only in the
sums of datagrams sent and received it is always true and false. iperf3's server reads its client's
figures too early and writes zeros; here they are the client's figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from netmeasure.export.iperf3.cjson import Object
from netmeasure.export.iperf3.figures import Direction, Ends, cpu_percent
from netmeasure.export.iperf3.numbers import share
from netmeasure.export.iperf3.settings import File, Settings
from netmeasure.result import Result

Numbers = Mapping[int, int]


def end(
    settings: Settings,
    result: Result,
    directions: Sequence[Direction],
    numbers: Numbers,
    file: File | None,
) -> Object:
    """Return the member "end" of a TCP test."""
    document: Object = {
        "streams": [
            _stream(numbers[i], ends, settings.sends(one.direction), settings, file)
            for one in directions
            for i, ends in one.streams.items()
        ]
    }
    for index, one in enumerate(directions):
        suffix = "_bidir_reverse" if index else ""
        sends, ends = settings.sends(one.direction), one.total
        known = {} if not _tells(settings, one) else {"retransmits": ends.retransmits}
        document[f"sum_sent{suffix}"] = _sent(ends) | known | {"sender": sends}
        document[f"sum_received{suffix}"] = _received(ends) | {"sender": sends}
    document["cpu_utilization_percent"] = _cpu(settings, result)
    return document | _congestion(settings, directions)


def udp_end(
    settings: Settings,
    result: Result,
    directions: Sequence[Direction],
    numbers: Numbers,
    file: File | None,
) -> Object:
    """Return the member "end" of a UDP test."""
    document: Object = {
        "streams": [
            {
                "udp": {
                    "socket": numbers[i],
                    **_datagrams(ends, settings.sends(one.direction), each=True),
                }
            }
            for one in directions
            for i, ends in one.streams.items()
        ]
    }
    for index, one in enumerate(directions):
        suffix = "_bidir_reverse" if index else ""
        sent, received = _sums(one.total)
        document[f"sum{suffix}"] = _datagrams(one.total, settings.sends(one.direction))
        document[f"sum_sent{suffix}"] = sent
        document[f"sum_received{suffix}"] = received
    document["cpu_utilization_percent"] = _cpu(settings, result)
    return document


# ---- TCP -----------------------------------------------------------------------------------------


def _stream(number: int, ends: Ends, sends: bool, settings: Settings, file: File | None) -> Object:
    sent: Object = {"socket": number} | _sent(ends)
    if ends.retransmits is not None and (sends or settings.is_client):
        peaks = ends.peaks
        sent |= {
            "retransmits": ends.retransmits,
            "reorder": peaks.reorder,
            "max_snd_cwnd": peaks.cwnd_bytes,
            "max_snd_wnd": peaks.snd_wnd_bytes,
            "max_rtt": peaks.max_rtt_us,
            "min_rtt": peaks.min_rtt_us,
            "mean_rtt": peaks.mean_rtt_us,
        }
    stream: Object = {"sender": sent | {"sender": sends}}
    if file is not None:
        stream["diskfile"] = {
            "sent": ends.sent_bytes,
            "received": ends.received_bytes,
            "size": file.bytes,
            "percent_sent": _whole_percent(ends.sent_bytes, file.bytes),
            "percent_received": _whole_percent(ends.received_bytes, file.bytes),
            "filename": file.name,
        }
    stream["receiver"] = {"socket": number} | _received(ends) | {"sender": sends}
    return stream


def _tells(settings: Settings, one: Direction) -> bool:
    """Return whether the retransmissions are shown: a server shows only its own."""
    return one.total.retransmits is not None and (
        settings.is_client or settings.sends(one.direction)
    )


def _congestion(settings: Settings, directions: Sequence[Direction]) -> Object:
    """Return the names of the congestion controls.

    Of a two-way test they are those of the download, at both ends.
    """
    one = directions[-1]
    sends = settings.sends(one.direction)
    names: Object = {}
    if one.sender_congestion and (settings.is_client or sends):
        names["sender_tcp_congestion"] = one.sender_congestion
    if one.receiver_congestion and (settings.is_client or not sends):
        names["receiver_tcp_congestion"] = one.receiver_congestion
    return names


# ---- UDP -----------------------------------------------------------------------------------------


def _datagrams(ends: Ends, sends: bool, *, each: bool = False) -> Object:
    """Return what was sent, and how much of it was lost."""
    counts: Object = _sent(ends) | losses(ends.jitter_ms, ends.lost, ends.sent_packets)
    if each:
        counts["out_of_order"] = ends.out_of_order
    return counts | {"sender": sends}


def _sums(ends: Ends) -> tuple[Object, Object]:
    sent = _sent(ends) | losses(0.0, 0, ends.sent_packets) | {"sender": True}
    received = _received(ends) | losses(ends.jitter_ms, ends.lost, ends.packets)
    return sent, received | {"sender": False}


def losses(jitter_ms: float, lost: int, packets: int) -> Object:
    """Return the members about jitter and lost datagrams."""
    return {
        "jitter_ms": jitter_ms,
        "lost_packets": lost,
        "packets": packets,
        "lost_percent": share(lost, packets),
    }


# ---- both ----------------------------------------------------------------------------------------


def _sent(ends: Ends) -> Object:
    return _span(ends.sent_s, ends.sent_bytes, ends.sent_bps)


def _received(ends: Ends) -> Object:
    return _span(ends.received_s, ends.received_bytes, ends.received_bps)


def _span(seconds: float, count: int, bits_per_second: float) -> Object:
    return {
        "start": 0,
        "end": round(seconds, 6),
        "seconds": round(seconds, 6),
        "bytes": count,
        "bits_per_second": bits_per_second,
    }


def _whole_percent(part: int, size: int) -> int:
    return part * 100 // size if size else 100


def _cpu(settings: Settings, result: Result) -> Object:
    sides = (result.client, result.server)
    host, remote = map(cpu_percent, sides if settings.is_client else reversed(sides))
    names = ("total", "user", "system")
    known: Object = {}
    for end_name, shares in (("host", host), ("remote", remote)):
        known |= {f"{end_name}_{n}": v for n, v in zip(names, shares, strict=True)}
    return known
