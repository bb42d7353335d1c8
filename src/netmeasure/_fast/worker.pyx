"""What traffic threads are made of: a Group (gate, stop, abort, budget) and counting Streams."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.native cimport (
    NM_LOAD, NM_SAMPLES, nm_abort, nm_gate_open, nm_group_destroy, nm_group_init, nm_now,
    nm_aborting, nm_sample, nm_sample_next, nm_series, nm_series_add, nm_series_read, nm_series_start,
    nm_series_until, nm_stop, nm_stopping,
)

REASONS = ("not_started", "running", "deadline", "budget", "stopped", "aborted", "eof", "error")


cdef tuple copy_series(nm_series *series):
    """(origin_ns or None, width_ns, sum per bucket), read while its thread goes on counting."""
    cdef int64_t origin = 0
    cdef int64_t width = 0
    cdef uint32_t i, used
    cdef uint64_t *copy = <uint64_t *>PyMem_Calloc(series.capacity, sizeof(uint64_t))
    if copy == NULL:
        raise MemoryError
    try:
        with nogil:
            used = nm_series_read(series, copy, &origin, &width)
        return origin or None, width, [copy[i] for i in range(used)]
    finally:
        PyMem_Free(copy)


cdef class Group:
    """What the traffic threads of one run share.

    Senders wait at a gate until :meth:`open`. :meth:`stop` lets every thread finish cleanly (a
    sender waits for its acknowledgements, a receiver empties its socket); :meth:`abort` makes them
    leave at once, but a thread blocked in a system call is only woken by ``shutdown`` of its socket
    or by the socket's time-out. `budget` is in bytes over all streams, 0 for none.
    """

    def __cinit__(self, uint64_t budget=0):
        nm_group_init(&self.shared)
        self.shared.budget = budget

    def __dealloc__(self):
        nm_group_destroy(&self.shared)

    def open(self):
        """Open the gate; the moment (CLOCK_MONOTONIC, ns) is every sender's zero."""
        nm_gate_open(&self.shared, nm_now())
        return self.shared.opened_ns

    def stop(self):
        nm_stop(&self.shared)

    def abort(self):
        nm_abort(&self.shared)

    @property
    def opened_ns(self):
        """When the gate was opened (CLOCK_MONOTONIC, ns), None while it is shut."""
        return self.shared.opened_ns or None

    @property
    def stopping(self):
        return bool(nm_stopping(&self.shared) or nm_aborting(&self.shared))


cdef class Stream:
    """Counters, time series and kernel samples of one socket. One thread writes, any may read.

    Times are CLOCK_MONOTONIC in ns; a moment that has not come is None, never 0.
    """

    def __cinit__(self, Group group not None, int fd, *, int64_t width_ns=10_000_000,
                  uint32_t buckets=16384, int64_t sample_every_ns=100_000_000, **_):
        if width_ns <= 0 or buckets < 2 or buckets % 2:
            raise ValueError("width_ns must be positive, buckets even and at least 2")
        self.group = group
        self.fd = fd
        self.own.series.width_ns = width_ns
        self.own.series.capacity = buckets
        self.own.series.bucket = <uint64_t *>PyMem_Calloc(buckets, sizeof(uint64_t))
        self.own.sample = <nm_sample *>PyMem_Calloc(NM_SAMPLES, sizeof(nm_sample))
        self.own.sample_every_ns = sample_every_ns
        if self.own.series.bucket == NULL or self.own.sample == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.own.series.bucket)
        PyMem_Free(self.own.sample)

    def run(self):
        """The loop: blocks its thread, holds no GIL. Each kind of stream has its own."""
        raise NotImplementedError

    @property
    def bytes(self):
        """Sender: bytes the kernel took. Receiver: bytes read."""
        return NM_LOAD(&self.own.bytes)

    @property
    def acked_bytes(self):
        """Sender: bytes the peer's kernel has acknowledged. Receiver: 0."""
        return NM_LOAD(&self.own.acked)

    @property
    def calls(self):
        """System calls that moved bytes."""
        return NM_LOAD(&self.own.calls)

    @property
    def first_ns(self):
        """Sender: just before its first call. Receiver: just after its first bytes."""
        return self.own.first_ns or None

    @property
    def last_ns(self):
        """Sender: when its last acknowledgement was seen. Receiver: its last bytes."""
        return self.own.last_ns or None

    @property
    def ended_ns(self):
        """When the thread stopped moving bytes (a sender may go on waiting for acknowledgements)."""
        return self.own.ended_ns or None

    @property
    def reason(self):
        """Why the loop ended; one of REASONS."""
        return REASONS[self.own.reason]

    @property
    def errno(self):
        """The errno that ended the loop, or 0."""
        return self.own.error

    @property
    def cpu_ns(self):
        """(user, system) CPU time of the thread, known once it has ended."""
        return self.own.user_ns, self.own.system_ns

    def series(self):
        """(origin_ns or None, width_ns, bytes per bucket): safe at any time, from any thread."""
        return copy_series(&self.own.series)

    def counted_until(self, int64_t moment_ns):
        """Bytes in the series up to a moment: safe at any time, from any thread."""
        return nm_series_until(&self.own.series, moment_ns)

    def samples(self):
        """[(at_ns, raw TCP_INFO bytes as long as the kernel filled them)]; read after the end."""
        cdef uint32_t i
        return [
            (self.own.sample[i].at_ns,
             (<const char *>self.own.sample[i].raw)[:self.own.sample[i].length])
            for i in range(self.own.samples) if self.own.sample[i].length
        ]

    def cpu_samples(self):
        """[(at_ns, CPU time of the thread until then, how long until then it was ready to run and
        had no CPU)], in ns; the last is None where the kernel does not say. Read after the end."""
        cdef uint32_t i
        return [
            (self.own.sample[i].at_ns, self.own.sample[i].cpu_ns,
             None if self.own.sample[i].wait_ns < 0 else self.own.sample[i].wait_ns)
            for i in range(self.own.samples)
        ]


