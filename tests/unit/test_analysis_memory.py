"""Test that the analysis keeps little, whatever lengths of series it has seen: a server analyses
tests of every length."""

from __future__ import annotations

import tracemalloc

from netmeasure.analysis import approach, confidence
from netmeasure.analysis.batches import MAX_BATCHES

MOST_BYTES = 4 * 2**20


def test_the_matrices_of_all_lengths() -> None:
    caches = (confidence._cosines, approach._approaches, approach._levels)
    for cache in caches:
        cache.cache_clear()
    tracemalloc.start()
    try:
        before, _ = tracemalloc.get_traced_memory()
        for length in range(confidence.MIN_VALUES, MAX_BATCHES + 1):
            confidence._cosines(length)
            approach._approaches(length)
            for shortest in (1, 2, 3):
                approach._levels(length, shortest, length // 2)
        kept = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert all(cache.cache_info().currsize for cache in caches)
    assert kept < MOST_BYTES
