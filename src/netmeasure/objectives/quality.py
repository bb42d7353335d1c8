"""Score results by the Quality of Outcome of draft-ietf-ippm-qoo: how near a path comes to what an
application needs."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from netmeasure import units
from netmeasure.errors import SpecError
from netmeasure.result import Result
from netmeasure.result.histogram import Histogram

_EXAMPLE = "p99 100..200ms, p99.9 200..300ms, loss 0.1..2%, rate 4M"
_PART = re.compile(r"(?P<name>\S+)\s+(?P<value>.+)", re.DOTALL)
_PERCENTILE = re.compile(r"p(\d{1,2}(?:\.\d+)?|100)")
_UNIT = re.compile(r"[a-z%]+\Z", re.IGNORECASE)


class NeedSpan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the range of one figure from optimal to unacceptable.

    Attributes:
        figure: "loss", or a percentile of the round trips: "p99", "p99.9".
        optimal: Up to this value nothing more is needed: ns of a percentile, a ratio of the loss.
        unacceptable: From this value on, the application is not usable; more than `optimal`.
    """

    figure: str
    optimal: float
    unacceptable: float

    def score(self, value: float) -> float:
        """Return 1 for an optimal value, 0 for an unacceptable one, and linearly in between."""
        share = (value - self.optimal) / (self.unacceptable - self.optimal)
        return min(max(1 - share, 0.0), 1.0)


