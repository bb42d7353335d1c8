"""The parts of traffic threads: a Group (gate, stop, abort, budget) and counting Streams."""

from cpython.mem cimport PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_atomic cimport (
    nm_add_u64, nm_load_i32, nm_load_i64, nm_load_u32, nm_load_u64, nm_store_i32, nm_store_i64,
)
from netmeasure._fast.nm_buffer cimport nm_sparse_allocate, nm_sparse_free
from netmeasure._fast.nm_clock cimport nm_now
from netmeasure._fast.nm_group cimport (
    nm_abort, nm_aborting, nm_gate_open, nm_gate_opened, nm_group_init, nm_stop, nm_stopping,
)
from netmeasure._fast.nm_samples cimport NM_SAMPLES, nm_sample, nm_sampling_next
from netmeasure._fast.nm_series cimport (
    nm_series, nm_series_add, nm_series_middle, nm_series_read, nm_series_start, nm_series_until,
)
from netmeasure._fast.nm_stream cimport (
    nm_share, nm_stream_count, nm_stream_enter, nm_stream_quiet, nm_stream_reason,
)

REASONS = ("not_started", "running", "deadline", "budget", "stopped", "aborted", "eof", "error")


cdef tuple copy_series(nm_series *series):
    """Return (origin_ns or None, width_ns, count per bucket), also while its thread goes on."""
    cdef int64_t origin = 0
    cdef int64_t width = 0
    cdef uint32_t i, used
    cdef uint64_t *copy = <uint64_t *>PyMem_Malloc(series.capacity * sizeof(uint64_t))
    if copy == NULL:
        raise MemoryError
    try:
        with nogil:
            used = nm_series_read(series, copy, &origin, &width)
        return origin or None, width, [copy[i] for i in range(used)]
    finally:
        PyMem_Free(copy)


cdef class Group:
    """The shared state of one run's traffic threads.

    Senders wait at a gate until :meth:`open`. :meth:`stop` lets every thread finish cleanly: a
    sender waits for its acknowledgements, a receiver empties its socket. :meth:`abort` makes them
    leave at once, but a thread that is blocked in a system call only wakes by ``shutdown`` of its
    socket or by the socket's time-out. `budget` is in bytes over all streams, 0 for none.
    """

    def __cinit__(self, uint64_t budget=0):
        nm_group_init(&self.shared, budget)

    def open(self):
        """Open the gate. Return the moment (CLOCK_MONOTONIC, ns): it is every sender's zero."""
        return nm_gate_open(&self.shared, nm_now())

    def stop(self):
        """Make every thread finish cleanly."""
        nm_stop(&self.shared)

    def abort(self):
        """Make every thread end at once."""
        nm_abort(&self.shared)

    @property
    def opened_ns(self):
        """When the gate was opened (CLOCK_MONOTONIC, ns), None while it is shut."""
        return nm_gate_opened(&self.shared) or None

    @property
    def stopping(self):
        """Whether the threads were told to leave, by stop or by abort."""
        return bool(nm_stopping(&self.shared) or nm_aborting(&self.shared))


