"""Declares nm_datagram_trips.h."""

from libc.stdint cimport uint32_t, uint64_t

from netmeasure._fast.nm_round_trips cimport nm_requester, nm_responder


cdef extern from "nm_datagram_trips.h" nogil:
    enum:
        NM_TRIP_BYTES

    ctypedef struct nm_trip:
        pass

    ctypedef struct nm_datagram_requester:
        nm_requester *base
        nm_trip *trip
        uint32_t *vacant
        uint64_t lost_omitted
        uint64_t late_responses
        uint64_t invalid_responses
        uint64_t refused

    ctypedef struct nm_datagram_responder:
        nm_responder *base
        const char *hello
        const char *hello_reply
        size_t hello_bytes
        size_t hello_start_bytes
        size_t hello_reply_bytes
        uint64_t invalid_requests

    void nm_trips_all(nm_datagram_requester *d)
    void nm_trips_respond(nm_datagram_responder *d)
