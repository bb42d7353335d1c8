"""GIL-free UDP sender and receiver: one blocking loop per stream, run in its own thread."""

from collections import namedtuple as _namedtuple
from os import urandom as _urandom

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memset

from netmeasure._fast.nm_atomic cimport (
    nm_add_u64, nm_load_i32, nm_load_i64, nm_load_u32, nm_load_u64, nm_store_i64,
)
from netmeasure._fast.nm_clock cimport (
    nm_add_ns, nm_now, nm_sleep, nm_sleep_until, nm_timer_slack,
)
from netmeasure._fast.nm_group cimport (
    nm_aborting, nm_budget_left, nm_claim, nm_gate_wait, nm_group, nm_group_count_from, nm_stopping,
)
from netmeasure._fast.nm_pace cimport (
    nm_pace_decide, nm_pace_due, nm_pace_end, nm_pace_init, nm_pace_options, nm_pace_sent,
    nm_pace_span, nm_pace_start, nm_paced,
)
from netmeasure._fast.nm_samples cimport nm_sample_take
from netmeasure._fast.nm_series cimport nm_series, nm_series_add, nm_series_start, nm_series_until
from netmeasure._fast.nm_socket cimport nm_timeout, nm_wait_writable
from netmeasure._fast.nm_stream cimport (
    NM_ABORTED, NM_BUDGET, NM_DEADLINE, NM_EOF, NM_RUNNING, NM_STOPPED, nm_stream,
    nm_stream_broken, nm_stream_count, nm_stream_failed, nm_stream_leave, nm_stream_reason,
    nm_stream_sample,
)
from netmeasure._fast.nm_udp_receive cimport (
    nm_udp_align_clocks, nm_udp_ask_drops, nm_udp_counts, nm_udp_finish, nm_udp_look, nm_udp_omit,
    nm_udp_publish, nm_udp_receive_options, nm_udp_receiver, nm_udp_receiver_free,
    nm_udp_receiver_init, nm_udp_sample, nm_udp_sample_take, nm_udp_take,
)
from netmeasure._fast.nm_udp_send cimport (
    NM_UDP_LARGEST, NM_UDP_MESSAGES, NM_UDP_TRAIN, nm_udp_fill, nm_udp_segment_errno, nm_udp_send,
    nm_udp_send_options, nm_udp_sender, nm_udp_sender_free, nm_udp_sender_init, nm_udp_sent,
    nm_udp_shorten,
)
from netmeasure._fast.syscalls cimport (
    EAGAIN, ECONNREFUSED, EINTR, EINVAL, EIO, EMSGSIZE, ENOBUFS, EOPNOTSUPP, MSG_DONTWAIT,
    MSG_NOSIGNAL, MSG_TRUNC, MSG_WAITFORONE, SO_RCVTIMEO, SO_SNDTIMEO, c_recvmmsg, c_send, errno,
)
from netmeasure._fast.worker cimport Group, Stream, copy_series

# A blocked call looks at the flags this often (ns).
cdef int64_t POLL_NS = 100_000_000
# Nothing wakes a sender that sleeps until its next datagram is due, so it looks more often.
cdef int64_t SLICE_NS = 20_000_000
# One call should not take longer than this, or time stamps, stop and deadline get imprecise.
cdef int64_t CALL_NS = 2_000_000
cdef int64_t BACK_OFF_NS = 100_000
# A paced sender with a budget sends nothing so long (and a quarter of the distance of datagrams)
# before and after the end of the omitted time, so both ends count each datagram in the same part.
cdef int64_t QUIET_NS = 2_000_000
# Jitter is valid up to this many (per hundred) datagrams that came or left in a train.
cdef uint64_t TRAINS_PERCENT = 1

UdpCounts = _namedtuple("UdpCounts", (
    "at_ns", "highest_sequence", "received_packets", "received_bytes", "lost_packets",
    "duplicate_packets", "reordered_packets", "late_packets", "malformed_packets",
    "implausible_packets", "handshake_packets", "truncated_packets", "icmp_errors",
    "host_dropped_packets", "coalesced_packets", "same_stamp_packets", "jitter_samples",
    "jitter_ns", "jitter_valid", "ipdv_count", "ipdv_sum_ns", "ipdv_min_ns", "ipdv_max_ns",
    "transit_min_ns", "transit_max_ns",
))

