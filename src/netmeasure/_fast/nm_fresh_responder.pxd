"""Declares nm_fresh_responder.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_group cimport nm_group
from netmeasure._fast.nm_stream cimport nm_stream


cdef extern from "nm_fresh_responder.h" nogil:
    const uint32_t NM_FRESH_EVENTS

    struct sockaddr_storage:
        pass

    struct epoll_event:
        pass

    ctypedef struct nm_guest:
        pass

    ctypedef struct nm_fresh_responder:
        nm_stream *own
        nm_group *group
        int fd
        int listener
        sockaddr_storage peer
        const char *token
        uint32_t token_bytes
        uint32_t request_bytes
        uint32_t response_bytes
        const char *payload
        char *buffer
        size_t buffer_bytes
        int64_t patience_ns
        nm_guest *guest
        uint32_t *vacant
        uint32_t places
        epoll_event *event
        uint64_t accepted
        uint64_t answered
        uint64_t strangers

    void nm_fresh_respond_all(nm_fresh_responder *r)
