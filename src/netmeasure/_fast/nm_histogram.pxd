"""Declares nm_histogram.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "nm_histogram.h" nogil:
    const uint32_t NM_HISTOGRAM_BUCKETS

    ctypedef struct nm_histogram:
        uint64_t count
        uint64_t sum_ns
        int64_t min_ns
        int64_t max_ns
        uint64_t *bucket

    int64_t nm_histogram_from(uint32_t index)
    void nm_histogram_add(nm_histogram *h, int64_t ns)
    void nm_histogram_merge(nm_histogram *h, const nm_histogram *other)
