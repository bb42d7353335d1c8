"""Declares nm_series.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "nm_series.h" nogil:
    ctypedef struct nm_series:
        uint64_t *bucket
        uint32_t capacity
        uint32_t used
        int64_t origin_ns
        int64_t width_ns

    void nm_series_start(nm_series *s, int64_t origin_ns)
    void nm_series_add(nm_series *s, int64_t now, uint64_t n)
    int64_t nm_series_beside(const nm_series *s, int64_t now, int64_t edge)
    int64_t nm_series_middle(const nm_series *s, uint32_t i)
    uint32_t nm_series_read(const nm_series *s, uint64_t *into, int64_t *origin, int64_t *width)
    uint64_t nm_series_until(const nm_series *s, int64_t moment)
