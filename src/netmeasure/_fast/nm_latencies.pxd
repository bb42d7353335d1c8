"""Declares nm_latencies.h."""

from netmeasure._fast.nm_histogram cimport nm_histogram
from netmeasure._fast.nm_series cimport nm_series


cdef extern from "nm_latencies.h" nogil:
    ctypedef struct nm_latencies:
        nm_histogram *histogram
        nm_series *sum