cdef class Stream:
    """Counters, time series and kernel samples of one socket. One thread writes, any may read.

    Times are CLOCK_MONOTONIC in ns; a moment that has not come is None, never 0.

    Args:
        group: the group that the stream belongs to.
        fd: the socket's descriptor; the caller keeps it open until the loop has ended. -1: the loop
            opens its own.
        width_ns: width of the time series' buckets at first; it doubles when all are used.
        buckets: how many buckets there are.
        sample_every_ns: distance of the kernel samples at first.
    """

    def __cinit__(self, Group group not None, int fd=-1, *, int64_t width_ns=10_000_000,
                  uint32_t buckets=16384, int64_t sample_every_ns=100_000_000, **_):
        if width_ns <= 0 or buckets < 2 or buckets % 2:
            raise ValueError("width_ns must be positive, buckets even and at least 2")
        self.group = group
        self.fd = fd
        self.own.series.width_ns = width_ns
        self.own.series.capacity = buckets
        self.own.series.bucket = <uint64_t *>nm_sparse_allocate(buckets * sizeof(uint64_t))
        self.own.sample = <nm_sample *>nm_sparse_allocate(NM_SAMPLES * sizeof(nm_sample))
        self.own.sampling.every_ns = max(sample_every_ns, 1)
        if self.own.series.bucket == NULL or self.own.sample == NULL:
            raise MemoryError

    def __dealloc__(self):
        nm_sparse_free(self.own.series.bucket, self.own.series.capacity * sizeof(uint64_t))
        nm_sparse_free(self.own.sample, NM_SAMPLES * sizeof(nm_sample))

    cdef void enter(self) except *:
        """Claim the stream for the calling thread: it runs once, in one thread."""
        if not nm_stream_enter(&self.own):
            raise RuntimeError("this stream's loop has been started before")

    cdef void must_be_quiet(self) except *:
        """Raise RuntimeError where the loop still writes what is about to be read."""
        if not nm_stream_quiet(&self.own):
            raise RuntimeError("samples can be read when the stream's loop has ended")

    def run(self):
        """Run the loop: it blocks its thread and holds no GIL. Each kind of stream has its own."""
        raise NotImplementedError

    @property
    def bytes(self):
        """Sender: bytes the kernel took. Receiver: bytes read."""
        return nm_load_u64(&self.own.bytes)

    @property
    def acked_bytes(self):
        """Sender: bytes the peer's kernel has acknowledged. Receiver: 0."""
        return nm_load_u64(&self.own.acked)

    @property
    def calls(self):
        """System calls that transferred bytes."""
        return nm_load_u64(&self.own.calls)

    @property
    def first_ns(self):
        """Sender: just before its first call. Receiver: just after its first bytes."""
        return nm_load_i64(&self.own.first_ns) or None

    @property
    def last_ns(self):
        """Sender: when its last acknowledgement was seen. Receiver: its last bytes."""
        return nm_load_i64(&self.own.last_ns) or None

    @property
    def ended_ns(self):
        """When the thread stopped moving bytes; a sender may go on waiting for acknowledgements."""
        return nm_load_i64(&self.own.ended_ns) or None

    @property
    def reason(self):
        """Why the loop ended; one of REASONS."""
        return REASONS[nm_load_u32(&self.own.reason)]

    @property
    def errno(self):
        """The errno that ended the loop, or 0."""
        return nm_load_i32(&self.own.error)

    @property
    def cpu_ns(self):
        """(user, system) CPU time of the thread, known once it has ended."""
        return nm_load_i64(&self.own.user_ns), nm_load_i64(&self.own.system_ns)

    def series(self):
        """Return (origin_ns or None, width_ns, bytes per bucket): safe at any time."""
        return copy_series(&self.own.series)

    def counted_until(self, int64_t moment_ns):
        """Return the bytes in the series up to a moment: safe at any time, from any thread."""
        return nm_series_until(&self.own.series, moment_ns)

    def samples(self):
        """Return [(at_ns, raw TCP_INFO bytes as long as the kernel filled them)].

        Raises RuntimeError while the loop is running.
        """
        cdef uint32_t i
        self.must_be_quiet()
        return [
            (self.own.sample[i].at_ns,
             (<const char *>self.own.sample[i].raw)[:self.own.sample[i].length])
            for i in range(self.own.sampling.used) if self.own.sample[i].length
        ]

    def cpu_samples(self):
        """Return [(at_ns, CPU time of the thread until then, its time until then without a CPU)].

        The last two are in ns. The last one is how long the thread was ready to run and had no CPU,
        None where the kernel does not say. Streams that share a thread have none, except for the
        first one. Raises RuntimeError while the loop is running.
        """
        cdef uint32_t i
        self.must_be_quiet()
        return [
            (self.own.sample[i].at_ns, self.own.sample[i].cpu_ns,
             None if self.own.sample[i].wait_ns < 0 else self.own.sample[i].wait_ns)
            for i in range(self.own.sampling.used) if self.own.sample[i].cpu_ns >= 0
        ]


