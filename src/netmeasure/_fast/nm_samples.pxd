"""Declares nm_samples.h."""

from libc.stdint cimport int64_t, uint32_t


cdef extern from "nm_samples.h" nogil:
    ctypedef struct nm_sampling:
        uint32_t used
        int64_t every_ns
        int64_t due_ns
    ctypedef struct nm_sample:
        int64_t at_ns
        int64_t cpu_ns
        int64_t wait_ns
        uint32_t length
        unsigned char *raw

    const int NM_SAMPLES

    void *nm_sampling_next(nm_sampling *s, void *room, size_t size, int64_t now)
    void nm_sample_take(nm_sampling *s, nm_sample *room, int fd, int64_t now)
