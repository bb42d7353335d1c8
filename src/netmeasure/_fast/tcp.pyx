"""GIL-free TCP sender and receiver: one blocking loop per stream, run in its own thread."""

from libc.stdint cimport int64_t, uint64_t
from libc.stdlib cimport free
from libc.string cimport memset
from posix.types cimport off_t

from netmeasure._fast.nm_atomic cimport nm_add_u64, nm_store_i64, nm_store_u64
from netmeasure._fast.nm_buffer cimport nm_buffer_allocate
from netmeasure._fast.nm_clock cimport nm_add_ns, nm_now, nm_sleep
from netmeasure._fast.nm_group cimport (
    nm_aborting, nm_budget_left, nm_claim, nm_gate_wait, nm_group, nm_group_count_from, nm_stopping,
)
from netmeasure._fast.nm_samples cimport nm_sample_take
from netmeasure._fast.nm_series cimport nm_series_add, nm_series_beside, nm_series_start
from netmeasure._fast.nm_socket cimport (
    nm_acknowledge, nm_gone, nm_set_nonblocking, nm_timeout, nm_unacknowledged, nm_unread, nm_wait_writable,
)
from netmeasure._fast.nm_stream cimport (
    NM_ABORTED, NM_BUDGET, NM_DEADLINE, NM_EOF, NM_ERROR, NM_RUNNING, NM_STOPPED, nm_stream,
    nm_stream_broken, nm_stream_count, nm_stream_failed, nm_stream_leave, nm_stream_reason,
    nm_stream_sample,
)
from netmeasure._fast.syscalls cimport (
    EAGAIN, EINTR, EIO, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, SHUT_WR, SO_RCVTIMEO, SO_SNDTIMEO,
    c_recv, c_send, c_sendfile, c_shutdown, c_write, errno,
)
from netmeasure._fast.nm_watch cimport nm_await_bytes, nm_stamp_arrivals
from netmeasure._fast.worker cimport Group, Stream

# A blocked call looks at the flags this often (ns). shutdown() wakes it at once.
cdef int64_t POLL_NS = 100_000_000
# A blocked sender looks more often: what is acknowledged is only seen between two calls, and the
# series of a sender that sends little would have lumps.
cdef int64_t SEND_POLL_NS = 10_000_000
cdef int64_t DRAIN_POLL_NS = 500_000
# At high rates a look at the acknowledgements after every call would cost some percent of the rate.
cdef int64_t LOOK_NS = 250_000
# How much of a rate is handed to the kernel ahead of its time: enough for a thread that wakes up
# late; less in the beginning, where the kernel sends it at once.
cdef int64_t AHEAD_NS = 50_000_000
cdef int64_t FIRST_AHEAD_NS = 10_000_000
# What is handed over at a time, at a rate, is what is due in so long; and at least so much.
cdef int64_t PIECE_NS = 10_000_000
cdef double MIN_PIECE_BYTES = 256
# A paced sender with a budget keeps the path empty so long before and after the end of the omitted
# time, so both ends count each byte in the same part.
cdef int64_t QUIET_NS = 10_000_000
# Until the first acknowledgement, which begins the series, a sender looks more often: at first after
# so long, and later after this part of the time that it has waited. It never blocks in send() by
# then, whose time-out is only as exact as the kernel's ticks (4 ms and more).
cdef int64_t FIRST_LOOK_NS = 1_000_000
cdef int64_t FIRST_LOOK_PART = 16
# So long before the end of the omitted time a receiver's kernel is not to delay acknowledgements, by
# 40 ms and more: the sender would take what has arrived for what is still on its way.
cdef int64_t PROMPT_NS = 60_000_000


cdef struct SendOptions:
    const char *block  # sent again and again, unless there is a source_fd
    size_t block_bytes
    int source_fd
    bint whole_file
    bint half_close
    int64_t duration_ns
    int64_t omit_ns
    int64_t drain_ns
    double bytes_per_ns  # 0: as fast as it goes