cdef inline uint64_t part(uint64_t count, uint64_t payload, uint64_t whole) noexcept nogil:
    """count * payload / whole, without overflow."""
    return count // whole * payload + count % whole * payload // whole


cdef class Tally(Stream):
    """Counts what others move, one transfer after the other: bytes that pass through Python (`add`)
    and whole native loops that have ended (`absorb`). It has no thread of its own: `run` is an
    error, and all calls come from one thread."""

    def add(self, uint64_t count, int64_t at_ns):
        """Count bytes at a moment (CLOCK_MONOTONIC, ns); moments never go back."""
        if self.own.first_ns == 0:
            nm_series_start(&self.own.series, at_ns)
            self.own.first_ns = at_ns
        nm_series_add(&self.own.series, at_ns, count)
        self.own.bytes += count
        self.own.acked += count
        self.own.calls += 1
        self.own.last_ns = at_ns

    def absorb(self, Stream other not None, uint64_t payload=1, uint64_t whole=1):
        """Take over what a loop has counted, with its CPU time and the reason of its end. Call when
        its thread has been joined. Of every `whole` bytes `payload` count: the rest is framing."""
        cdef nm_series *theirs = &other.own.series
        cdef uint64_t moved = 0
        cdef uint64_t counted = 0
        cdef uint64_t until
        cdef uint32_t i
        if payload > whole or whole == 0:
            raise ValueError("payload is a part of the whole")
        if theirs.origin_ns:
            if self.own.first_ns == 0:
                nm_series_start(&self.own.series, theirs.origin_ns)
                self.own.first_ns = other.own.first_ns
            for i in range(theirs.used):
                if theirs.bucket[i]:
                    moved += theirs.bucket[i]
                    until = part(moved, payload, whole)
                    nm_series_add(&self.own.series,
                                  min(theirs.origin_ns + i * theirs.width_ns + theirs.width_ns // 2,
                                      other.own.last_ns),
                                  until - counted)
                    counted = until
            self.own.last_ns = other.own.last_ns
        self.absorb_samples(other)
        self.own.bytes += part(other.own.bytes, payload, whole)
        self.own.acked += part(other.own.acked, payload, whole)
        self.own.calls += other.own.calls
        self.own.user_ns += other.own.user_ns
        self.own.system_ns += other.own.system_ns
        self.own.reason = other.own.reason
        self.own.error = other.own.error
        self.own.ended_ns = other.own.ended_ns

    cdef void absorb_samples(self, Stream other) noexcept:
        """Its thread's CPU time comes on top of that of the threads before it."""
        cdef int64_t ran = 0
        cdef int64_t waited = 0
        cdef nm_sample *one
        cdef uint32_t i
        if self.own.samples:
            ran = self.own.sample[self.own.samples - 1].cpu_ns
            waited = self.own.sample[self.own.samples - 1].wait_ns
        for i in range(other.own.samples):
            one = nm_sample_next(&self.own)
            one[0] = other.own.sample[i]
            one.cpu_ns += ran
            one.wait_ns = -1 if waited < 0 or one.wait_ns < 0 else one.wait_ns + waited
            one.length = 0  # connections differ: what TCP says of each is kept elsewhere
            self.own.samples += 1
