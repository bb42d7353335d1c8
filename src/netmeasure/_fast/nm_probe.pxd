"""Declares nm_probe.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_group cimport nm_group
from netmeasure._fast.nm_histogram cimport nm_histogram
from netmeasure._fast.nm_series cimport nm_series
from netmeasure._fast.nm_stream cimport nm_stream


cdef extern from "nm_probe.h" nogil:
    enum:
        NM_PROBE_PARTS
        NM_PROBE_PAUSED
        NM_PROBE_SLOTS
        NM_REFLECT_BYTES

    ctypedef struct nm_probe_part:
        nm_histogram *latency
        nm_series count
        nm_series sum_ns
        uint64_t sent
        uint64_t answered
        uint64_t skipped
        uint64_t refused
        uint64_t host_sum_ns
        int64_t host_max_ns
        nm_histogram *there
        nm_histogram *back

    ctypedef struct nm_probe_slot:
        pass

    ctypedef struct nm_probe:
        nm_stream *own
        nm_group *group
        int fd
        int stream
        int stamped
        int wake
        nm_probe_slot *slot
        nm_probe_part part[2]
        uint64_t open
        int64_t longest_ns
        uint32_t active
        uint64_t late
        uint64_t invalid
        int64_t apart_ns
        uint32_t uneven

    ctypedef struct nm_reflector:
        nm_stream *own
        nm_group *group
        int fd
        int stream
        int stamped
        const char *hello
        const char *hello_reply
        size_t hello_bytes
        size_t hello_start_bytes
        size_t hello_reply_bytes
        uint64_t invalid

    int nm_probe_stamps(int fd, int on)
    void nm_probe_order(nm_probe *p, uint32_t part, int64_t period_ns, int64_t most)
    void nm_probe_all(nm_probe *p)
    void nm_reflect_all(nm_reflector *r)
