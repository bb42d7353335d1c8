"""Declares nm_round_trips.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_group cimport nm_group
from netmeasure._fast.nm_latencies cimport nm_latencies
from netmeasure._fast.nm_stream cimport nm_stream


cdef extern from "nm_round_trips.h" nogil:
    ctypedef struct nm_round_trip_options:
        uint32_t request_bytes
        uint32_t response_bytes
        uint32_t in_flight
        int64_t duration_ns
        int64_t omit_ns
        int64_t drain_ns
        int64_t lost_after_ns
        double period_ns

    ctypedef struct nm_requester:
        nm_stream *own
        nm_group *group
        const nm_round_trip_options *options
        int fd
        const char *payload
        char *buffer
        size_t buffer_bytes
        int64_t *began_ns
        nm_latencies latencies
        uint64_t begun
        uint64_t answered
        uint64_t lost
        uint64_t skipped
        uint64_t late
        int64_t latest_ns

    ctypedef struct nm_responder:
        nm_stream *own
        nm_group *group
        int fd
        uint32_t request_bytes
        uint32_t response_bytes
        const char *payload
        size_t payload_bytes
        char *buffer
        size_t buffer_bytes

    void nm_request_all(nm_requester *r)
    void nm_respond_all(nm_responder *r)
