"""Define which figures of a run are kept, which runs belong to the same test, and which changes
matter."""

from __future__ import annotations

import msgspec

from netmeasure.comparison.comparison import PARTS, Part
from netmeasure.comparison.runs import RunFigures
from netmeasure.spec import DEFAULT_MARGIN, FtpSpec, HttpSpec, RequestSpec, Spec

#: The figures that are kept, and for each the least change that is reported.
METRICS: dict[str, Part] = {
    part.name: part
    for part in (Part("steady_bps", relative=True, least=DEFAULT_MARGIN), *PARTS)
    if part.name != "ramp_lost_bytes"  # this figure follows from the ramp and the rate
}
#: Fields that do not affect what is measured: names, secrets, timeouts, and output.
_NO_PART_OF_THE_TEST = {
    *("url", "title", "extra_data", "server_output", "deadlines", "link", "credentials", "secret"),
    *("user", "password", "pins", "ca_file", "insecure", "headers", "file", "interval_s"),
    *("baseline_s", "bind_address", "bind_port", "exclusive", "direction", "latency"),
}


def kept(run: RunFigures) -> dict[str, float]:
    """Return the known figures of a run; none if the run does not count."""
    if not run.counts:
        return {}
    found = {name: getattr(run, name) for name in METRICS}
    return {name: float(value) for name, value in found.items() if value is not None}


def test_words(spec: Spec) -> str:
    """Return the test's kind and its settings that are not the defaults, such as "TCP download
    streams=4".

    Runs with the same text belong to the same test.
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
    """Return whether a change of a figure is large enough to be reported."""
    part = METRICS[metric]
    apart = abs(after - before)
    return apart >= part.least * abs(before) and apart >= part.floor


def least_scatter(metric: str, *, positive: bool) -> float:
    """Return the least scatter to assume: a quarter of the least change."""
    part = METRICS[metric]
    return (part.least if positive else part.floor or part.least) / 4
