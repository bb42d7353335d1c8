"""Declares nm_udp_receive.h and what it is made of."""

from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_samples cimport nm_sampling
from netmeasure._fast.nm_series cimport nm_series
from netmeasure._fast.syscalls cimport mmsghdr


cdef extern from "nm_udp_counts.h" nogil:
    ctypedef struct nm_udp_counts:
        int64_t at_ns
        uint64_t highest
        uint64_t received
        uint64_t bytes
        uint64_t duplicates
        uint64_t reordered
        uint64_t late
        uint64_t malformed
        uint64_t implausible
        uint64_t handshakes
        uint64_t truncated
        uint64_t icmp_errors
        uint64_t host_dropped
        uint64_t coalesced
        uint64_t same_stamp
        uint64_t jitter_count
        uint64_t jitter_16th_ns
        uint64_t ipdv_count
        uint64_t ipdv_sum_ns
        uint64_t ipdv_min_ns
        uint64_t ipdv_max_ns
        int64_t transit_min_ns
        int64_t transit_max_ns
        uint64_t transit_count
    ctypedef struct nm_udp_sample:
        int64_t at_ns
        uint64_t highest
        uint64_t received
        uint64_t duplicates
        uint64_t reordered
        uint64_t host_dropped
        int64_t jitter_ns
    ctypedef struct nm_udp_board:
        pass

    int nm_udp_look(const nm_udp_board *b, nm_udp_counts *into, int omitted)

cdef extern from "nm_udp_account.h" nogil:
    ctypedef struct nm_udp_account:
        nm_udp_counts now
        int omit_over

    void nm_udp_omit(nm_udp_account *a, int64_t now)

cdef extern from "nm_udp_receive.h" nogil:
    ctypedef struct nm_udp_receive_options:
        uint32_t datagram_bytes
        bint counters_64bit
        bint coalesce
        uint64_t window
        uint32_t batch_bytes
    ctypedef struct nm_udp_receiver:
        nm_udp_board board
        nm_series packet_series
        bint coalescing
        bint stamping
        nm_udp_account account
        uint32_t batch
        mmsghdr *message
        nm_sampling sampling
        nm_udp_sample *sample

    int nm_udp_receiver_init(nm_udp_receiver *r, int fd, const nm_udp_receive_options *o)
    void nm_udp_receiver_free(nm_udp_receiver *r)
    void nm_udp_ask_drops(nm_udp_receiver *r, int fd)
    bint nm_udp_align_clocks(nm_udp_receiver *r, int64_t *now)
    bint nm_udp_take(nm_udp_receiver *r, uint32_t count, int64_t now, bint aligned)
    void nm_udp_publish(nm_udp_receiver *r, int64_t now)
    void nm_udp_sample_take(nm_udp_receiver *r, int64_t now)
    void nm_udp_finish(nm_udp_receiver *r, int fd, int64_t now)
