"""Declares nm_pace.h and nm_burst.h."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "nm_pace.h" nogil:
    ctypedef struct nm_pace_options:
        uint64_t bps
        uint64_t pps
        uint64_t burst_datagrams
        int64_t catch_up_ns
        int64_t spin_ns
    ctypedef struct nm_pace:
        uint64_t quantum
        int64_t spin_ns
        uint64_t wakeups
        uint64_t late_wakeups
        int64_t skipped_ns

    bint nm_paced(const nm_pace *p)
    void nm_pace_init(nm_pace *p, uint64_t datagram_bytes, const nm_pace_options *o)
    void nm_pace_start(nm_pace *p, int64_t zero_ns)
    int64_t nm_pace_span(const nm_pace *p, uint64_t n)
    void nm_pace_end(nm_pace *p, int64_t moment)
    int64_t nm_pace_due(const nm_pace *p)
    uint64_t nm_pace_decide(nm_pace *p, int64_t now, int64_t deadline)
    void nm_pace_sent(nm_pace *p, uint64_t n, uint64_t left, int64_t now)

cdef extern from "nm_burst.h" nogil:
    ctypedef struct nm_burst:
        uint64_t largest_bytes
