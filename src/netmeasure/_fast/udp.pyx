"""GIL-free UDP sender and receiver: one blocking loop per stream, run in a thread of its own."""

from collections import namedtuple as _namedtuple
from os import urandom as _urandom

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport INT64_MAX, int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from netmeasure._fast.native cimport (
    EAGAIN, EINTR, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, NM_ABORTED, NM_BUDGET, NM_DEADLINE,
    NM_EOF, NM_ERROR, NM_LOAD, NM_RUNNING, NM_STOPPED, NM_STORE, SO_RCVTIMEO, SO_SNDTIMEO, c_send,
    errno, nm_aborting, nm_claim, nm_gate_wait, nm_group, nm_now, nm_sample_take, nm_series,
    nm_series_add, nm_series_start, nm_series_until, nm_sleep, nm_stopping, nm_stream,
    nm_thread_cpu, nm_timeout,
)
from netmeasure._fast.udp_native cimport (
    ECONNREFUSED, EINVAL, EIO, EMSGSIZE, ENOBUFS, EOPNOTSUPP, MSG_WAITFORONE, NM_UDP_LARGEST,
    NM_UDP_TRAIN, c_recvmmsg, nm_pace_decide, nm_pace_due, nm_pace_init, nm_pace_sent,
    nm_sleep_until, nm_timer_slack, nm_udp_align_clocks, nm_udp_ask_drops, nm_udp_counts,
    nm_udp_finish, nm_udp_omit, nm_udp_publish, nm_udp_read, nm_udp_receiver,
    nm_udp_receiver_free, nm_udp_receiver_init, nm_udp_sample, nm_udp_sample_take,
    nm_udp_segment_errno, nm_udp_send, nm_udp_sender, nm_udp_sender_free, nm_udp_sender_init, nm_udp_take, nm_wait_writable,
)
from netmeasure._fast.worker cimport Group, Stream, copy_series

# A blocked call looks at the flags this often (ns).
cdef int64_t POLL_NS = 100_000_000
# Nothing wakes a sender that sleeps until its next datagram is due, so it looks more often.
cdef int64_t SLICE_NS = 20_000_000
# One call should not take longer than this, or time stamps, stop and deadline get imprecise.
cdef int64_t CALL_NS = 2_000_000
cdef int64_t BACK_OFF_NS = 100_000
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


cdef void allocate(nm_series *series, int64_t width_ns, uint32_t buckets) except *:
    series.width_ns = width_ns
    series.capacity = buckets
    series.bucket = <uint64_t *>PyMem_Calloc(buckets, sizeof(uint64_t))
    if series.bucket == NULL:
        raise MemoryError