cdef struct Sending:
    # The state of one sender's loop.
    nm_stream *own
    nm_group *group
    int fd
    const SendOptions *options
    int64_t paced_from_ns  # the rate counts from here: the gate's opening, or the end of a pause
    uint64_t paced_from_bytes  # what had been sent by then
    int64_t deadline  # 0: none
    int64_t now
    int64_t look_ns  # when to look at the acknowledgements next
    size_t at  # place in the block
    uint64_t credit  # bytes drawn from the budget that are still to be sent
    size_t piece  # most bytes of one call
    int64_t omit_until  # 0 before the first acknowledgement
    bint omitting
    bint short_timeout


cdef struct ReceiveOptions:
    char *buffer
    size_t buffer_bytes
    bint discard
    int64_t omit_ns
    uint64_t limit_bytes  # 0: none
    int sink_fd
    uint64_t leading_bytes
    int64_t leading_ns


cdef struct Receiving:
    # The state of one receiver's loop.
    nm_stream *own
    nm_group *group
    int fd
    const ReceiveOptions *options
    int64_t now
    int64_t omit_until  # 0: not known before the first byte
    int flags
    bint stopping
    int64_t left  # when stopping: bytes that had arrived by then


cdef class Sender(Stream):
    """Sends `block_bytes` repeatedly until deadline, budget, stop or error.

    The time series counts acknowledged bytes (SIOCOUTQ, tcp(7)), not what fitted into the socket
    buffer, so a sender's series says what was delivered. It starts at the first acknowledgement, as
    a receiver's starts at the first byte: the same stretch of the data, half a round trip later.

    Args:
        payload: the block that is sent again and again.
        block_bytes: the block's size where it comes from source_fd.
        source_fd: sendfile() from that descriptor (a memfd of at least block_bytes) instead of
            send() from memory; -1: none.
        whole_file: send the source once, from its beginning to its end, which ends the stream.
        duration_ns: how long, from the gate's opening; 0: no deadline.
        omit_ns: what is acknowledged earlier than this after the first acknowledgement does not
            count against the group's budget. What counts in the series after it is the budget,
            exactly, unless more than the budget was on its way at that moment. The first
            acknowledgement is that of the group's first stream to have one.
        half_close: end with shutdown(SHUT_WR), so that the receiver sees where the data end.
        drain_ns: how long to wait for the last acknowledgements.
        rate_bps: never hand over more than this rate allows since the gate's opening; 0: no limit.
            The kernel is to space it evenly (SO_MAX_PACING_RATE), but it lets the first ten segments
            pass at once, and takes 64 KiB where it is asked to keep little: seconds of a low rate.
    """

    cdef bytes payload  # what options.block points into; the streams of a process share it
    cdef SendOptions options

    def __cinit__(self, Group group not None, int fd, *, bytes payload=b"", size_t block_bytes=0,
                  int source_fd=-1, bint whole_file=False, int64_t duration_ns=0,
                  int64_t omit_ns=0, bint half_close=True, int64_t drain_ns=10_000_000_000,
                  double rate_bps=0, width_ns=None, buckets=None, sample_every_ns=None):
        if source_fd < 0:
            block_bytes = len(payload)
        if block_bytes == 0:
            raise ValueError("a sender needs a payload, or source_fd with block_bytes")
        self.payload = payload
        self.options = SendOptions(
            block=<const char *>payload, block_bytes=block_bytes, source_fd=source_fd,
            whole_file=whole_file, half_close=half_close, duration_ns=duration_ns, omit_ns=omit_ns,
            drain_ns=drain_ns, bytes_per_ns=rate_bps / 8e9,
        )

    def run(self):
        """Wait at the gate, send, drain. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            send_all(&self.own, &self.group.shared, self.fd, &self.options)
            nm_stream_leave(&self.own)


cdef class Receiver(Stream):
    """Receives until end of stream, budget, stop or error.

    Args:
        buffer_bytes: size of one recv().
        discard: let the kernel drop the payload instead of copying it (MSG_TRUNC, tcp(7)); this
            measures the path without the application's copy.
        omit_ns: bytes that come earlier than this after the first byte of the group's streams do not
            count against the group's budget.
        limit_bytes: leave after exactly so many and read none more; 0: no limit.
        sink_fd: where what is received is written; -1: nowhere.
        leading_bytes: of these, so many were read before the loop began, at `leading_ns`.
        leading_ns: when the leading bytes were read.
    """

    cdef char *buffer
    cdef ReceiveOptions options
    cdef int64_t arrived

    def __cinit__(self, Group group not None, int fd, *, size_t buffer_bytes=131072,
                  bint discard=False, int64_t omit_ns=0, uint64_t limit_bytes=0, int sink_fd=-1,
                  uint64_t leading_bytes=0, int64_t leading_ns=0,
                  width_ns=None, buckets=None, sample_every_ns=None):
        if buffer_bytes == 0:
            raise ValueError("buffer_bytes must be positive")
        if leading_bytes and (leading_ns <= 0 or (limit_bytes and leading_bytes > limit_bytes)):
            raise ValueError("leading_bytes need a leading_ns, and are part of limit_bytes")
        if discard and sink_fd >= 0:
            raise ValueError("what is discarded can't be written")
        if not discard:
            self.buffer = <char *>nm_buffer_allocate(buffer_bytes)
            if self.buffer == NULL:
                raise MemoryError
        self.options = ReceiveOptions(
            buffer=self.buffer, buffer_bytes=buffer_bytes, discard=discard, omit_ns=omit_ns,
            limit_bytes=limit_bytes, sink_fd=sink_fd, leading_bytes=leading_bytes,
            leading_ns=leading_ns,
        )

    def __dealloc__(self):
        free(self.buffer)

    @property
    def arrived_ns(self):
        """When the first bytes reached this host, from the kernel's own time stamp: not later than
        `first_ns`, which is when this thread had read them. None: none have, or not to this loop."""
        return self.arrived or None

    def run(self):
        """Receive. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            receive_all(&self.own, &self.group.shared, self.fd, &self.options, &self.arrived)
            nm_stream_leave(&self.own)


