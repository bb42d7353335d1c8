"""GIL-free TCP sender and receiver: one blocking loop per stream, run in a thread of its own."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint64_t
from libc.string cimport memcpy
from posix.types cimport off_t

from netmeasure._fast.native cimport (
    EAGAIN, EINTR, EIO, MSG_DONTWAIT, MSG_NOSIGNAL, MSG_TRUNC, NM_ABORTED, NM_BUDGET, NM_DEADLINE,
    NM_EOF, NM_ERROR, NM_RUNNING, NM_STOPPED, NM_STORE, SHUT_WR, SO_RCVTIMEO, SO_SNDTIMEO, c_recv,
    c_send, c_sendfile, c_shutdown, c_write, errno, nm_aborting, nm_claim, nm_gate_wait, nm_group, nm_now,
    nm_gone, nm_sample_take, nm_series_add, nm_series_start, nm_sleep, nm_stopping, nm_stream,
    nm_thread_cpu, nm_timeout, nm_unacknowledged,
    nm_unread, nm_set_nonblocking, nm_wait_writable,
)
from netmeasure._fast.worker cimport Group, Stream

# A blocked call looks at the flags this often (ns). shutdown() wakes it at once.
cdef int64_t POLL_NS = 100_000_000
# A blocked sender more often, so that its series has no lumps of acknowledgements where little is
# sent: what is acknowledged is only seen between two calls.
cdef int64_t SEND_POLL_NS = 10_000_000
cdef int64_t DRAIN_POLL_NS = 500_000
# At high rates a look at the acknowledgements after every call would cost some percent of the rate.
cdef int64_t LOOK_NS = 250_000
# How much of a rate is handed to the kernel ahead of its time: enough for a thread that is woken late;
# less in the beginning, where the kernel sends it at once.
cdef int64_t AHEAD_NS = 50_000_000
cdef int64_t FIRST_AHEAD_NS = 10_000_000
# What is handed over at a time, at a rate, is what is due in so long; and at least so much.
cdef int64_t PIECE_NS = 10_000_000
cdef double MIN_PIECE_BYTES = 256


cdef class Sender(Stream):
    """Sends `block_bytes` again and again until deadline, budget, stop or error.

    duration_ns   from the gate's opening; 0: no deadline
    omit_ns       bytes acknowledged before this do not count against the group's budget
    source_fd     >= 0: sendfile() from that descriptor (a memfd of at least block_bytes) instead of
                  send() from memory
    whole_file    the source is sent once, from its beginning to its end, which ends the stream
    half_close    end with shutdown(SHUT_WR), so that the receiver sees where the data ends
    drain_ns      how long to wait for the last acknowledgements
    rate_bps      > 0: never hand over more than this rate allows since the gate's opening. The kernel
                  is to space it evenly (SO_MAX_PACING_RATE), but lets the first ten segments pass at
                  once, and takes 64 KiB where it is asked to keep little: seconds of a low rate

    The time series counts acknowledged bytes (SIOCOUTQ, tcp(7)), not what fitted into the socket
    buffer, so a sender's series says what was delivered. It starts at the first acknowledgement, as
    a receiver's starts at the first byte: the same stretch of the data, half a round trip later.
    """

    cdef char *block
    cdef size_t block_bytes
    cdef int source_fd
    cdef int64_t duration_ns, omit_ns, drain_ns
    cdef double rate_bps
    cdef bint half_close, whole_file

    def __cinit__(self, Group group not None, int fd, *, bytes payload=b"", size_t block_bytes=0,
                  int source_fd=-1, int64_t duration_ns=0, int64_t omit_ns=0,
                  bint half_close=True, int64_t drain_ns=10_000_000_000, bint whole_file=False,
                  double rate_bps=0,
                  width_ns=None, buckets=None, sample_every_ns=None):
        if source_fd < 0:
            block_bytes = len(payload)
        if block_bytes == 0:
            raise ValueError("a sender needs a payload, or source_fd with block_bytes")
        self.block_bytes = block_bytes
        self.source_fd = source_fd
        self.duration_ns = duration_ns
        self.omit_ns = omit_ns
        self.half_close = half_close
        self.whole_file = whole_file
        self.drain_ns = drain_ns
        self.rate_bps = rate_bps
        if source_fd < 0:
            self.block = <char *>PyMem_Malloc(block_bytes)
            if self.block == NULL:
                raise MemoryError
            memcpy(self.block, <const char *>payload, block_bytes)

    def __dealloc__(self):
        PyMem_Free(self.block)

    def run(self):
        """Wait at the gate, send, drain. Blocks its thread; holds no GIL."""
        with nogil:
            send_all(&self.own, &self.group.shared, self.fd, self.block, self.block_bytes,
                     self.source_fd, self.whole_file, self.duration_ns, self.omit_ns,
                     self.half_close, self.drain_ns, self.rate_bps / 8e9)


cdef class Receiver(Stream):
    """Receives until end of stream, budget, stop or error.

    buffer_bytes  size of one recv()
    discard       MSG_TRUNC: the kernel drops the payload instead of copying it (tcp(7)); this
                  measures the path without the application's copy
    omit_ns       bytes that come earlier than this after the first byte do not count against the
                  group's budget
    limit_bytes   leave after exactly so many and read none more; 0: no limit
    sink_fd       >= 0: what is received is written there
    leading_bytes of these, so many had been read by somebody else before, at `leading_ns`
    """

    cdef char *buffer
    cdef size_t buffer_bytes
    cdef int sink_fd
    cdef bint discard
    cdef int64_t omit_ns, leading_ns
    cdef uint64_t limit_bytes, leading_bytes

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
        self.sink_fd = sink_fd
        self.limit_bytes = limit_bytes
        self.leading_bytes = leading_bytes
        self.leading_ns = leading_ns
        self.buffer_bytes = buffer_bytes
        self.discard = discard
        self.omit_ns = omit_ns
        if not discard:
            self.buffer = <char *>PyMem_Malloc(buffer_bytes)
            if self.buffer == NULL:
                raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.buffer)

    def run(self):
        """Receive. Blocks its thread; holds no GIL."""
        with nogil:
            if self.leading_bytes:
                nm_series_start(&self.own.series, self.leading_ns)
                nm_series_add(&self.own.series, self.leading_ns, self.leading_bytes)
                NM_STORE(&self.own.first_ns, self.leading_ns)
                NM_STORE(&self.own.bytes, self.leading_bytes)
                NM_STORE(&self.own.last_ns, self.leading_ns)
            receive_all(&self.own, &self.group.shared, self.fd, self.buffer, self.buffer_bytes,
                        MSG_TRUNC if self.discard else 0, self.omit_ns, self.limit_bytes,
                        self.sink_fd)


cdef int write_all(int fd, const char *data, size_t size) noexcept nogil:
    """0, or the errno of what could not be written."""
    cdef ssize_t n
    cdef size_t done = 0
    while done < size:
        n = c_write(fd, data + done, size - done)
        if n >= 0:
            done += <size_t>n
        elif errno != EINTR:
            return errno
    return 0


cdef void count_acknowledged(nm_stream *own, int fd, int64_t now, bint closed) noexcept nogil:
    """Put what has been acknowledged since the last look into the series, at `now`."""
    cdef int64_t waiting = nm_unacknowledged(fd)
    cdef uint64_t acked
    if waiting < 0:
        return
    if closed and waiting > 0:
        waiting -= 1  # the FIN takes a sequence number of its own
    acked = own.bytes - <uint64_t>waiting
    if <int64_t>(acked - own.acked) > 0:
        if own.acked == 0:
            nm_series_start(&own.series, now)
        nm_series_add(&own.series, now, acked - own.acked)
        NM_STORE(&own.acked, acked)
        NM_STORE(&own.last_ns, now)


cdef void send_all(nm_stream *own, nm_group *group, int fd, const char *block, size_t block_bytes,
                   int source_fd, bint whole_file, int64_t duration_ns, int64_t omit_ns,
                   bint half_close, int64_t drain_ns, double bytes_per_ns) noexcept nogil:
    cdef int64_t zero = nm_gate_wait(group)
    cdef int64_t now, before, deadline, give_up
    cdef int64_t waiting
    cdef uint64_t want, done
    cdef double early
    cdef int64_t due_ns
    cdef size_t piece = <size_t>max(PIECE_NS * bytes_per_ns, MIN_PIECE_BYTES)
    cdef size_t size
    cdef ssize_t n
    cdef off_t offset
    cdef int code
    cdef bint short_timeout = False
    cdef bint omitting
    cdef int64_t look_ns = 0

    if zero == 0:
        own.reason = NM_ABORTED if nm_aborting(group) else NM_STOPPED
        return
    nm_timeout(fd, SO_SNDTIMEO, SEND_POLL_NS)
    if source_fd >= 0:
        nm_set_nonblocking(fd)
    now = nm_now()
    NM_STORE(&own.first_ns, now)
    own.reason = NM_RUNNING
    deadline = zero + duration_ns if duration_ns > 0 else 0
    omitting = omit_ns > 0
    omit_ns += zero
    want = 0
    done = 0
    while True:
        if nm_aborting(group):
            own.reason = NM_ABORTED
            break
        if nm_stopping(group):
            own.reason = NM_STOPPED
            break
        if deadline:
            if now >= deadline:
                own.reason = NM_DEADLINE
                break
            if not short_timeout and deadline - now < SEND_POLL_NS:
                nm_timeout(fd, SO_SNDTIMEO, deadline - now)
                short_timeout = True
        if done == want:
            if omitting and now >= omit_ns:
                # what is still on its way arrives after the omitted time, and counts there
                omitting = False
                count_acknowledged(own, fd, now, False)
                nm_claim(group, own.bytes - own.acked)
            want = block_bytes if omitting else nm_claim(group, block_bytes)
            done = 0
            if want == 0:
                own.reason = NM_BUDGET
                break
        size = want - done
        if bytes_per_ns > 0:
            size = min(size, piece)
            due_ns = now - zero + min(AHEAD_NS, FIRST_AHEAD_NS + (now - zero) // 4)
            early = (own.bytes + size) / bytes_per_ns - <double>due_ns
            if early > 0:
                nm_sleep(<int64_t>min(early, <double>SEND_POLL_NS))
                now = nm_now()
                count_acknowledged(own, fd, now, False)
                if now >= own.sample_due_ns:
                    nm_sample_take(own, fd, now)
                continue
        if source_fd < 0:
            n = c_send(fd, block + done, size, MSG_NOSIGNAL)
        else:
            offset = <off_t>(own.bytes if whole_file else done)
            n = c_sendfile(fd, source_fd, &offset, size)
        code = errno
        before, now = now, nm_now()
        if n > 0:
            done += <uint64_t>n
            NM_STORE(&own.bytes, own.bytes + <uint64_t>n)
            NM_STORE(&own.calls, own.calls + 1)
        elif n < 0 and code == EAGAIN and now - before < SEND_POLL_NS // 2:
            # a socket that does not block by itself: sendfile()'s, or one shared with a transport
            nm_wait_writable(fd, min(SEND_POLL_NS, deadline - now) if deadline else SEND_POLL_NS)
            now = nm_now()
        elif n == 0 and whole_file:
            own.reason = NM_EOF
            break
        elif n == 0:  # sendfile() at the end of a source that is shorter than a block
            own.reason = NM_ERROR
            own.error = EIO
            break
        elif n < 0 and code != EAGAIN and code != EINTR:
            if nm_aborting(group) or nm_stopping(group):
                continue  # an error after the order to leave is not an error; the loop's head knows
            own.reason = NM_ERROR
            own.error = code
            break
        if now >= look_ns or n < 0:
            count_acknowledged(own, fd, now, False)
            look_ns = now + LOOK_NS
        if now >= own.sample_due_ns:
            nm_sample_take(own, fd, now)

    own.ended_ns = now
    if own.reason != NM_ERROR and own.reason != NM_ABORTED:
        if half_close:
            c_shutdown(fd, SHUT_WR)
        give_up = now + drain_ns
        while not nm_aborting(group) and now < give_up:
            now = nm_now()
            waiting = nm_unacknowledged(fd)
            count_acknowledged(own, fd, now, half_close)
            if waiting <= 0:
                break
            code = nm_gone(fd)
            if code:  # no acknowledgement can come any more
                if own.reason != NM_STOPPED and not nm_aborting(group):
                    own.reason = NM_ERROR
                    own.error = code
                break
            if now >= own.sample_due_ns:
                nm_sample_take(own, fd, now)
            nm_sleep(DRAIN_POLL_NS)
    nm_sample_take(own, fd, nm_now())
    nm_thread_cpu(own)


cdef void receive_all(nm_stream *own, nm_group *group, int fd, char *buffer, size_t buffer_bytes,
                      int flags, int64_t omit_ns, uint64_t limit, int sink_fd) noexcept nogil:
    cdef int64_t now = nm_now()
    cdef int64_t omit_until = own.first_ns + omit_ns
    cdef size_t want = buffer_bytes
    cdef int64_t left = 0
    cdef ssize_t n
    cdef int code
    cdef bint stopping = False

    nm_timeout(fd, SO_RCVTIMEO, POLL_NS)
    own.reason = NM_RUNNING
    while True:
        if limit:
            if own.bytes >= limit:
                own.reason = NM_BUDGET
                break
            want = min(buffer_bytes, <size_t>(limit - own.bytes))
        n = c_recv(fd, buffer, want, flags)
        code = errno
        if n > 0:
            now = nm_now()
            if own.first_ns == 0:
                nm_series_start(&own.series, now)
                NM_STORE(&own.first_ns, now)
                omit_until = now + omit_ns
            nm_series_add(&own.series, now, <uint64_t>n)
            NM_STORE(&own.bytes, own.bytes + <uint64_t>n)
            NM_STORE(&own.calls, own.calls + 1)
            NM_STORE(&own.last_ns, now)
            if now >= own.sample_due_ns:
                nm_sample_take(own, fd, now)
            if sink_fd >= 0:
                code = write_all(sink_fd, buffer, <size_t>n)
                if code:
                    own.reason = NM_ERROR
                    own.error = code
                    break
            if stopping:
                left -= n
                if left <= 0:  # what had arrived by then is counted; a peer may go on for ever
                    own.reason = NM_STOPPED
                    break
            if group.budget and now >= omit_until:
                nm_claim(group, <uint64_t>n)
                if group.claimed >= group.budget:
                    own.reason = NM_BUDGET
                    break
        elif n == 0:
            own.reason = NM_ABORTED if nm_aborting(group) else NM_EOF
            break
        elif code == EAGAIN:
            now = nm_now()
            if own.first_ns and now >= own.sample_due_ns:
                nm_sample_take(own, fd, now)
            if stopping:  # the socket is empty: everything that had arrived is counted
                own.reason = NM_STOPPED
                break
            if group.budget and group.claimed >= group.budget:
                own.reason = NM_BUDGET
                break
        elif code != EINTR:
            own.reason = NM_ABORTED if nm_aborting(group) else NM_ERROR
            own.error = 0 if nm_aborting(group) else code
            break
        if nm_aborting(group):
            own.reason = NM_ABORTED
            break
        if not stopping and nm_stopping(group):
            stopping = True
            left = nm_unread(fd)
            flags |= MSG_DONTWAIT
    own.ended_ns = nm_now()
    nm_sample_take(own, fd, own.ended_ns)
    nm_thread_cpu(own)
