"""Say which figures of a run are kept, when two runs are the same test, which changes matter."""

from __future__ import annotations

import msgspec

from netmeasure.comparison.comparison import PARTS, Part
from netmeasure.comparison.runs import RunFigures
from netmeasure.spec import DEFAULT_MARGIN, FtpSpec, HttpSpec, RequestSpec, Spec

#: The figures that are kept, and the least change of each that is worth a word.
METRICS: dict[str, Part] = {
    part.name: part
    for part in (Part("steady_bps", relative=True, least=DEFAULT_MARGIN), *PARTS)
    if part.name != "ramp_lost_bytes"  # it follows from the ramp and the rate
}
#: What does not change what is measured: names, secrets, how long to wait, what is shown.
_NO_PART_OF_THE_TEST = {
    *("url", "title", "extra_data", "server_output", "deadlines", "link", "credentials", "secret"),
    *("user", "password", "pins", "ca_file", "insecure", "headers", "file", "interval_s"),
    *("baseline_s", "bind_address", "bind_port", "exclusive", "direction", "latency"),
}


def kept(run: RunFigures) -> dict[str, float]:
    """Return the figures that are known of a run that counts; of another none."""
    if not run.counts:
        return {}
    found = {name: getattr(run, name) for name in METRICS}
    return {name: float(value) for name, value in found.items() if value is not None}


def test_words(spec: Spec) -> str:
    """Return what was asked for, where it is not the default, such as "TCP download streams=4".

    Runs with the same words are runs of the same test.
    """
    kind = (
        spec.kind
        if isinstance(spec, HttpSpec | FtpSpec | RequestSpec)
        else type(spec).__name__.removesuffix("Spec").upper()
    )
    return " ".join([kind, spec.direction, *_asked(spec)])


def _asked(part: msgspec.Struct) -> list[str]:
    """Return the fields that differ from their defaults as texts "name=value"."""
    found = []
    for field in msgspec.structs.fields(type(part)):
        value = getattr(part, field.name)
        if field.name in _NO_PART_OF_THE_TEST or value == field.default:
            continue
        if isinstance(value, msgspec.Struct):
            found += _asked(value)
        else:
            found.append(
                f"{field.name}={value:g}" if isinstance(value, float) else f"{field.name}={value}"
            )
    return found


def matters(metric: str, before: float, after: float) -> bool:
    """Return whether a change of a figure is large enough to be worth a word."""
    part = METRICS[metric]
    apart = abs(after - before)
    return apart >= part.least * abs(before) and apart >= part.floor


def least_scatter(metric: str, *, positive: bool) -> float:
    """Return the scatter that is assumed at least: the least change would be four times it."""
    part = METRICS[metric]
    return (part.least if positive else part.floor or part.least) / 4