# ---- the sender's loop ---------------------------------------------------------------------------


cdef void send_all(nm_stream *own, nm_group *group, int fd,
                   const SendOptions *options) noexcept nogil:
    """Send until something sets another reason than NM_RUNNING, then drain."""
    cdef Sending s
    memset(&s, 0, sizeof(s))
    s.own, s.group, s.fd, s.options = own, group, fd, options
    if not begin_sending(&s):
        return
    while own.reason == NM_RUNNING:
        if told_to_leave(&s) or not has_credit(&s) or waited_for_turn(&s):
            continue
        send_piece(&s)
    nm_store_i64(&own.ended_ns, s.now)
    if own.reason != NM_ERROR and own.reason != NM_ABORTED:
        drain(&s)
    nm_sample_take(&own.sampling, own.sample, fd, nm_now())


cdef bint begin_sending(Sending *s) noexcept nogil:
    """Wait at the gate and make the socket ready. Return False if there is nothing more to send."""
    cdef const SendOptions *options = s.options
    cdef int code
    s.paced_from_ns = nm_gate_wait(s.group)
    if s.paced_from_ns == 0:
        nm_stream_reason(s.own, NM_ABORTED if nm_aborting(s.group) else NM_STOPPED)
        return False
    code = nm_timeout(s.fd, SO_SNDTIMEO, SEND_POLL_NS)
    if code == 0 and options.source_fd >= 0:
        code = nm_set_nonblocking(s.fd)
    s.now = nm_now()
    nm_store_i64(&s.own.first_ns, s.now)
    if code:
        nm_stream_broken(s.own, s.group, code)
    else:
        nm_stream_reason(s.own, NM_RUNNING)
    if options.duration_ns > 0:
        s.deadline = nm_add_ns(s.paced_from_ns, options.duration_ns)
    s.omitting = options.omit_ns > 0
    s.piece = options.block_bytes
    if options.bytes_per_ns > 0:
        s.piece = <size_t>max(PIECE_NS * options.bytes_per_ns, MIN_PIECE_BYTES)
    return True