cdef class Tally(Stream):
    """Counts the bytes of successive transfers, which other code makes.

    `add` counts bytes that pass through Python, `absorb` whole native loops that have ended. A tally
    has no thread of its own: `run` raises NotImplementedError, and all calls come from one thread.
    """

    def add(self, uint64_t count, int64_t at_ns):
        """Count bytes at a moment (CLOCK_MONOTONIC, ns).

        Moments should not go back. One before the first counts in the first bucket, and `last_ns`
        stays the latest moment.
        """
        if self.own.first_ns == 0:
            nm_series_start(&self.own.series, at_ns)
            nm_store_i64(&self.own.first_ns, self.own.series.origin_ns)
        nm_stream_count(&self.own, max(at_ns, self.own.series.origin_ns), count, 0)
        nm_add_u64(&self.own.acked, count)
        nm_add_u64(&self.own.calls, 1)

    def absorb(self, Stream other not None, uint64_t payload=1, uint64_t whole=1):
        """Take over what a loop has counted, with its CPU time and the reason of its end.

        Of every `whole` bytes `payload` count: the rest is framing. Raises RuntimeError while that
        loop is running, ValueError where `payload` is more than `whole`.
        """
        if payload > whole or whole == 0:
            raise ValueError("payload is a part of the whole")
        other.must_be_quiet()
        if other.own.series.origin_ns:
            self.absorb_series(other, payload, whole)
        self.absorb_samples(other)
        nm_add_u64(&self.own.bytes, nm_share(other.own.bytes, payload, whole))
        nm_add_u64(&self.own.acked, nm_share(other.own.acked, payload, whole))
        nm_add_u64(&self.own.calls, other.own.calls)
        nm_store_i64(&self.own.user_ns, self.own.user_ns + other.own.user_ns)
        nm_store_i64(&self.own.system_ns, self.own.system_ns + other.own.system_ns)
        nm_store_i32(&self.own.error, other.own.error)
        nm_stream_reason(&self.own, other.own.reason)
        nm_store_i64(&self.own.ended_ns, other.own.ended_ns)

    cdef void absorb_series(self, Stream other, uint64_t payload, uint64_t whole) noexcept:
        """Count each of its buckets at the bucket's middle, but not after its last byte."""
        cdef nm_series *theirs = &other.own.series
        cdef int64_t last_ns = other.own.last_ns
        cdef uint64_t moved = 0
        cdef uint64_t counted = 0
        cdef uint64_t until
        cdef uint32_t i
        if self.own.first_ns == 0:
            nm_series_start(&self.own.series, theirs.origin_ns)
            nm_store_i64(&self.own.first_ns, other.own.first_ns)
        for i in range(theirs.used):
            if theirs.bucket[i]:
                moved += theirs.bucket[i]
                until = nm_share(moved, payload, whole)
                nm_series_add(&self.own.series, min(nm_series_middle(theirs, i), last_ns),
                              until - counted)
                counted = until
        if last_ns > self.own.last_ns:
            nm_store_i64(&self.own.last_ns, last_ns)

    cdef void absorb_samples(self, Stream other) noexcept:
        """Add the samples of a loop; the CPU time of its thread is added to that of earlier ones."""
        cdef int64_t ran = 0
        cdef int64_t waited = 0
        cdef nm_sample *one
        cdef uint32_t i
        if self.own.sampling.used:
            ran = self.own.sample[self.own.sampling.used - 1].cpu_ns
            waited = self.own.sample[self.own.sampling.used - 1].wait_ns
        for i in range(other.own.sampling.used):
            one = <nm_sample *>nm_sampling_next(&self.own.sampling, self.own.sample,
                                                sizeof(nm_sample), other.own.sample[i].at_ns)
            one[0] = other.own.sample[i]
            one.cpu_ns += ran
            one.wait_ns = -1 if waited < 0 or one.wait_ns < 0 else one.wait_ns + waited
            one.length = 0  # connections differ: what TCP says of each is kept elsewhere
