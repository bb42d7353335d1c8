"""Format rates, and leave out those that could not be measured."""

from __future__ import annotations

from netmeasure.result import Flow, Interval, Stretch
from netmeasure.result.steady import LEAST_STRETCH_NS
from netmeasure.units import bitrate

#: Shares of time may exceed 1 by this much, since their parts are read one after the other.
MAX_RATIO = 1.05


def stretch_bps(stretch: Stretch | Interval) -> float | None:
    """Return the rate of a stretch in bit/s; None: the stretch is too short for one."""
    return stretch.measured_bps


def steady_bps(flow: Flow) -> float | None:
    """Return the steady bitrate of a flow in bit/s; None: unknown, or from too short a stretch."""
    steady = flow.steady
    if steady is None or steady.duration_ns < LEAST_STRETCH_NS:
        return None
    return steady.goodput_bps


def stretch_words(stretch: Stretch | Interval) -> str:
    """Return the rate of a stretch as text; "unknown" if the stretch is too short for one."""
    return bitrate(stretch_bps(stretch))


def ratio_words(ratio: float | None) -> str | None:
    """Return a share of time as text such as "97 %".

    None: the share is unknown, or above 1 because its parts were not measured over the same time.
    """
    if ratio is None or not 0 <= ratio <= MAX_RATIO:
        return None
    return f"{100 * min(ratio, 1.0):.0f} %"