cdef inline bint told_to_leave(Sending *s) noexcept nogil:
    """Whether an order or the deadline ends the loop; near the deadline, shorten the time-out."""
    if nm_aborting(s.group):
        nm_stream_reason(s.own, NM_ABORTED)
    elif nm_stopping(s.group):  # an order that came after the deadline, as to a frozen host, is late
        nm_stream_reason(s.own, NM_DEADLINE if 0 < s.deadline <= nm_now() else NM_STOPPED)
    elif s.deadline and s.now >= s.deadline:
        nm_stream_reason(s.own, NM_DEADLINE)
    else:
        if s.deadline and not s.short_timeout and s.deadline - s.now < SEND_POLL_NS:
            nm_timeout(s.fd, SO_SNDTIMEO, s.deadline - s.now)  # else the first time-out holds
            s.short_timeout = True
        return False
    return True


cdef inline bint has_credit(Sending *s) noexcept nogil:
    """Draw from the budget what the next call sends, unless some is left. False where it is spent."""
    if s.credit:
        return True
    s.credit = min(s.piece, s.options.block_bytes - s.at)
    if not s.omitting:
        s.credit = nm_claim(s.group, s.credit)
    if s.credit == 0:
        nm_stream_reason(s.own, NM_BUDGET)
    return s.credit != 0


cdef void end_omitted_time(Sending *s) noexcept nogil:
    """Draw from the budget what is on its way, for it will be acknowledged, and count, after this;
    then what the next call sends."""
    s.omitting = False
    nm_claim(s.group, s.own.bytes - s.own.acked)
    s.credit = nm_claim(s.group, s.credit)


cdef inline void look(Sending *s, bint closed) noexcept nogil:
    """Note what has been acknowledged since the last look, and take a sample when one is due.

    The end of the omitted time is noticed here and nowhere else, before the acknowledgements: all
    that this look adds to the series lies after it.
    """
    if s.omitting and s.omit_until and s.now >= s.omit_until:
        end_omitted_time(s)
    count_acknowledged(s, closed)
    nm_stream_sample(s.own, s.fd, s.now)


cdef inline int64_t edge(Sending *s) noexcept nogil:
    return s.omit_until if s.options.omit_ns > 0 else 0


cdef void count_acknowledged(Sending *s, bint closed) noexcept nogil:
    """Add the bytes acknowledged since the last look to the series, at this moment."""
    cdef nm_stream *own = s.own
    cdef int64_t waiting = nm_unacknowledged(s.fd)
    cdef uint64_t acked
    if waiting < 0:
        return
    if closed and waiting > 0:
        waiting -= 1  # the FIN takes a sequence number of its own
    acked = own.bytes - <uint64_t>waiting
    if <int64_t>(acked - own.acked) > 0:
        if own.acked == 0:
            nm_series_start(&own.series, s.now)
            s.omit_until = nm_add_ns(nm_group_count_from(s.group, s.now), s.options.omit_ns)
        nm_series_add(&own.series, nm_series_beside(&own.series, s.now, edge(s)), acked - own.acked)
        nm_store_u64(&own.acked, acked)
        nm_store_i64(&own.last_ns, s.now)


