"""Declares nm_stream.h."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_group cimport nm_group
from netmeasure._fast.nm_samples cimport nm_sample, nm_sampling
from netmeasure._fast.nm_series cimport nm_series


cdef extern from "nm_stream.h" nogil:
    ctypedef struct nm_stream:
        uint64_t bytes
        uint64_t acked
        uint64_t calls
        int64_t first_ns
        int64_t last_ns
        int64_t ended_ns
        uint32_t reason
        int32_t error
        int64_t user_ns
        int64_t system_ns
        nm_series series
        nm_sampling sampling
        nm_sample *sample

    const uint32_t NM_NOT_STARTED, NM_RUNNING, NM_DEADLINE, NM_BUDGET
    const uint32_t NM_STOPPED, NM_ABORTED, NM_EOF, NM_ERROR

    bint nm_stream_enter(nm_stream *s)
    void nm_stream_leave(nm_stream *s)
    void nm_stream_leave_shared(nm_stream *s, uint32_t streams)
    bint nm_stream_quiet(const nm_stream *s)
    void nm_stream_reason(nm_stream *s, uint32_t reason)
    void nm_stream_failed(nm_stream *s, int32_t code)
    void nm_stream_broken(nm_stream *s, const nm_group *g, int32_t code)
    void nm_stream_count(nm_stream *s, int64_t now, uint64_t n, int64_t edge)
    void nm_stream_sample(nm_stream *s, int fd, int64_t now)
    uint64_t nm_share(uint64_t count, uint64_t payload, uint64_t whole)
