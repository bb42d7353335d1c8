"""C declarations that only UDP needs: nm_udp.h and its system calls."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t

from netmeasure._fast.native cimport nm_series


cdef extern from "<sys/socket.h>" nogil:
    ctypedef struct mmsghdr:
        pass
    int c_recvmmsg "recvmmsg"(int fd, mmsghdr *message, unsigned int count, int flags, void *wait)
    const int MSG_WAITFORONE

cdef extern from "<errno.h>" nogil:
    const int ECONNREFUSED, EINVAL, EIO, EMSGSIZE, ENOBUFS, EOPNOTSUPP

cdef extern from "nm_udp.h" nogil:
    ctypedef struct nm_pace:
        int64_t zero
        uint64_t numerator
        uint64_t denominator
        uint64_t scheduled
        uint64_t quantum
        uint64_t most
        int64_t not_before
    ctypedef struct nm_udp_sender:
        uint64_t packets
        uint64_t refused
        uint64_t icmp_errors
        uint64_t wakeups
        uint64_t late_wakeups
        uint64_t largest_burst_bytes
        int64_t skipped_ns
        uint32_t segments
        int32_t fallback_errno
        nm_series packet_series
        nm_pace pace
        uint32_t datagram_bytes
        uint32_t slots
        unsigned char *buffer
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
    ctypedef struct nm_udp_receiver:
        uint32_t omit_over
        nm_series packet_series
        int coalescing
        int stamping
        nm_udp_counts now
        uint32_t batch
        mmsghdr *message
        nm_udp_sample *sample
        uint32_t samples
        int64_t sample_every_ns
        int64_t sample_due_ns

    const uint32_t NM_UDP_TRAIN, NM_UDP_LARGEST

    void nm_pace_init(nm_pace *p, uint64_t datagram_bytes, uint64_t bps, uint64_t pps,
                      uint64_t burst, int64_t catch_up_ns)
    int64_t nm_pace_due(const nm_pace *p, uint64_t k)
    uint64_t nm_pace_decide(nm_udp_sender *u, int64_t now, int64_t deadline)
    void nm_pace_sent(nm_udp_sender *u, uint64_t n, uint64_t left, int64_t now)
    int nm_udp_sender_init(nm_udp_sender *u, uint32_t datagram_bytes, int counters_64bit,
                           uint32_t segments)
    void nm_udp_sender_free(nm_udp_sender *u)
    int nm_udp_segment_errno(int fd)
    int64_t nm_udp_send(nm_udp_sender *u, int fd, uint64_t count, int64_t now, int flags)
    int64_t nm_sleep_until(int64_t moment, int64_t spin_ns)
    long nm_timer_slack(long slack_ns)
    void nm_wait_writable(int fd, int64_t duration_ns)
    int nm_udp_receiver_init(nm_udp_receiver *r, int fd, uint32_t datagram_bytes,
                             int counters_64bit, int coalesce, uint64_t window)
    void nm_udp_receiver_free(nm_udp_receiver *r)
    void nm_udp_ask_drops(nm_udp_receiver *r, int fd)
    int nm_udp_align_clocks(nm_udp_receiver *r, int64_t *now)
    int nm_udp_take(nm_udp_receiver *r, int count, int64_t now, int aligned)
    void nm_udp_omit(nm_udp_receiver *r, int64_t now)
    void nm_udp_publish(nm_udp_receiver *r, int64_t now)
    void nm_udp_sample_take(nm_udp_receiver *r, int64_t now)
    void nm_udp_finish(nm_udp_receiver *r, int fd, int64_t now)
    int nm_udp_read(nm_udp_receiver *r, nm_udp_counts *into, int omitted)