UdpSample = _namedtuple("UdpSample", (
    "at_ns", "highest_sequence", "received_packets", "duplicate_packets", "reordered_packets",
    "host_dropped_packets", "jitter_ns",
))


cdef struct SendOptions:
    int64_t duration_ns
    int64_t omit_ns


cdef struct Sending:
    # The state of one sender's loop.
    nm_stream *own
    nm_udp_sender *udp
    nm_group *group
    int fd
    const SendOptions *options
    int64_t now
    int64_t deadline
    uint64_t per_call  # most datagrams of one call
    uint64_t ready  # datagrams of the last pacing decision that are still to be sent
    uint64_t credit  # datagrams claimed from the budget that are still to be sent
    int64_t each_ns  # what the last call took per datagram
    int64_t omit_until  # 0 before the first datagram
    int64_t quiet_ns  # no datagram leaves so long before and after the end of the omitted time
    int flags
    bint cut_short
    bint too_long


cdef struct ReceiveOptions:
    int64_t omit_ns
    const char *reply
    size_t reply_bytes


cdef struct Receiving:
    # The state of one receiver's loop.
    nm_stream *own
    nm_udp_receiver *udp
    nm_group *group
    int fd
    const ReceiveOptions *options
    int64_t now
    int64_t omit_until  # INT64_MAX before the first datagram
    int64_t leave_at
    int flags
    bint stopping


cdef void allocate(nm_series *series, int64_t width_ns, uint32_t buckets) except *:
    """Give a series its buckets."""
    series.width_ns = width_ns
    series.capacity = buckets
    series.bucket = <uint64_t *>PyMem_Calloc(buckets, sizeof(uint64_t))
    if series.bucket == NULL:
        raise MemoryError


