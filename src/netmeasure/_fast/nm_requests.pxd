"""Declares nm_requests.h."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_group cimport nm_group
from netmeasure._fast.nm_histogram cimport nm_histogram
from netmeasure._fast.nm_latencies cimport nm_latencies
from netmeasure._fast.nm_stream cimport nm_stream
from netmeasure._fast.nm_tls cimport nm_tls


cdef extern from "nm_requests.h" nogil:
    const uint32_t NM_REQUESTS_EVENTS, NM_REQUESTS_STATUSES, NM_REQUESTS_OPTION_BYTES
    const uint32_t NM_REQUEST_ERRORS

    struct sockaddr_storage:
        pass

    struct epoll_event:
        pass

    ctypedef struct nm_socket_option:
        int level
        int name
        uint32_t length
        unsigned char value[64]

    ctypedef struct nm_requests_options:
        sockaddr_storage to
        sockaddr_storage from_ "from"
        uint32_t to_bytes
        uint32_t from_bytes
        const nm_socket_option *option
        uint32_t option_count
        const nm_tls *tls
        const char *request
        uint32_t request_bytes
        bint no_body
        uint32_t response_bytes
        bint keep
        uint32_t connections
        int64_t duration_ns
        int64_t omit_ns
        int64_t drain_ns
        int64_t connect_ns
        int64_t answer_ns
        double period_ns
        double phase

    ctypedef struct nm_link:
        pass

    ctypedef struct nm_links:
        uint32_t *item

    ctypedef struct nm_requests:
        nm_stream *own
        nm_group *group
        const nm_requests_options *options
        nm_link *link
        nm_links free
        nm_links shut
        nm_links resting
        int64_t *rest_ns
        epoll_event *event
        char *buffer
        size_t buffer_bytes
        nm_latencies latencies
        nm_histogram *connecting
        nm_histogram *shaking
        nm_histogram *answering
        uint64_t begun
        uint64_t answered
        uint64_t rejected
        uint64_t failed
        uint64_t skipped
        uint64_t late
        int64_t latest_ns
        uint64_t syn_resent
        uint64_t body_bytes
        uint64_t *error
        uint64_t *status
        int32_t connect_errno
        int64_t tls_verify
        uint64_t tls_error

    void nm_requests_all(nm_requests *r)
