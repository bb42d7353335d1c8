"""Test how much of an approach is left in the mean, on series in which it is known."""

from __future__ import annotations

import numpy as np
import pytest

from netmeasure.analysis.remainder import remainder

SEED = 11
AT = np.arange(200) + 0.5


def noise(deviation: float) -> np.ndarray:
    return 1 + deviation * np.random.default_rng(SEED).standard_normal(200)


@pytest.mark.parametrize("distance", [-1.0, -0.5, 0.3, 1.0])
@pytest.mark.parametrize("cut", [20, 50, 80])
def test_the_rest_of_an_approach_is_covered(distance: float, cut: int) -> None:
    shape = 1 + distance * np.exp(-AT / 25)
    left = abs(float(shape[cut:].mean()) - 1)
    found = remainder(1e9 * shape * noise(0.02), cut)
    assert 0.7 * left <= found / 1e9 <= 3 * left + 0.01


def test_nothing_is_left_of_what_never_was() -> None:
    assert remainder(1e9 * np.ones(200), 0) == 0
    assert remainder(1e9 * noise(0.05), 0) == 0
    assert remainder(np.zeros(200), 0) == 0


def test_too_few_batches_tell_nothing() -> None:
    assert remainder(np.linspace(0, 1, 200), 190) == 0
