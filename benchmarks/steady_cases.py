"""Make synthetic transfers with a known steady rate, by which bench_steady judges the analysis.

Every case makes `runs` series at once: a row for each run, a column for each bucket, as shares of
the plateau. Correlation times are shares of the length, so a case means the same at 2, 10 and 60 s.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Generator = np.random.Generator
Made = tuple[Floats, "float | Floats"]

RTT_S = 0.02
PLATEAU_BPS = 1e9


class Case(NamedTuple):
    """Hold one case.

    `make(generator, runs, times_s, span_s)` returns (rates, the true steady rate). `lengths` is how
    many correlation times (of an AR(1) with the same long-run variance) a run lasts.
    """

    name: str
    make: Callable[[Generator, int, Floats, float], Made]
    lengths: float
    ramp: bool = False
    shift: bool = False
    rare: bool = False


def correlated(generator: Generator, runs: int, count: int, buckets: float) -> Floats:
    """Return an AR(1) process, mean 0, deviation 1, whose correlation falls to 1/e in `buckets`."""
    phi = float(np.exp(-1 / buckets)) if buckets > 0 else 0.0
    steps = generator.standard_normal((count, runs))
    steps[1:] *= np.sqrt(1 - phi * phi)
    for i in range(1, count):
        steps[i] += phi * steps[i - 1]
    return steps.T


def noise(lengths: float, deviation: float = 0.1) -> Callable[..., Floats]:
    """Return normal noise with so many correlation times in a run."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Floats:
        buckets = len(times) / lengths
        return deviation * correlated(generator, runs, len(times), buckets)

    return make


def plateau(lengths: float) -> Case:
    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        return 1 + noise(lengths)(generator, runs, times, span), 1.0

    return Case(f"plateau, {lengths:g} tau", make, lengths)


