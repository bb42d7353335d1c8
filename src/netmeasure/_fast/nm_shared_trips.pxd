"""Declares nm_shared_trips.h."""

from libc.stdint cimport uint32_t

from netmeasure._fast.nm_datagram_trips cimport nm_datagram_requester, nm_datagram_responder
from netmeasure._fast.nm_round_trips cimport nm_requester, nm_responder


cdef extern from "<sys/epoll.h>" nogil:
    cdef struct epoll_event:
        pass


cdef extern from "nm_shared_trips.h" nogil:
    enum:
        NM_SHARED_EVENTS

    ctypedef struct nm_requesters:
        nm_requester **r
        nm_datagram_requester **d
        uint32_t count
        epoll_event *event

    ctypedef struct nm_responders:
        nm_responder **r
        nm_datagram_responder **d
        uint32_t count
        epoll_event *event

    void nm_requesters_all(nm_requesters *s)
    void nm_responders_all(nm_responders *s)