cdef class UdpSender(Stream):
    """Sends datagrams on a connected socket until deadline, budget, stop or error.

    datagram_bytes   payload of each, header included
    counters_64bit   sequence numbers of 64 bits; both ends must agree
    target_bps       payload bits per second; or
    target_pps       datagrams per second; both 0: as fast as it goes
    burst_datagrams  leave together per pacing decision; 0: as many as are due in 100 us, at least 1
    catch_up_ns      what is further behind schedule than this (and than one decision) is given up.
                     A busy machine keeps threads waiting for 4 to 6 ms; less than that costs rate.
    spin_ns          wait the last part before a decision without sleeping
    segments         most datagrams per UDP_SEGMENT super-datagram; 0, 1: no offload. Never more
                     than the kernel takes, nor more than leave together by design.
    duration_ns      from the gate's opening; 0: no deadline
    omit_ns          datagrams sent before this do not count against the group's budget
    payload          repeated to fill the datagrams behind their headers; random bytes by default

    Pacing is an absolute schedule: datagram k is due k intervals after the gate opened. Who wakes
    up late sends what is due, but at most 0.5 ms of rate (or one decision) together, and repays a
    longer backlog at no more than twice the rate. A budget that is not a multiple of the datagram
    is exceeded by less than one. The series count what the kernel took.
    """

    cdef nm_udp_sender udp
    cdef int64_t duration_ns, omit_ns, spin_ns

    def __cinit__(self, Group group not None, int fd, *, uint32_t datagram_bytes,
                  bint counters_64bit=False, uint64_t target_bps=0, uint64_t target_pps=0,
                  uint32_t burst_datagrams=0, uint32_t segments=0, int64_t duration_ns=0,
                  int64_t omit_ns=0, int64_t spin_ns=0, int64_t catch_up_ns=10_000_000,
                  bytes payload=None, int64_t width_ns=10_000_000, uint32_t buckets=16384,
                  sample_every_ns=None):
        if not 16 <= datagram_bytes <= NM_UDP_LARGEST:
            raise ValueError(f"datagram_bytes must be 16 to {NM_UDP_LARGEST}")
        if target_bps and target_pps:
            raise ValueError("give target_bps or target_pps, not both")
        nm_pace_init(&self.udp.pace, datagram_bytes, target_bps, target_pps, burst_datagrams,
                     catch_up_ns)
        segments = max(1, min(segments, NM_UDP_TRAIN, NM_UDP_LARGEST // datagram_bytes))
        if self.udp.pace.denominator and segments > self.udp.pace.quantum:
            segments = <uint32_t>self.udp.pace.quantum
        if segments > 1:
            self.udp.fallback_errno = nm_udp_segment_errno(fd)
            if self.udp.fallback_errno:
                segments = 1
        if nm_udp_sender_init(&self.udp, datagram_bytes, counters_64bit, segments) != 0:
            raise MemoryError
        self.fill(payload or _urandom(datagram_bytes))
        allocate(&self.udp.packet_series, width_ns, buckets)
        self.duration_ns = duration_ns
        self.omit_ns = omit_ns
        self.spin_ns = spin_ns

    cdef void fill(self, bytes pattern) except *:
        cdef uint32_t size = self.udp.datagram_bytes
        cdef bytes datagram = (pattern * (size // len(pattern) + 1))[:size]
        cdef uint32_t i
        for i in range(self.udp.slots):
            memcpy(self.udp.buffer + <size_t>i * size, <const char *>datagram, size)

    def __dealloc__(self):
        nm_udp_sender_free(&self.udp)
        PyMem_Free(self.udp.packet_series.bucket)

    def run(self):
        """Wait at the gate, send. Blocks its thread; holds no GIL."""
        with nogil:
            send_datagrams(&self.own, &self.udp, &self.group.shared, self.fd, self.duration_ns,
                           self.omit_ns, self.spin_ns)

    @property
    def packets(self):
        """Datagrams that the kernel took; also the last sequence number."""
        return NM_LOAD(&self.udp.packets)

    @property
    def refused(self):
        """Datagrams that the kernel did not take (ENOBUFS, EAGAIN); sent again, under the same
        sequence number."""
        return NM_LOAD(&self.udp.refused)

    @property
    def icmp_errors(self):
        """Times the network reported an error, mostly that nobody listens there."""
        return NM_LOAD(&self.udp.icmp_errors)

    @property
    def wakeups(self):
        """Pacing decisions; 0 without a target."""
        return NM_LOAD(&self.udp.wakeups)

    @property
    def late_wakeups(self):
        """Decisions made later than the time of one decision, and than 100 us. The decisions that
        repay a backlog are not counted again."""
        return NM_LOAD(&self.udp.late_wakeups)

    @property
    def largest_burst_bytes(self):
        """Most payload handed over at one pacing decision; None without a target."""
        return NM_LOAD(&self.udp.largest_burst_bytes) if self.udp.pace.denominator else None

    @property
    def skipped_ns(self):
        """How much of the schedule was given up after stalls."""
        return NM_LOAD(<uint64_t *>&self.udp.skipped_ns)

    @property
    def quantum_datagrams(self):
        """Datagrams that leave together by design; None without a target."""
        return self.udp.pace.quantum if self.udp.pace.denominator else None

    @property
    def segments(self):
        """Datagrams in the longest super-datagram; 1 without segmentation offload."""
        return self.udp.segments

    @property
    def segmentation(self):
        """Whether segmentation offload is in use."""
        return self.udp.segments > 1

    @property
    def fallback_errno(self):
        """Why segmentation offload was given up, or 0."""
        return self.udp.fallback_errno

    def packet_series(self):
        """As series(), in datagrams."""
        return copy_series(&self.udp.packet_series)

    def packets_until(self, int64_t moment_ns):
        """Datagrams in the series up to a moment: safe at any time, from any thread."""
        return nm_series_until(&self.udp.packet_series, moment_ns)


cdef class UdpReceiver(Stream):
    """Receives datagrams on a connected socket until budget, stop or error; UDP has no end.

    datagram_bytes   largest expected payload
    counters_64bit   sequence numbers of 64 bits
    coalesce         let the kernel hand over trains in one piece (UDP_GRO)
    window           how many numbers below the highest can still be told to be new or duplicate; a
                     power of two, at least 64
    omit_ns          what comes earlier than this after the first datagram is the omitted part, and
                     does not count against the group's budget
    hello_reply      sent back for each hello that is repeated; none by default

    `bytes` and the series are payload of different datagrams: duplicates are not counted twice. The
    series go by the time of reading, as snapshots do; delays by the kernel's time of arrival.
    """

    cdef nm_udp_receiver udp
    cdef int64_t omit_ns
    cdef bytes hello_reply

    def __cinit__(self, Group group not None, int fd, *, uint32_t datagram_bytes,
                  bint counters_64bit=False, bint coalesce=False, uint64_t window=4096,
                  int64_t omit_ns=0, bytes hello_reply=b"", int64_t width_ns=10_000_000,
                  uint32_t buckets=16384, int64_t sample_every_ns=100_000_000):
        if not 16 <= datagram_bytes <= NM_UDP_LARGEST:
            raise ValueError(f"datagram_bytes must be 16 to {NM_UDP_LARGEST}")
        if window < 64 or window > 1 << 20 or window & (window - 1):
            raise ValueError("window must be a power of two, 64 to 2**20")
        allocate(&self.udp.packet_series, width_ns, buckets)
        if nm_udp_receiver_init(&self.udp, fd, datagram_bytes, counters_64bit, coalesce,
                                window) != 0:
            raise MemoryError
        self.udp.sample_every_ns = sample_every_ns
        self.omit_ns = omit_ns
        self.hello_reply = hello_reply

    def __dealloc__(self):
        nm_udp_receiver_free(&self.udp)
        PyMem_Free(self.udp.packet_series.bucket)

    def run(self):
        """Receive. Blocks its thread; holds no GIL."""
        cdef const char *reply = <const char *>self.hello_reply
        cdef size_t reply_bytes = len(self.hello_reply)
        with nogil:
            receive_datagrams(&self.own, &self.udp, &self.group.shared, self.fd, self.omit_ns,
                              reply, reply_bytes)

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
        """All counts of one moment, from the start: safe at any time, from any thread.

        received + lost == highest sequence number, always: what is lost at the very end, nobody but
        the sender knows. All counts but lost_packets only grow (a datagram that comes late is no
        longer lost); jitter, ipdv and transit start again when the omitted part is over. Where
        trains are coalesced, host_dropped_packets counts a dropped train as one, as the kernel
        does: it is then a lower bound.
        """
        cdef nm_udp_counts counts
        with nogil:
            nm_udp_read(&self.udp, &counts, 0)
        return named(&counts)

    def omitted(self):
        """The counts when the omitted part was over, None before. Late datagrams that belong to it
        by their number are added to it, so the loss of the difference is never negative."""
        cdef nm_udp_counts counts
        cdef int over
        with nogil:
            over = nm_udp_read(&self.udp, &counts, 1)
        return named(&counts) if over else None

    def history(self):
        """[UdpSample] every sample_every_ns or a multiple of it, and at the end; jitter_ns is None
        where there was none yet. Read after the end."""
        cdef uint32_t i
        cdef nm_udp_sample *s = self.udp.sample
        return [
            UdpSample(s[i].at_ns, s[i].highest, s[i].received, s[i].duplicates, s[i].reordered,
                      s[i].host_dropped, None if s[i].jitter_ns < 0 else s[i].jitter_ns)
            for i in range(self.udp.samples)
        ]

    def packet_series(self):
        """As series(), in datagrams."""
        return copy_series(&self.udp.packet_series)

    def packets_until(self, int64_t moment_ns):
        """Datagrams in the series up to a moment: safe at any time, from any thread."""
        return nm_series_until(&self.udp.packet_series, moment_ns)


cdef object named(nm_udp_counts *c):
    """Jitter from trains is marked invalid: their datagrams differ in what the sender's and the
    receiver's kernel do with a train, not in what the network did to them."""
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


cdef void send_datagrams(nm_stream *own, nm_udp_sender *u, nm_group *group, int fd,
                         int64_t duration_ns, int64_t omit_ns, int64_t spin_ns) noexcept nogil:
    cdef int64_t zero = nm_gate_wait(group)
    cdef int64_t now, due, deadline, before, taken
    cdef int64_t took = 0
    cdef uint64_t size = u.datagram_bytes
    cdef uint64_t per_call = u.slots
    cdef uint64_t ready = 0  # datagrams of the last pacing decision that are still to be sent
    cdef uint64_t credit = 0  # datagrams claimed from the budget and still to be sent
    cdef uint64_t count = 0
    cdef int64_t each_ns = 0  # what the last call took per datagram
    cdef int flags = MSG_NOSIGNAL
    cdef int code
    cdef long slack
    cdef bint paced = u.pace.denominator != 0
    cdef bint cut_short = False
    cdef bint too_long = False

    if zero == 0:
        own.reason = NM_ABORTED if nm_aborting(group) else NM_STOPPED
        return
    slack = nm_timer_slack(1)
    nm_timeout(fd, SO_SNDTIMEO, POLL_NS)
    u.pace.zero = zero
    deadline = zero + duration_ns if duration_ns > 0 else INT64_MAX
    omit_ns += zero
    own.reason = NM_RUNNING
    now = nm_now()
    while True:
        if nm_aborting(group):
            own.reason = NM_ABORTED
            break
        if nm_stopping(group):
            own.reason = NM_STOPPED
            break
        if now >= deadline:
            own.reason = NM_DEADLINE
            break
        if deadline - now < POLL_NS:
            flags |= MSG_DONTWAIT  # a call that blocks now could send after the deadline
        if not paced:
            count = per_call
        else:
            if ready == 0:
                due = max(nm_pace_due(&u.pace, u.pace.scheduled), u.pace.not_before)
                due = min(due, deadline)
                if due - now > SLICE_NS:
                    now = nm_sleep_until(now + SLICE_NS, 0)
                    continue
                if now < due:
                    now = nm_sleep_until(due, spin_ns)
                    continue
                ready = nm_pace_decide(u, now, deadline)
            count = min(ready, per_call)
        if each_ns > 0 and <int64_t>count * each_ns > deadline - now:
            count = max(1, <uint64_t>((deadline - now) // each_ns))
        if group.budget and now >= omit_ns:
            if credit == 0:
                credit = (nm_claim(group, count * size) + size - 1) // size
                if credit == 0:
                    own.reason = NM_BUDGET
                    break
            count = min(count, credit)

        if own.first_ns == 0:
            nm_series_start(&own.series, now)
            nm_series_start(&u.packet_series, now)
            NM_STORE(&own.first_ns, now)
        if now >= own.sample_due_ns:
            nm_sample_take(own, -1, now)
        before = now
        taken = nm_udp_send(u, fd, count, before, flags)
        now = nm_now()
        took = now - before
        if taken > 0:
            if cut_short:
                # sendmmsg() keeps an error to itself once it has sent something. The same datagram
                # went through the second time, as after an ICMP message, which is told only once.
                NM_STORE(&u.icmp_errors, u.icmp_errors + 1)
            cut_short = (<uint64_t>taken < min(count, 64 * <uint64_t>u.segments)
                         and took < POLL_NS and not flags & MSG_DONTWAIT)
            too_long = False
            nm_series_add(&own.series, now, <uint64_t>taken * size)
            nm_series_add(&u.packet_series, now, <uint64_t>taken)
            NM_STORE(&own.bytes, own.bytes + <uint64_t>taken * size)
            NM_STORE(&own.calls, own.calls + 1)
            NM_STORE(&own.last_ns, now)
            NM_STORE(&u.packets, u.packets + <uint64_t>taken)
            if credit:
                credit -= <uint64_t>taken
            if paced:
                ready -= <uint64_t>taken
                nm_pace_sent(u, <uint64_t>taken, ready, now)
            each_ns = took // taken
            if took > CALL_NS:
                per_call = max(u.segments, per_call // 2)
            elif took < CALL_NS // 4 and per_call < u.slots:
                per_call = min(u.slots, per_call * 2)
            continue

        cut_short = False
        code = <int>-taken
        if code == EAGAIN and flags & MSG_DONTWAIT:
            nm_wait_writable(fd, min(deadline - now, SLICE_NS))
        elif code == EAGAIN or code == ENOBUFS:
            NM_STORE(&u.refused, u.refused + min(count, <uint64_t>u.segments))
            if took < BACK_OFF_NS:  # it did not wait by itself
                nm_sleep(BACK_OFF_NS)
        elif code == ECONNREFUSED:
            NM_STORE(&u.icmp_errors, u.icmp_errors + 1)
        elif (u.segments > 1 and count > 1
              and (code == EIO or code == EINVAL or code == EOPNOTSUPP or code == EMSGSIZE)):
            u.fallback_errno = code
            NM_STORE(&u.segments, 1)
        elif code == EMSGSIZE and not too_long:
            too_long = True  # the first may be an ICMP message about the path; the second is not
            NM_STORE(&u.icmp_errors, u.icmp_errors + 1)
        elif code != EINTR:
            if nm_aborting(group) or nm_stopping(group):
                continue  # an error after the order to leave is not an error; the loop's head knows
            own.reason = NM_ERROR
            own.error = code
            break
        now = nm_now()
    own.ended_ns = nm_now()
    nm_timer_slack(slack)
    nm_sample_take(own, -1, own.ended_ns)
    nm_thread_cpu(own)


cdef void receive_datagrams(nm_stream *own, nm_udp_receiver *r, nm_group *group, int fd,
                            int64_t omit_ns, const char *reply,
                            size_t reply_bytes) noexcept nogil:
    cdef int64_t now = nm_now()
    cdef int64_t omit_until = INT64_MAX
    cdef int64_t leave_at = INT64_MAX
    cdef uint64_t bytes_before, packets_before, hellos_before
    cdef int flags = MSG_WAITFORONE
    cdef int n, code, aligned, closed
    cdef bint stopping = False

    if not r.coalescing:
        flags |= MSG_TRUNC  # tells the length of a datagram that is longer than expected
    nm_timeout(fd, SO_RCVTIMEO, POLL_NS)
    own.reason = NM_RUNNING
    while True:
        if nm_aborting(group):
            own.reason = NM_ABORTED
            break
        if not stopping and nm_stopping(group):
            stopping = True
            flags |= MSG_DONTWAIT
            leave_at = now + POLL_NS  # the far end may go on sending for ever
        n = c_recvmmsg(fd, r.message, r.batch, flags, NULL)
        code = errno
        if n > 0:
            aligned = nm_udp_align_clocks(r, &now)
            if omit_ns > 0 and now >= omit_until and not r.omit_over:
                nm_udp_omit(r, now)
            bytes_before = r.now.bytes
            packets_before = r.now.received
            hellos_before = r.now.handshakes
            closed = nm_udp_take(r, n, now, aligned)
            NM_STORE(&own.calls, own.calls + 1)
            if r.now.received != packets_before:
                if own.first_ns == 0:
                    nm_series_start(&own.series, now)
                    nm_series_start(&r.packet_series, now)
                    NM_STORE(&own.first_ns, now)
                    omit_until = now + omit_ns
                nm_series_add(&own.series, now, r.now.bytes - bytes_before)
                nm_series_add(&r.packet_series, now, r.now.received - packets_before)
                NM_STORE(&own.bytes, r.now.bytes)
                NM_STORE(&own.last_ns, now)
            nm_udp_publish(r, now)
            if now >= r.sample_due_ns:
                nm_udp_sample_take(r, now)
            if now >= own.sample_due_ns and own.first_ns:
                nm_sample_take(own, -1, now)
            if r.now.handshakes != hellos_before and reply_bytes:
                c_send(fd, reply, reply_bytes, MSG_DONTWAIT | MSG_NOSIGNAL)
            if group.budget and now >= omit_until:
                nm_claim(group, r.now.bytes - bytes_before)
                if group.claimed >= group.budget:
                    own.reason = NM_BUDGET
                    break
            if closed:
                own.reason = NM_ABORTED if nm_aborting(group) else NM_EOF
                break
            if now >= leave_at:
                own.reason = NM_STOPPED
                break
        elif code == EAGAIN:
            now = nm_now()
            if stopping:  # the socket is empty: everything that had arrived is counted
                own.reason = NM_STOPPED
                break
            if group.budget and group.claimed >= group.budget:
                own.reason = NM_BUDGET
                break
            if omit_ns > 0 and now >= omit_until and not r.omit_over:
                nm_udp_omit(r, now)
            nm_udp_ask_drops(r, fd)
            nm_udp_publish(r, now)
            if now >= r.sample_due_ns and own.first_ns:
                nm_udp_sample_take(r, now)
            if now >= own.sample_due_ns and own.first_ns:
                nm_sample_take(own, -1, now)
        elif code == ECONNREFUSED:
            r.now.icmp_errors += 1
        elif code != EINTR:
            own.reason = NM_ABORTED if nm_aborting(group) else NM_ERROR
            own.error = 0 if nm_aborting(group) else code
            break
    own.ended_ns = nm_now()
    nm_udp_finish(r, fd, own.ended_ns)
    nm_sample_take(own, -1, own.ended_ns)
    nm_thread_cpu(own)
