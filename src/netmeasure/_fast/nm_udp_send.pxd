"""Declares nm_udp_send.h."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_pace cimport nm_burst, nm_pace
from netmeasure._fast.nm_series cimport nm_series


cdef extern from "nm_udp_send.h" nogil:
    ctypedef struct nm_udp_send_options:
        uint32_t datagram_bytes
        bint counters_64bit
        uint32_t segments
    ctypedef struct nm_udp_sender:
        uint64_t packets
        uint64_t refused
        uint64_t icmp_errors
        uint32_t segments
        int32_t fallback_errno
        nm_series packet_series
        nm_pace pace
        nm_burst burst
        uint32_t datagram_bytes
        uint32_t slots

    const uint32_t NM_UDP_TRAIN, NM_UDP_LARGEST, NM_UDP_MESSAGES

    int nm_udp_sender_init(nm_udp_sender *u, const nm_udp_send_options *o)
    void nm_udp_sender_free(nm_udp_sender *u)
    void nm_udp_fill(nm_udp_sender *u, const char *pattern, size_t length)
    int nm_udp_segment_errno(int fd)
    void nm_udp_shorten(nm_udp_sender *u, int32_t code)
    int64_t nm_udp_send(nm_udp_sender *u, int fd, uint64_t count, int64_t now, int flags)
    void nm_udp_sent(nm_udp_sender *u, uint64_t n, int64_t before, int64_t now)
