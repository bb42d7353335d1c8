"""Test the median of a series against numpy's."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, strategies as st

from netmeasure.analysis.series import median


@given(st.lists(st.floats(-1e12, 1e12), min_size=1, max_size=50))
def test_it_is_that_of_numpy(values: list[float]) -> None:
    series = np.array(values)
    assert median(series) == np.median(series)


def test_of_no_values_there_is_none() -> None:
    assert math.isnan(median(np.array([])))