class QualityRequirement(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what an application needs of the network, in both directions together.

    Attributes:
        text: The requirement's original text.
        spans: The ranges of latency percentiles and of the loss, in the order of the text.
        least_bps: The least bitrate; None: any.
    """

    text: str
    spans: tuple[NeedSpan, ...] = ()
    least_bps: float | None = None


class QualityScore(NamedTuple):
    """Hold what one figure of a requirement contributes.

    Attributes:
        figure: "p99", "loss", "rate".
        value: The figure that was measured: ns, a ratio, bit/s; None: unknown.
        score: 0 to 1; None: unknown.
        reason: Why it is unknown; None: it is known.
    """

    figure: str
    value: float | None
    score: float | None
    reason: str | None = None

    @property
    def words(self) -> str:
        """Return it as text."""
        if self.value is None or self.score is None:
            return f"{self.figure} unknown ({self.reason})"
        if self.figure == "rate":
            shown = units.bitrate(self.value)
        else:
            shown = (units.percent if self.figure == "loss" else units.duration)(self.value)
        return f"{self.figure} {shown} gives {100 * self.score:.0f} %"


class QualityOfOutcome(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the Quality of Outcome of one run.

    Attributes:
        requirement: What the application needs.
        score: The lowest score of all figures, 0 to 1; None: unknown. It is known if a figure is
            unacceptable, whatever the unknown ones are.
        figures: What each figure contributes.
    """

    requirement: QualityRequirement
    score: float | None
    figures: tuple[QualityScore, ...]

    @property
    def words(self) -> str:
        """Return it as one line of text."""
        total = "unknown" if self.score is None else f"{100 * self.score:.0f} %"
        return f"{total}: {', '.join(figure.words for figure in self.figures)}"


def parse_requirement(text: str) -> QualityRequirement:
    """Return the requirement of a text such as "p99 100..200ms, loss 0.1..2%, rate 4M".

    The value before the dots is optimal, that after them is unacceptable. Raises SpecError for a
    mistake.
    """
    spans: list[NeedSpan] = []
    least_bps: float | None = None
    for part in filter(None, map(str.strip, text.split(","))):
        match = _PART.fullmatch(part)
        if match is None:
            raise SpecError(
                f"{part!r} is incomplete: a figure and its values are needed",
                hint=f"write for example '{_EXAMPLE}'",
            )
        name = match["name"]
        if name in [span.figure for span in spans] or (name == "rate" and least_bps is not None):
            raise SpecError(f"{part!r}: {name!r} was given already", hint="give it once")
        if name == "rate":
            least_bps = float(units.parse_bitrate(match["value"]))
        elif name == "loss" or _PERCENTILE.fullmatch(name):
            spans.append(_span(part, name, match["value"]))
        else:
            raise SpecError(
                f"{part!r}: there is no figure {name!r}",
                hint="there are percentiles such as p99, loss, and rate",
            )
    if not spans and least_bps is None:
        raise SpecError("no needs were given", hint=f"write for example '{_EXAMPLE}'")
    return QualityRequirement(text=text, spans=tuple(spans), least_bps=least_bps)


def _span(part: str, figure: str, text: str) -> NeedSpan:
    first, dots, last = (word.strip() for word in text.partition(".."))
    if not dots:
        raise SpecError(
            f"{part!r} is no range",
            hint="write what is optimal and what is unacceptable: 100..200ms",
        )
    unit = _UNIT.search(last)
    if unit is not None and _UNIT.search(first) is None:
        first += unit[0]
    parse = units.parse_ratio if figure == "loss" else units.parse_duration_ns
    try:
        optimal, unacceptable = float(parse(first)), float(parse(last))
    except SpecError as exc:
        raise SpecError(f"{part!r}: {exc}", hint=exc.hint) from None
    if not optimal < unacceptable:
        raise SpecError(
            f"{part!r}: what is unacceptable must be more than what is optimal",
            hint="write the smaller value first",
        )
    if figure == "loss" and unacceptable > 1:
        raise SpecError(f"{part!r}: more than 100 % can't be lost", hint="write 0.1..2%")
    return NeedSpan(figure=figure, optimal=optimal, unacceptable=unacceptable)


def quality_of_outcome(requirement: QualityRequirement, result: Result) -> QualityOfOutcome:
    """Return the Quality of Outcome of a run (draft-ietf-ippm-qoo, "Calculating QoO").

    Latency and loss are those of round trips: of the probe under the load of a bulk test, or of a
    test of round trips. The bitrate is the average after the omitted time, of the slower direction.
    """
    figures = [_score(span, result) for span in requirement.spans]
    if requirement.least_bps is not None:
        figures.append(_rate(requirement.least_bps, result))
    scores = [figure.score for figure in figures if figure.score is not None]
    lowest = min(scores, default=None)
    all_known = len(scores) == len(figures)
    return QualityOfOutcome(
        requirement=requirement,
        score=lowest if all_known or lowest == 0 else None,
        figures=tuple(figures),
    )


def lowest_quality(requirement: QualityRequirement, results: Sequence[Result]) -> QualityOfOutcome:
    """Return the lowest Quality of Outcome of at least one run; a run without one comes first,
    unless another one is unacceptable."""
    found = [quality_of_outcome(requirement, result) for result in results]
    return min(found, key=lambda one: -1.0 if one.score is None else one.score or -2.0)


def _score(span: NeedSpan, result: Result) -> QualityScore:
    value, reason = _loss(result) if span.figure == "loss" else _percentile(span.figure, result)
    return QualityScore(span.figure, value, None if value is None else span.score(value), reason)


def _rate(least_bps: float, result: Result) -> QualityScore:
    rates = [flow.averages.after_omit_bps for flow in result.flows]
    known = [rate for rate in rates if rate is not None]
    if result.round_trips is not None or not known or len(known) < len(rates):
        return QualityScore("rate", None, None, "no bulk transfer was measured")
    return QualityScore("rate", min(known), float(min(known) >= least_bps))


def _percentile(figure: str, result: Result) -> tuple[float | None, str | None]:
    found = _round_trips(result)
    if found is None:
        return None, "no round trips were measured"
    value = found.max_ns if figure == "p100" else found.percentile_ns(float(figure[1:]))
    return value, None if value is not None else f"only {found.count} round trips"


def _round_trips(result: Result) -> Histogram | None:
    if result.round_trips is not None:
        return result.round_trips.latency
    loaded = None if result.latency is None else result.latency.loaded
    return None if loaded is None else loaded.latency


def _loss(result: Result) -> tuple[float | None, str | None]:
    if result.round_trips is not None:
        value = result.round_trips.loss_ratio
    elif result.latency is None or result.latency.loaded is None:
        return None, "no round trips were measured"
    else:
        value = result.latency.loaded.loss_ratio if result.latency.transport == "udp" else None
    return value, None if value is not None else "TCP sends lost packets again"