def slow_start(times: Floats, span: float) -> Floats:
    """Return a slow start: the rate doubles each round trip, from ten segments on."""
    first = 10 * 1448 * 8 / RTT_S / PLATEAU_BPS
    return np.minimum(1, first * 2 ** np.minimum(times // RTT_S, 40))


def slow_ramp(times: Floats, span: float) -> Floats:
    """Return an exponential approach with a time constant of a tenth of the run, at most 1 s."""
    return 1 - np.exp(-times / min(1.0, span / 10))


def burst(times: Floats, span: float) -> Floats:
    """Return a policer's burst: half as much again passes for a tenth of the run, at most 2 s."""
    return np.where(times < min(2.0, span / 10), 1.5, 1.0)


def ramped(name: str, shape: Callable[[Floats, float], Floats]) -> Case:
    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        return shape(times, span) * (1 + noise(200)(generator, runs, times, span)), 1.0

    return Case(name, make, 200, ramp=True)


def bursting() -> Case:
    """Return a burst that counts as a level of its own: the mean is that of both levels."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        shape = burst(times, span)
        return shape * (1 + noise(200)(generator, runs, times, span)), float(shape.mean())

    return Case("policer's burst", make, 200, shift=True)


def one_stall(generator: Generator, runs: int, times: Floats, span: float) -> Made:
    """Return a slow start, then a stall of 0.3 s somewhere between 30 and 90 % of the run."""
    rates = slow_start(times, span) * (1 + noise(200)(generator, runs, times, span))
    since = generator.uniform(0.3, 0.9, (runs, 1)) * span
    # the slow start takes seven round trips
    return np.where((times >= since) & (times < since + 0.3), 0, rates), 1 - 0.3 / (span - 0.14)


def many_stalls(generator: Generator, runs: int, times: Floats, span: float) -> Made:
    """Return stalls of 50 ms, on average every 2 s."""
    rates = 1 + noise(200)(generator, runs, times, span)
    width = round(0.05 * len(times) / span)
    begins = generator.random((runs, len(times) + width)) < 0.5 * span / len(times)
    stalled = np.zeros_like(rates, dtype=bool)
    for i in range(width):
        stalled |= begins[:, i : i + len(times)]
    return np.where(stalled, 0, rates), (1 - 0.5 * span / len(times)) ** width


def sawtooth(teeth: int) -> Case:
    """Return cubic's sawtooth: after a loss 70 %, then back with the third power of the time."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        lasting = generator.uniform(0.8, 1.2, (runs, 2 * teeth + 4)) * span / teeth
        ends = np.cumsum(lasting, axis=1) - lasting[:, :1] * generator.random((runs, 1))
        rates = np.empty((runs, len(times)))
        for run in range(runs):
            tooth = np.searchsorted(ends[run], times)
            left = (ends[run, tooth] - times) / lasting[run, tooth]
            rates[run] = 1 - 0.3 * left**3
        return rates + noise(1000, 0.03)(generator, runs, times, span), 1 - 0.3 / 4

    return Case(f"cubic sawtooth, {teeth} teeth", make, 1000)


def two_scales(generator: Generator, runs: int, times: Floats, span: float) -> Made:
    fast, slow = noise(1000, 0.08), noise(60, 0.06)
    return 1 + fast(generator, runs, times, span) + slow(generator, runs, times, span), 1.0


def shift(size: float, at: float, lengths: float) -> Case:
    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        level = np.where(times < at * span, 1, 1 + size) * slow_start(times, span)
        truth = at + (1 - at) * (1 + size)
        return level * (1 + noise(lengths, 0.05)(generator, runs, times, span)), truth

    return Case(f"shift by {100 * size:g} % at {100 * at:g} %", make, lengths, shift=True)


def skewed(generator: Generator, runs: int, times: Floats, span: float) -> Made:
    """Return log-normal rates: below half the mean for a quarter of the time, rarely four times the
    mean."""
    logs = 0.7 * correlated(generator, runs, len(times), len(times) / 400)
    return np.exp(logs - 0.245), 1.0


def heavy(generator: Generator, runs: int, times: Floats, span: float) -> Made:
    """Return Student's t with three degrees of freedom, independent."""
    return np.maximum(0, 1 + 0.1 * generator.standard_t(3, (runs, len(times)))), 1.0


def paced(generator: Generator, runs: int, times: Floats, span: float) -> Made:
    """Return a paced rate: a bucket that has too much is followed by one that has as much too
    little."""
    steps = generator.standard_normal((runs, len(times) + 1))
    return 1 + 0.15 * (steps[:, 1:] - 0.6 * steps[:, :-1]), 1.0


def slow_approach(share: float, deviation: float) -> Case:
    """Return an exponential approach whose time constant is this share of the run."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        shape = 1 - np.exp(-times / (share * span))
        return shape * (1 + noise(200, deviation)(generator, runs, times, span)), 1.0

    name = f"approach of {100 * share:g} %, {100 * deviation:g} %"
    return Case(name, make, 200)


def overshoot(size: float, share: float, deviation: float) -> Case:
    """Return a slow start, then more than the plateau, with an excess that decreases
    exponentially."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        shape = slow_start(times, span) * (1 + size * np.exp(-times / (share * span)))
        return shape * (1 + noise(200, deviation)(generator, runs, times, span)), 1.0

    name = f"overshoot of {100 * size:g} % for {100 * share:g} %, {100 * deviation:g} %"
    return Case(name, make, 200)


def lognormal(sigma: float, lengths: float) -> Case:
    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        logs = sigma * correlated(generator, runs, len(times), len(times) / lengths)
        return np.exp(logs - sigma**2 / 2), 1.0

    return Case(f"lognormal {sigma:g}, {lengths:g} tau", make, lengths)


def student_t(lengths: float, deviation: float = 0.1) -> Case:
    """Return Student's t with three degrees of freedom, through a correlated normal's quantiles."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        normal = correlated(generator, runs, len(times), len(times) / lengths)
        quantiles = np.sign(normal) * t3_quantile(0.5 + 0.5 * erf(np.abs(normal) / np.sqrt(2)))
        return 1 + deviation * quantiles, 1.0

    return Case(f"t(3), {lengths:g} tau", make, lengths)


def erf(x: Floats) -> Floats:
    """Return the error function by Abramowitz and Stegun 7.1.26, to 1.5e-7."""
    t = 1 / (1 + 0.3275911 * x)
    series = 0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429
    total = np.zeros_like(t)
    for factor in reversed(series):
        total = (total + factor) * t
    return np.asarray(1 - total * np.exp(-(x**2)))


def _t3_table() -> tuple[Floats, Floats]:
    t = np.concatenate(([0.0], np.geomspace(1e-4, 200, 4000)))
    x = t / np.sqrt(3)
    return 0.5 + (x / (1 + x**2) + np.arctan(x)) / np.pi, t


_T3 = _t3_table()


def t3_quantile(probability: Floats) -> Floats:
    return np.asarray(np.interp(probability, *_T3))


def probe_rtt(every_s: float = 10.0, lasting_s: float = 0.2) -> Case:
    """Return bbr's rate: almost nothing for 0.2 s every 10 s, at an unknown phase."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        phase = generator.uniform(0, every_s, (runs, 1))
        dip = (times + phase) % every_s < lasting_s
        rates = 1 + noise(1000, 0.02)(generator, runs, times, span)
        return np.where(dip, 0.05, 1.0) * rates, 1 - 0.95 * lasting_s / every_s

    return Case(f"dips of {lasting_s:g} s every {every_s:g} s", make, 1000, rare=True)


def rare_outages(every: float, lasting_s: float) -> Case:
    """Return random outages, on average so many in a run."""

    def make(generator: Generator, runs: int, times: Floats, span: float) -> Made:
        rates = 1 + noise(1000, 0.03)(generator, runs, times, span)
        width = max(1, round(lasting_s * len(times) / span))
        share = every / len(times)
        begins = generator.random((runs, len(times) + width)) < share
        sums = np.cumsum(np.pad(begins, ((0, 0), (1, 0))), axis=1)
        silent = sums[:, width : width + len(times)] > sums[:, : len(times)]
        return np.where(silent, 0, rates), (1 - share) ** width

    return Case(f"{every:g} outages of {lasting_s:g} s", make, 1000, rare=True)


#: The families of series for which the method was tuned, and those for which it was not.
FAMILIES = [
    *(slow_approach(share, 0.1) for share in (0.03, 0.1, 0.2, 0.3)),
    slow_approach(0.15, 0.03),
    overshoot(0.5, 0.05, 0.05),
    overshoot(0.2, 0.1, 0.1),
    lognormal(0.3, 100),
    lognormal(0.7, 400),
    student_t(30),
    student_t(100),
    student_t(1000),
    probe_rtt(),
    rare_outages(3, 0.2),
    rare_outages(15, 0.05),
]
HELD_OUT = [
    *(slow_approach(share, 0.05) for share in (0.05, 0.12, 0.25)),
    slow_approach(0.15, 0.15),
    overshoot(0.35, 0.08, 0.03),
    overshoot(1.0, 0.03, 0.1),
    lognormal(0.5, 200),
    lognormal(1.0, 1000),
    student_t(60),
    student_t(300),
    probe_rtt(5.0, 0.3),
    rare_outages(5, 0.5),
    rare_outages(40, 0.03),
]

CASES = [
    ramped("slow start", slow_start),
    ramped("slow ramp", slow_ramp),
    bursting(),
    Case("slow start, one stall", one_stall, 200, ramp=True, rare=True),
    plateau(1000),
    plateau(100),
    plateau(50),
    plateau(20),
    # long-run variances add up: (0.08^2/1000 + 0.06^2/60) / (0.08^2 + 0.06^2) = 1/151
    Case("two time scales", two_scales, 151),
    sawtooth(5),
    sawtooth(20),
    Case("skewed noise", skewed, 400),
    Case("heavy tails", heavy, 2000),
    Case("paced", paced, 2000),
    sawtooth(10),
    Case("stalls of 50 ms", many_stalls, 200, rare=True),
    shift(-0.2, 0.6, 200),
    shift(-0.2, 0.52, 200),
    shift(0.2, 0.4, 200),
    shift(-0.2, 0.4, 200),
    shift(-0.05, 0.6, 1000),
]
