"""Estimate the precision of a mean of autocorrelated rates: its 95 % confidence interval, and its
grade.

The rates of neighbouring batches resemble each other, so the textbook's s/sqrt(n) is far too small.
What counts is the long-run variance: the spectrum at frequency zero. It is the mean of the squares
of the first TERMS cosine coefficients, which are the lowest frequencies. These coefficients are
approximately independent and normal for any correlation; hence Student's t with TERMS degrees of
freedom.

Müller, "A theory of robust long-run variance estimation", J. Econometrics 141 (2007) 1331; Lazarus,
Lewis, Stock and Watson, "HAR inference: recommendations for practice", JBES 36 (2018) 541; the
idea is Heidelberger and Welch's, CACM 24 (1981) 233. Batch means do the same with averages in place
of cosines (Fishman and Yarberry, INFORMS J. Computing 9 (1997) 296);
`python -m benchmarks.bench_steady` compares them.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal, NamedTuple

import numpy as np

# not as np.fft: numpy imports it at its first use, and two concurrent first uses would recurse
from numpy.fft import irfft, rfft

from netmeasure.analysis.series import CACHED_LENGTHS, Floats, median

TERMS = 8
#: Student's t, 97.5 %, TERMS degrees of freedom.
QUANTILE = 2.306004135
MIN_VALUES = 2 * TERMS
#: The estimate from autocorrelations is used where it is larger: if a run's correlation is
#: estimated too short, it gets a good grade, and the cosines' estimate is too small as well.
CORRELATION_SHARE = 0.8
#: Below this correlation time, in batches, neighbours may be negatively correlated.
CORRELATED = 1.5
#: The fewer independent samples, the less exact is the estimate of their number: the interval is
#: widened by this.
WIDENING = 6.0
#: The effective number of independent samples for a grade of A and of B.
SAMPLES_A, SAMPLES_B = 50, 30
#: If outliers make up the scatter (a kurtosis above 5; 3 is normal), at least this many independent
#: outliers are needed; with fewer, too few rare events were observed.
OUTLYING = 5
MIN_EVENTS = 12
#: A scatter below this share of the mean does not matter, whatever its cause, such as pacing that
#: is sometimes off by one datagram.
SMALL_SCATTER = 0.01

Grade = Literal["A", "B", "C"]


class Precision(NamedTuple):
    """Hold the precision of a mean. `half` is half the interval's width; `correlation` is the
    integrated autocorrelation time in batches (1: independent), so that n / correlation is the
    effective number of samples."""

    half: float
    correlation: float
    grade: Grade


def long_run_variance(rates: Floats) -> float:
    """Return the variance of the mean, times n. 0 for fewer than MIN_VALUES values."""
    n = len(rates)
    if n < MIN_VALUES:
        return 0.0
    coefficients = _cosines(n) @ (rates - rates.mean())
    return float((coefficients**2).mean())


@lru_cache(maxsize=CACHED_LENGTHS)
def _cosines(n: int) -> Floats:
    """Return rows that are orthonormal, and orthogonal to the mean."""
    angles = np.pi * (np.arange(n) + 0.5) / n
    rows = np.sqrt(2 / n) * np.cos(np.outer(np.arange(1, TERMS + 1), angles))
    return np.asarray(rows, dtype=np.float64)


def correlation_time(rates: Floats) -> float:
    """Return the integrated autocorrelation time 1 + 2 sum(rho_k), in batches, at least 1: pairs of
    autocorrelations are added up while they decrease and are positive (initial monotone sequence;
    Geyer, "Practical Markov chain Monte Carlo", Statistical Science 7 (1992) 473)."""
    n = len(rates)
    centred = rates - rates.mean() if n else rates
    power = float((centred**2).sum())
    if n < 4 or power <= (1e-12 * float(np.abs(rates).max())) ** 2 * n:
        return 1.0
    spectrum = np.abs(rfft(centred, 2 * n)) ** 2
    # each is a sum of n - k products, and subtracting the mean biases it by 1/n
    rho = irfft(spectrum, 2 * n)[: n // 2] / power
    pairs = rho[: len(rho) // 2 * 2].reshape(-1, 2).sum(axis=1)
    ends = np.flatnonzero(pairs <= 0)
    pairs = np.minimum.accumulate(pairs[: ends[0]] if len(ends) else pairs)
    return min(float(n), max(1.0, 2 * float(pairs.sum()) - 1))


def contributors(rates: Floats) -> float:
    """Return the effective number of values that make up the scatter: (sum d^2)^2 / sum d^4 of the
    deviations d from the median. The result is 1 for a single outlier, n/3 for normal noise, n for
    two equally frequent values; and n without scatter."""
    squares = (rates - median(rates)) ** 2 if len(rates) else rates
    if not len(rates) or squares.max() <= 0:
        return float(len(rates))
    squares = squares / squares.max()
    return float(squares.sum() ** 2 / (squares**2).sum())


def _one_event(rates: Floats) -> float:
    """Return by how much the largest outlier exceeds the expected maximum of normal noise.

    Another run may have one such event more or fewer. The low frequencies do not show this for
    regular dips, or for too few outliers.
    """
    largest = float(np.abs(rates - rates.mean()).max())
    usual = np.sqrt(2 * np.log(len(rates))) * rates.std(ddof=1)
    return max(0.0, largest - float(usual))


def precision(rates: Floats) -> Precision | None:
    """Return the precision of the mean; None for fewer than MIN_VALUES values.

    A  the interval contains the true value in 95 % of all runs, as stated
    B  in nearly 95 %: the run has 30 to 50 effective samples
    C  the interval tends to be too narrow: fewer effective samples, or a few events make up the
       scatter
    """
    n = len(rates)
    if n < MIN_VALUES:
        return None
    correlation = correlation_time(rates)
    samples = n / correlation
    variance = long_run_variance(rates)
    if correlation > CORRELATED:
        variance = max(variance, CORRELATION_SHARE * correlation * float(rates.var(ddof=1)))
    half = QUANTILE * float(np.sqrt(variance / n)) * (1 + WIDENING / samples)
    half = float(np.hypot(half, _one_event(rates) * correlation / n))
    grade: Grade = "A" if samples >= SAMPLES_A else "B" if samples >= SAMPLES_B else "C"
    events = contributors(rates)
    scattered = float(rates.std()) > SMALL_SCATTER * float(rates.mean())
    if scattered and OUTLYING * events < n and events < MIN_EVENTS * correlation:
        grade = "C"
    return Precision(half, correlation, grade)