cdef inline int64_t ahead_ns(int64_t since_ns) noexcept nogil:
    """How much of the rate the kernel may hold so long after the beginning."""
    return min(AHEAD_NS, FIRST_AHEAD_NS + since_ns // 4)


cdef inline int64_t quiet_in(Sending *s) noexcept nogil:
    """How long (ns) the path has to stay empty around the end of the omitted time; 0: it need not.

    What is handed over then would be acknowledged at that moment. The kernel sends what it holds at
    the rate, so the quiet begins earlier by as much as that takes.
    """
    cdef int64_t middle
    if s.options.omit_ns <= 0 or s.group.budget == 0 or s.omit_until == 0:
        return 0
    middle = s.omit_until - (s.own.series.origin_ns - s.own.first_ns)
    if s.now < middle - QUIET_NS - ahead_ns(s.options.omit_ns) or s.now >= middle + QUIET_NS:
        return 0
    return middle + QUIET_NS - s.now


cdef inline int64_t look_in(Sending *s) noexcept nogil:
    """How long (ns) until a sender that waits looks at the acknowledgements again."""
    if s.own.acked:
        return SEND_POLL_NS
    return min(max((s.now - s.own.first_ns) // FIRST_LOOK_PART, FIRST_LOOK_NS), SEND_POLL_NS)


cdef inline int64_t turn_in(Sending *s) noexcept nogil:
    """How long (ns) until a rate allows the next piece; 0 or less: now."""
    cdef int64_t wait_ns = quiet_in(s)
    cdef int64_t since_ns
    cdef double early
    if wait_ns > 0:  # then the rate begins again: the pause is not made up for
        s.paced_from_ns = s.now + wait_ns
        s.paced_from_bytes = s.own.bytes
        return min(wait_ns, SEND_POLL_NS)
    since_ns = s.now - s.paced_from_ns
    early = (s.own.bytes - s.paced_from_bytes + s.credit) / s.options.bytes_per_ns
    # a piece of a low rate lasts longer: the first one leaves at once, for else set-up would seem long
    early -= since_ns + max(<double>ahead_ns(since_ns), s.piece / s.options.bytes_per_ns)
    return <int64_t>min(early, <double>look_in(s))


cdef inline bint waited_for_turn(Sending *s) noexcept nogil:
    """Whether the rate did not allow a piece yet: then some of the wait is over."""
    cdef int64_t wait_ns
    if s.options.bytes_per_ns <= 0:
        return False
    wait_ns = turn_in(s)
    if wait_ns <= 0:
        return False
    nm_sleep(wait_ns)
    s.now = nm_now()
    look(s, False)
    return True


cdef inline ssize_t hand_over(Sending *s, size_t size) noexcept nogil:
    """Hand `size` bytes to the kernel, from memory or from the source."""
    cdef const SendOptions *options = s.options
    cdef off_t offset
    cdef int flags = MSG_NOSIGNAL if s.own.acked else MSG_NOSIGNAL | MSG_DONTWAIT
    if options.source_fd < 0:
        return c_send(s.fd, options.block + s.at, size, flags)
    offset = <off_t>(s.own.bytes if options.whole_file else s.at)
    return c_sendfile(s.fd, options.source_fd, &offset, size)


cdef inline void send_piece(Sending *s) noexcept nogil:
    """Make one call and book what it did."""
    cdef int64_t before = s.now
    cdef ssize_t n = hand_over(s, s.credit)
    cdef int code = errno
    s.now = nm_now()
    if n > 0:
        s.credit -= <uint64_t>n
        s.at += <size_t>n
        if s.at == s.options.block_bytes:
            s.at = 0
        nm_add_u64(&s.own.bytes, <uint64_t>n)
        nm_add_u64(&s.own.calls, 1)
    elif not may_try_again(s, n, code, s.now - before):
        return
    if s.now >= s.look_ns or n < 0:
        look(s, False)
        s.look_ns = s.now + LOOK_NS


cdef bint may_try_again(Sending *s, ssize_t n, int code, int64_t took_ns) noexcept nogil:
    """Whether a call that moved nothing is worth another; if not, the reason may say why."""
    cdef int64_t wait_ns = look_in(s)
    if n == 0:  # sendfile() at the end of the source
        if s.options.whole_file:
            nm_stream_reason(s.own, NM_EOF)
        else:
            nm_stream_failed(s.own, EIO)  # the source is shorter than a block
        return False
    if code == EINTR:
        return True
    if code == EAGAIN:
        if took_ns < SEND_POLL_NS // 2:
            # a call that does not block: the first ones, sendfile(), a socket of a transport
            if s.deadline:
                wait_ns = min(wait_ns, s.deadline - s.now)
            nm_wait_writable(s.fd, wait_ns)
            s.now = nm_now()
        return True
    if not nm_aborting(s.group) and not nm_stopping(s.group):
        nm_stream_failed(s.own, code)
    return False  # an error after the order to leave is its effect: told_to_leave() knows


cdef void drain(Sending *s) noexcept nogil:
    """Wait for the last acknowledgements, no longer than drain_ns."""
    cdef int64_t give_up = nm_add_ns(s.now, s.options.drain_ns)
    cdef int64_t waiting
    cdef int code
    if s.options.half_close:
        c_shutdown(s.fd, SHUT_WR)  # fails where the connection is gone: nm_gone() says so below
    while not nm_aborting(s.group) and s.now < give_up:
        s.now = nm_now()
        code = nm_gone(s.fd)  # first: one that ends well before the next line has nothing waiting
        waiting = nm_unacknowledged(s.fd)
        look(s, s.options.half_close)
        if waiting <= 0:
            return
        if code:  # no acknowledgement can come any more
            if s.own.reason != NM_STOPPED and not nm_aborting(s.group):
                nm_stream_failed(s.own, code)
            return
        nm_sleep(DRAIN_POLL_NS)


# ---- the receiver's loop -------------------------------------------------------------------------


cdef int64_t first_arrival(nm_group *group, int fd) noexcept nogil:
    """Wait for the first bytes and return when they came; 0 where the stream has ended, or the group
    was told to end or has received all that it was to receive."""
    cdef int64_t at = 0
    nm_stamp_arrivals(fd, 1)
    while at == 0 and not nm_stopping(group) and not nm_aborting(group) and nm_budget_left(group):
        at = nm_await_bytes(fd, <int>(POLL_NS // 1000000))
    nm_stamp_arrivals(fd, 0)
    return max(at, 0)


cdef void receive_all(nm_stream *own, nm_group *group, int fd, const ReceiveOptions *options,
                      int64_t *arrived) noexcept nogil:
    """Receive until something sets another reason than NM_RUNNING."""
    cdef Receiving r
    cdef ssize_t n
    cdef size_t want
    memset(&r, 0, sizeof(r))
    r.own, r.group, r.fd, r.options = own, group, fd, options
    begin_receiving(&r)
    if own.reason == NM_RUNNING and options.leading_bytes == 0:
        arrived[0] = first_arrival(group, fd)
    while own.reason == NM_RUNNING:
        want = room(&r)
        if want == 0:
            nm_stream_reason(own, NM_BUDGET)
            break
        n = c_recv(fd, options.buffer, want, r.flags)
        if n > 0:
            book_received(&r, n)
        elif n == 0:
            nm_stream_reason(own, NM_ABORTED if nm_aborting(group) else NM_EOF)
        else:
            receive_nothing(&r, errno)
        if own.reason == NM_RUNNING:
            notice_orders(&r)
    nm_acknowledge(fd)  # a delay of the last acknowledgement would count as the sender's time
    nm_store_i64(&own.ended_ns, nm_now())
    nm_sample_take(&own.sampling, own.sample, fd, own.ended_ns)


cdef void begin_receiving(Receiving *r) noexcept nogil:
    """Make the socket ready, and count what had been read before."""
    cdef int code = nm_timeout(r.fd, SO_RCVTIMEO, POLL_NS)
    r.flags = MSG_TRUNC if r.options.discard else 0
    if r.options.leading_bytes:
        note_first(r, r.options.leading_ns)
        nm_stream_count(r.own, r.options.leading_ns, r.options.leading_bytes, 0)
    if code:
        nm_stream_broken(r.own, r.group, code)
    else:
        nm_stream_reason(r.own, NM_RUNNING)


cdef inline void note_first(Receiving *r, int64_t at) noexcept nogil:
    nm_series_start(&r.own.series, at)
    nm_store_i64(&r.own.first_ns, at)
    r.omit_until = nm_add_ns(nm_group_count_from(r.group, at), r.options.omit_ns)


cdef inline bint past_omitted(Receiving *r) noexcept nogil:
    return r.omit_until != 0 and r.now >= r.omit_until


cdef inline size_t room(Receiving *r) noexcept nogil:
    """How many bytes the next call may read: a limit and a budget are met, not exceeded. (More than
    one stream that reads at a time can exceed a budget by what their calls had asked for.)"""
    cdef uint64_t want = r.options.buffer_bytes
    if r.options.limit_bytes:
        want = min(want, r.options.limit_bytes - min(r.own.bytes, r.options.limit_bytes))
    if r.group.budget and past_omitted(r):
        want = min(want, nm_budget_left(r.group))
    return <size_t>want


cdef inline void book_received(Receiving *r, ssize_t n) noexcept nogil:
    """Count what a call has read; write it where it is to be written."""
    cdef int code
    r.now = nm_now()
    if r.own.first_ns == 0:
        note_first(r, r.now)
    nm_stream_count(r.own, r.now, <uint64_t>n, r.omit_until if r.options.omit_ns > 0 else 0)
    nm_add_u64(&r.own.calls, 1)
    nm_stream_sample(r.own, r.fd, r.now)
    if r.options.omit_ns > 0 and 0 < r.omit_until - r.now < PROMPT_NS:
        nm_acknowledge(r.fd)
    if r.options.sink_fd >= 0:
        code = write_all(r.options.sink_fd, r.options.buffer, <size_t>n)
        if code:
            nm_stream_failed(r.own, code)
            return
    if r.stopping:
        r.left -= n
        if r.left <= 0:  # what had arrived by then is counted; a peer may go on for ever
            nm_stream_reason(r.own, NM_STOPPED)
            return
    if r.group.budget and past_omitted(r):
        nm_claim(r.group, <uint64_t>n)
        if nm_budget_left(r.group) == 0:
            nm_stream_reason(r.own, NM_BUDGET)


cdef void receive_nothing(Receiving *r, int code) noexcept nogil:
    """Take a call that read nothing: a time-out, a signal, or the end by an error."""
    if code == EINTR:
        return
    if code != EAGAIN:
        nm_stream_broken(r.own, r.group, code)
        return
    r.now = nm_now()
    if r.own.first_ns:
        nm_stream_sample(r.own, r.fd, r.now)
    if r.stopping:  # the socket is empty: everything that had arrived is counted
        nm_stream_reason(r.own, NM_STOPPED)
    elif nm_budget_left(r.group) == 0:
        nm_stream_reason(r.own, NM_BUDGET)


cdef inline void notice_orders(Receiving *r) noexcept nogil:
    """End at once after abort; after stop, read the bytes that have already arrived."""
    if nm_aborting(r.group):
        nm_stream_reason(r.own, NM_ABORTED)
    elif not r.stopping and nm_stopping(r.group):
        r.stopping = True
        r.left = nm_unread(r.fd)
        r.flags |= MSG_DONTWAIT


cdef int write_all(int fd, const char *data, size_t size) noexcept nogil:
    """Write everything. Return 0, or the errno of a failed write."""
    cdef ssize_t n
    cdef size_t done = 0
    while done < size:
        n = c_write(fd, data + done, size - done)
        if n >= 0:
            done += <size_t>n
        elif errno != EINTR:
            return errno
    return 0