cdef class UdpSender(Stream):
    """Sends datagrams on a connected socket until deadline, budget, stop or error.

    Pacing is an absolute schedule: datagram k is due k intervals after the gate opened. A sender
    that wakes up late sends what is due, but at most 0.5 ms of rate (or one decision) together, and
    repays a longer backlog at no more than twice the rate. A budget that is not a multiple of the
    datagram is exceeded by less than one. The series count what the kernel took.

    Args:
        datagram_bytes: payload of each datagram, header included.
        counters_64bit: sequence numbers of 64 bits; both ends must agree.
        target_bps: payload bits per second; or
        target_pps: datagrams per second; both 0: as fast as it goes.
        burst_datagrams: leave together per pacing decision; 0: as many as are due in 100 us, at
            least 1.
        catch_up_ns: what is further behind schedule than this (and than one decision) is given up.
            A busy machine keeps threads waiting for 4 to 6 ms; less than that costs rate.
        spin_ns: wait the last part before a decision without sleeping.
        segments: most datagrams per UDP_SEGMENT super-datagram; 0, 1: no offload. Never more than
            the kernel takes, nor more than leave together by design.
        duration_ns: how long, from the gate's opening; 0: no deadline.
        omit_ns: datagrams sent earlier than this after the first of the group's streams do not count
            against the group's budget.
        payload: repeated to fill the datagrams behind their headers; random bytes by default.
    """

    cdef nm_udp_sender udp
    cdef SendOptions options

    def __cinit__(self, Group group not None, int fd, *, uint32_t datagram_bytes,
                  bint counters_64bit=False, uint64_t target_bps=0, uint64_t target_pps=0,
                  uint32_t burst_datagrams=0, uint32_t segments=0, int64_t duration_ns=0,
                  int64_t omit_ns=0, int64_t spin_ns=0, int64_t catch_up_ns=10_000_000,
                  bytes payload=None, int64_t width_ns=10_000_000, uint32_t buckets=16384,
                  sample_every_ns=None):
        cdef nm_pace_options pacing
        cdef nm_udp_send_options layout
        cdef bytes pattern
        if not 16 <= datagram_bytes <= NM_UDP_LARGEST:
            raise ValueError(f"datagram_bytes must be 16 to {NM_UDP_LARGEST}")
        if target_bps and target_pps:
            raise ValueError("give target_bps or target_pps, not both")
        pacing = nm_pace_options(bps=target_bps, pps=target_pps, burst_datagrams=burst_datagrams,
                                 catch_up_ns=catch_up_ns, spin_ns=spin_ns)
        nm_pace_init(&self.udp.pace, datagram_bytes, &pacing)
        layout = nm_udp_send_options(
            datagram_bytes=datagram_bytes, counters_64bit=counters_64bit,
            segments=self.possible_segments(segments, datagram_bytes),
        )
        if nm_udp_sender_init(&self.udp, &layout) != 0:
            raise MemoryError
        pattern = payload or _urandom(datagram_bytes)
        nm_udp_fill(&self.udp, pattern, len(pattern))
        allocate(&self.udp.packet_series, width_ns, buckets)
        self.options = SendOptions(duration_ns=duration_ns, omit_ns=omit_ns)

    cdef uint32_t possible_segments(self, uint32_t wanted, uint32_t datagram_bytes) noexcept:
        """Return how many datagrams a train may have here: 1 where there is no offload."""
        cdef uint32_t most = max(1, min(wanted, NM_UDP_TRAIN, NM_UDP_LARGEST // datagram_bytes))
        if nm_paced(&self.udp.pace) and most > self.udp.pace.quantum:
            most = <uint32_t>self.udp.pace.quantum
        if most > 1:
            self.udp.fallback_errno = nm_udp_segment_errno(self.fd)
        return 1 if self.udp.fallback_errno else most

    def __dealloc__(self):
        nm_udp_sender_free(&self.udp)
        PyMem_Free(self.udp.packet_series.bucket)

    def run(self):
        """Wait at the gate, send. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            send_datagrams(&self.own, &self.udp, &self.group.shared, self.fd, &self.options)
            nm_stream_leave(&self.own)

    @property
    def packets(self):
        """Datagrams that the kernel took; also the last sequence number."""
        return nm_load_u64(&self.udp.packets)

    @property
    def refused(self):
        """Datagrams that the kernel did not take (ENOBUFS, EAGAIN); sent again, under the same
        sequence number."""
        return nm_load_u64(&self.udp.refused)

    @property
    def icmp_errors(self):
        """Times the network reported an error, mostly that the port is closed there."""
        return nm_load_u64(&self.udp.icmp_errors)

    @property
    def wakeups(self):
        """Pacing decisions; 0 without a target."""
        return nm_load_u64(&self.udp.pace.wakeups)

    @property
    def late_wakeups(self):
        """Decisions made later than the time of one decision, and than 100 us. The decisions that
        repay a backlog are not counted again."""
        return nm_load_u64(&self.udp.pace.late_wakeups)

    @property
    def largest_burst_bytes(self):
        """Largest burst of payload as a policer sees it; None without a target.

        It is the depth that a token bucket, filled at the target rate, must have to let every
        datagram pass: what late wake-ups put off and make up for is one burst.
        """
        return nm_load_u64(&self.udp.burst.largest_bytes) if nm_paced(&self.udp.pace) else None

    @property
    def skipped_ns(self):
        """How much of the schedule was given up after stalls, or had not been sent by the deadline."""
        return nm_load_i64(&self.udp.pace.skipped_ns)

    @property
    def quantum_datagrams(self):
        """Datagrams that leave together by design; None without a target."""
        return self.udp.pace.quantum if nm_paced(&self.udp.pace) else None

    @property
    def segments(self):
        """Datagrams in the longest super-datagram; 1 without segmentation offload."""
        return nm_load_u32(&self.udp.segments)

    @property
    def segmentation(self):
        """Whether segmentation offload is in use."""
        return self.segments > 1

    @property
    def fallback_errno(self):
        """The errno for which segmentation offload was given up, or 0."""
        return nm_load_i32(&self.udp.fallback_errno)

    def packet_series(self):
        """Return as series() does, in datagrams."""
        return copy_series(&self.udp.packet_series)

    def packets_until(self, int64_t moment_ns):
        """Return the datagrams in the series up to a moment: safe at any time, from any thread."""
        return nm_series_until(&self.udp.packet_series, moment_ns)


cdef class UdpReceiver(Stream):
    """Receives datagrams on a connected socket until budget, stop or error; UDP has no end.

    `bytes` and the series are payload of different datagrams: duplicates are not counted twice. The
    series go by the time of reading, as snapshots do; delays by the kernel's time of arrival.

    Args:
        datagram_bytes: largest expected payload.
        counters_64bit: sequence numbers of 64 bits.
        coalesce: let the kernel hand over trains in one piece (UDP_GRO).
        window: how many numbers below the highest can be recognised as new or duplicate; a power
            of two, at least 64.
        batch_bytes: room for what is read at once, 0 for enough at the highest rates. It is memory
            that each stream takes.
        omit_ns: what comes earlier than this after the first datagram of the group's streams is the
            omitted part, and does not count against the group's budget.
        hello_reply: sent back for each hello that is repeated; none by default.
    """

    cdef nm_udp_receiver udp
    cdef ReceiveOptions options
    cdef bytes hello_reply

    def __cinit__(self, Group group not None, int fd, *, uint32_t datagram_bytes,
                  bint counters_64bit=False, bint coalesce=False, uint64_t window=4096,
                  uint32_t batch_bytes=0, int64_t omit_ns=0, bytes hello_reply=b"", int64_t width_ns=10_000_000,
                  uint32_t buckets=16384, int64_t sample_every_ns=100_000_000):
        cdef nm_udp_receive_options layout
        if not 16 <= datagram_bytes <= NM_UDP_LARGEST:
            raise ValueError(f"datagram_bytes must be 16 to {NM_UDP_LARGEST}")
        if window < 64 or window > 1 << 20 or window & (window - 1):
            raise ValueError("window must be a power of two, 64 to 2**20")
        allocate(&self.udp.packet_series, width_ns, buckets)
        layout = nm_udp_receive_options(datagram_bytes=datagram_bytes, window=window,
                                        counters_64bit=counters_64bit, coalesce=coalesce,
                                        batch_bytes=batch_bytes)
        if nm_udp_receiver_init(&self.udp, fd, &layout) != 0:
            raise MemoryError
        self.udp.sampling.every_ns = max(sample_every_ns, 1)
        self.hello_reply = hello_reply
        self.options = ReceiveOptions(omit_ns=omit_ns, reply=<const char *>self.hello_reply,
                                      reply_bytes=len(hello_reply))

    def __dealloc__(self):
        nm_udp_receiver_free(&self.udp)
        PyMem_Free(self.udp.packet_series.bucket)

    def run(self):
        """Receive. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            receive_datagrams(&self.own, &self.udp, &self.group.shared, self.fd, &self.options)
            nm_stream_leave(&self.own)

    @property
    def coalescing(self):
        """Whether UDP_GRO was asked for and the kernel has it."""
        return bool(self.udp.coalescing)

    @property
    def kernel_stamps(self):
        """Whether delays are computed from the kernel's time of arrival; else from the reading."""
        return bool(self.udp.stamping)

    @property
    def packets(self):
        """Different datagrams received."""
        return self.snapshot().received_packets

    def snapshot(self):
        """Return all counts of one moment, from the start: safe at any time, from any thread.

        received + lost == highest sequence number, always: only the sender knows what is lost at
        the very end. All counts but lost_packets only grow (a datagram that comes late is no longer
        lost); jitter, ipdv and transit start again when the omitted part is over. Where trains are
        coalesced, host_dropped_packets counts a dropped train as one, as the kernel does: it is
        then a lower bound.
        """
        cdef nm_udp_counts counts
        with nogil:
            nm_udp_look(&self.udp.board, &counts, 0)
        return named(&counts)

    def omitted(self):
        """Return the counts at the end of the omitted part; None before. Late datagrams that belong
        to it by their number are added to it, so the loss of the difference is never negative."""
        cdef nm_udp_counts counts
        cdef int over
        with nogil:
            over = nm_udp_look(&self.udp.board, &counts, 1)
        return named(&counts) if over else None

    def history(self):
        """Return [UdpSample], one every sample_every_ns or a multiple of it, and one at the end.

        `jitter_ns` is None where there was none yet. Raises RuntimeError while the loop is running.
        """
        cdef uint32_t i
        cdef nm_udp_sample *s = self.udp.sample
        self.must_be_quiet()
        return [
            UdpSample(s[i].at_ns, s[i].highest, s[i].received, s[i].duplicates, s[i].reordered,
                      s[i].host_dropped, None if s[i].jitter_ns < 0 else s[i].jitter_ns)
            for i in range(self.udp.sampling.used)
        ]

    def packet_series(self):
        """Return as series() does, in datagrams."""
        return copy_series(&self.udp.packet_series)

    def packets_until(self, int64_t moment_ns):
        """Return the datagrams in the series up to a moment: safe at any time, from any thread."""
        return nm_series_until(&self.udp.packet_series, moment_ns)


cdef object named(nm_udp_counts *c):
    """Return the counts by their names.

    Jitter from trains is marked invalid: their datagrams differ in what the sender's and the
    receiver's kernel do with a train, not in what the network did to them.
    """
    cdef bint ipdv = c.ipdv_count > 0
    cdef bint transit = c.transit_count > 0
    cdef bint jitter_valid = (
        c.jitter_count > 0
        and (c.coalesced + c.same_stamp) * 100 <= c.jitter_count * TRAINS_PERCENT
    )
    return UdpCounts(
        c.at_ns or None, c.highest, c.received, c.bytes, c.highest - c.received, c.duplicates,
        c.reordered, c.late, c.malformed, c.implausible, c.handshakes, c.truncated, c.icmp_errors,
        c.host_dropped, c.coalesced, c.same_stamp, c.jitter_count,
        c.jitter_16th_ns // 16 if c.jitter_count else None, jitter_valid, c.ipdv_count,
        c.ipdv_sum_ns, c.ipdv_min_ns if ipdv else None, c.ipdv_max_ns if ipdv else None,
        c.transit_min_ns if transit else None, c.transit_max_ns if transit else None,
    )


# ---- the sender's loop ---------------------------------------------------------------------------


cdef void send_datagrams(nm_stream *own, nm_udp_sender *udp, nm_group *group, int fd,
                         const SendOptions *options) noexcept nogil:
    """Send until something sets another reason than NM_RUNNING."""
    cdef Sending s
    cdef uint64_t count
    cdef int64_t taken, before
    cdef long slack
    memset(&s, 0, sizeof(s))
    s.own, s.udp, s.group, s.fd, s.options = own, udp, group, fd, options
    if not begin_sending(&s):
        return
    slack = nm_timer_slack(1)
    while own.reason == NM_RUNNING:
        if told_to_leave(&s):
            continue
        count = claimed(&s, due(&s))
        if count == 0:
            continue
        note_first(&s)
        nm_stream_sample(own, -1, s.now)
        before = s.now
        taken = nm_udp_send(udp, fd, count, before, s.flags)
        s.now = nm_now()
        if taken > 0:
            book_sent(&s, count, <uint64_t>taken, before)
        else:
            handle_refusal(&s, count, <int>-taken, s.now - before)
    if own.reason == NM_DEADLINE:
        nm_pace_end(&udp.pace, s.deadline)
    nm_store_i64(&own.ended_ns, nm_now())
    if slack > 0:
        nm_timer_slack(slack)
    nm_sample_take(&own.sampling, own.sample, -1, own.ended_ns)


cdef bint begin_sending(Sending *s) noexcept nogil:
    """Wait at the gate and make the socket ready. Return False if there is nothing more to send."""
    cdef int64_t zero_ns = nm_gate_wait(s.group)
    cdef int code
    if zero_ns == 0:
        nm_stream_reason(s.own, NM_ABORTED if nm_aborting(s.group) else NM_STOPPED)
        return False
    s.deadline = INT64_MAX
    if s.options.duration_ns > 0:
        s.deadline = nm_add_ns(zero_ns, s.options.duration_ns)
    s.per_call = s.udp.slots
    s.flags = MSG_NOSIGNAL
    nm_pace_start(&s.udp.pace, zero_ns)
    code = nm_timeout(s.fd, SO_SNDTIMEO, POLL_NS)
    if code:
        nm_stream_broken(s.own, s.group, code)
    else:
        nm_stream_reason(s.own, NM_RUNNING)
    s.now = nm_now()
    return True


cdef inline bint told_to_leave(Sending *s) noexcept nogil:
    """Whether an order or the deadline ends the loop; near the deadline, no call may block."""
    if nm_aborting(s.group):
        nm_stream_reason(s.own, NM_ABORTED)
    elif nm_stopping(s.group):  # an order that came after the deadline, as to a frozen host, is late
        nm_stream_reason(s.own, NM_DEADLINE if s.deadline <= nm_now() else NM_STOPPED)
    elif s.now >= s.deadline:
        nm_stream_reason(s.own, NM_DEADLINE)
    else:
        if s.deadline - s.now < POLL_NS:
            s.flags |= MSG_DONTWAIT  # a call that blocks now could send after the deadline
        return False
    return True


cdef inline uint64_t due(Sending *s) noexcept nogil:
    """How many datagrams the next call sends; 0: none is due yet, and some of the wait is over."""
    cdef uint64_t count = s.per_call
    cdef int64_t moment
    if nm_paced(&s.udp.pace):
        if s.ready == 0:
            moment = nm_pace_due(&s.udp.pace)
            if s.quiet_ns and -s.quiet_ns <= moment - s.omit_until < s.quiet_ns:
                moment = s.omit_until + s.quiet_ns
            moment = min(moment, s.deadline)
            if moment - s.now > SLICE_NS:
                s.now = nm_sleep_until(s.now + SLICE_NS, 0)
                return 0
            if s.now < moment:
                s.now = nm_sleep_until(moment, s.udp.pace.spin_ns)
                return 0
            s.ready = nm_pace_decide(&s.udp.pace, s.now, s.deadline)
        count = min(s.ready, count)
    if s.each_ns > 0 and <int64_t>count * s.each_ns > s.deadline - s.now:
        count = max(1, <uint64_t>((s.deadline - s.now) // s.each_ns))
    return count


cdef inline bint omitting(Sending *s) noexcept nogil:
    return s.options.omit_ns > 0 and (s.omit_until == 0 or s.now < s.omit_until)


cdef inline uint64_t claimed(Sending *s, uint64_t count) noexcept nogil:
    """How many of the datagrams the budget allows. Of a datagram that the budget does not cover as a
    whole, all is sent."""
    cdef uint64_t size = s.udp.datagram_bytes
    if count == 0 or s.group.budget == 0 or omitting(s):
        return count
    if s.credit == 0:
        s.credit = (nm_claim(s.group, count * size) + size - 1) // size
    if s.credit == 0:
        nm_stream_reason(s.own, NM_BUDGET)
    return min(count, s.credit)


cdef inline void note_first(Sending *s) noexcept nogil:
    if s.own.first_ns == 0:
        nm_series_start(&s.own.series, s.now)
        nm_series_start(&s.udp.packet_series, s.now)
        nm_store_i64(&s.own.first_ns, s.now)
        s.omit_until = nm_add_ns(nm_group_count_from(s.group, s.now), s.options.omit_ns)
        if nm_paced(&s.udp.pace) and s.group.budget and s.options.omit_ns > 0:
            s.quiet_ns = min(QUIET_NS, nm_pace_span(&s.udp.pace, s.udp.pace.quantum) // 4)


cdef inline void book_sent(Sending *s, uint64_t count, uint64_t taken,
                           int64_t before) noexcept nogil:
    """Count the datagrams that the kernel took, and adapt the next call to how long it took."""
    cdef int64_t took = s.now - before
    if s.cut_short:
        # sendmmsg() keeps an error to itself once it has sent something. The same datagram went
        # through the second time, as after an ICMP message, which is told only once.
        nm_add_u64(&s.udp.icmp_errors, 1)
    s.cut_short = (taken < min(count, NM_UDP_MESSAGES * <uint64_t>s.udp.segments)
                   and took < POLL_NS and not s.flags & MSG_DONTWAIT)
    s.too_long = False
    nm_stream_count(s.own, s.now, taken * s.udp.datagram_bytes,
                    s.omit_until if s.options.omit_ns > 0 else 0)
    nm_add_u64(&s.own.calls, 1)
    nm_udp_sent(s.udp, taken, before, s.now)
    if s.credit:
        s.credit -= taken
    elif s.group.budget and before < s.omit_until <= s.now:
        # it began in the omitted time, but what it sent stands in the series after that
        nm_claim(s.group, taken * s.udp.datagram_bytes)
    if nm_paced(&s.udp.pace):
        s.ready -= taken
        nm_pace_sent(&s.udp.pace, taken, s.ready, s.now)
    s.each_ns = took // <int64_t>taken
    if took > CALL_NS:
        s.per_call = max(s.udp.segments, s.per_call // 2)
    elif took < CALL_NS // 4 and s.per_call < s.udp.slots:
        s.per_call = min(s.udp.slots, s.per_call * 2)


cdef void handle_refusal(Sending *s, uint64_t count, int code, int64_t took) noexcept nogil:
    """Wait, note, fall back or fail, after a call that sent nothing."""
    s.cut_short = False
    if code == EAGAIN and s.flags & MSG_DONTWAIT:
        nm_wait_writable(s.fd, min(s.deadline - s.now, SLICE_NS))
    elif code == EAGAIN or code == ENOBUFS:
        nm_add_u64(&s.udp.refused, min(count, <uint64_t>s.udp.segments))
        if took < BACK_OFF_NS:  # it did not wait by itself
            nm_sleep(BACK_OFF_NS)
    elif code == ECONNREFUSED:
        nm_add_u64(&s.udp.icmp_errors, 1)
    elif (s.udp.segments > 1 and count > 1
          and (code == EIO or code == EINVAL or code == EOPNOTSUPP or code == EMSGSIZE)):
        nm_udp_shorten(s.udp, code)
    elif code == EMSGSIZE and not s.too_long:
        s.too_long = True  # the first may be an ICMP message about the path; the second is not
        nm_add_u64(&s.udp.icmp_errors, 1)
    elif code != EINTR and not nm_aborting(s.group) and not nm_stopping(s.group):
        nm_stream_failed(s.own, code)
    s.now = nm_now()


# ---- the receiver's loop -------------------------------------------------------------------------


cdef void receive_datagrams(nm_stream *own, nm_udp_receiver *udp, nm_group *group, int fd,
                            const ReceiveOptions *options) noexcept nogil:
    """Receive until something sets another reason than NM_RUNNING."""
    cdef Receiving r
    cdef int n
    memset(&r, 0, sizeof(r))
    r.own, r.udp, r.group, r.fd, r.options = own, udp, group, fd, options
    begin_receiving(&r)
    while own.reason == NM_RUNNING:
        if nm_aborting(group):
            nm_stream_reason(own, NM_ABORTED)
            break
        if not r.stopping and nm_stopping(group):
            r.stopping = True
            r.flags |= MSG_DONTWAIT
            r.leave_at = r.now + POLL_NS  # the far end may go on sending for ever
        n = c_recvmmsg(fd, udp.message, udp.batch, r.flags, NULL)
        if n > 0:
            take_batch(&r, <uint32_t>n)
        else:
            receive_nothing(&r, errno)
    nm_store_i64(&own.ended_ns, nm_now())
    nm_udp_finish(udp, fd, own.ended_ns)
    nm_sample_take(&own.sampling, own.sample, -1, own.ended_ns)


cdef void begin_receiving(Receiving *r) noexcept nogil:
    """Make the socket ready."""
    cdef int code = nm_timeout(r.fd, SO_RCVTIMEO, POLL_NS)
    r.now = nm_now()
    r.omit_until = INT64_MAX
    r.leave_at = INT64_MAX
    r.flags = MSG_WAITFORONE
    if not r.udp.coalescing:
        r.flags |= MSG_TRUNC  # tells the length of a datagram that is longer than expected
    if code:
        nm_stream_broken(r.own, r.group, code)
    else:
        nm_stream_reason(r.own, NM_RUNNING)


cdef inline void omit_if_due(Receiving *r) noexcept nogil:
    """Turn what was counted so far into the omitted part, when its time is over."""
    if r.options.omit_ns > 0 and r.now >= r.omit_until and not r.udp.account.omit_over:
        nm_udp_omit(&r.udp.account, r.now)


cdef inline void publish(Receiving *r) noexcept nogil:
    """Publish the counts, and take samples where they are due."""
    nm_udp_publish(r.udp, r.now)
    if r.own.first_ns == 0:
        return
    if r.now >= r.udp.sampling.due_ns:
        nm_udp_sample_take(r.udp, r.now)
    nm_stream_sample(r.own, -1, r.now)


cdef inline void take_batch(Receiving *r, uint32_t n) noexcept nogil:
    """Book the messages of one call, answer a hello, and leave where it was the last."""
    cdef bint aligned = nm_udp_align_clocks(r.udp, &r.now)
    cdef uint64_t bytes_before = r.udp.account.now.bytes
    cdef uint64_t packets_before = r.udp.account.now.received
    cdef uint64_t hellos_before = r.udp.account.now.handshakes
    cdef bint closed
    omit_if_due(r)
    closed = nm_udp_take(r.udp, n, r.now, aligned)
    nm_add_u64(&r.own.calls, 1)
    if r.udp.account.now.received != packets_before:
        if r.own.first_ns == 0:
            nm_series_start(&r.own.series, r.now)
            nm_series_start(&r.udp.packet_series, r.now)
            nm_store_i64(&r.own.first_ns, r.now)
            r.omit_until = nm_add_ns(nm_group_count_from(r.group, r.now), r.options.omit_ns)
        nm_stream_count(r.own, r.now, r.udp.account.now.bytes - bytes_before,
                        r.omit_until if r.options.omit_ns > 0 else 0)
        nm_series_add(&r.udp.packet_series, r.now, r.udp.account.now.received - packets_before)
    publish(r)
    if r.udp.account.now.handshakes != hellos_before and r.options.reply_bytes:
        # best effort: a client whose answer is lost says hello again
        c_send(r.fd, r.options.reply, r.options.reply_bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
    if r.group.budget and r.now >= r.omit_until:
        nm_claim(r.group, r.udp.account.now.bytes - bytes_before)
    if r.group.budget and r.now >= r.omit_until and nm_budget_left(r.group) == 0:
        nm_stream_reason(r.own, NM_BUDGET)
    elif closed:
        nm_stream_reason(r.own, NM_ABORTED if nm_aborting(r.group) else NM_EOF)
    elif r.now >= r.leave_at:
        nm_stream_reason(r.own, NM_STOPPED)


cdef void receive_nothing(Receiving *r, int code) noexcept nogil:
    """Take a call that read nothing: a time-out, a signal, an ICMP message, or the end."""
    if code == ECONNREFUSED:
        r.udp.account.now.icmp_errors += 1
        return
    if code == EINTR:
        return
    if code != EAGAIN:
        nm_stream_broken(r.own, r.group, code)
        return
    r.now = nm_now()
    if r.stopping:  # the socket is empty: everything that had arrived is counted
        nm_stream_reason(r.own, NM_STOPPED)
    elif nm_budget_left(r.group) == 0:
        nm_stream_reason(r.own, NM_BUDGET)
    else:
        omit_if_due(r)
        nm_udp_ask_drops(r.udp, r.fd)
        publish(r)
