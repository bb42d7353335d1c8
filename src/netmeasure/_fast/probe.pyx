"""A GIL-free latency probe beside a load: a few bytes at a set rate, timed until their answer."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t

from netmeasure._fast.nm_atomic cimport nm_load_i64, nm_load_u32, nm_load_u64
from netmeasure._fast.nm_probe cimport (
    NM_PROBE_PARTS, NM_PROBE_PAUSED, NM_PROBE_SLOTS, NM_REFLECT_BYTES, nm_probe, nm_probe_all,
    nm_probe_order, nm_probe_part, nm_probe_slot, nm_probe_stamps, nm_reflect_all, nm_reflector,
)
from netmeasure._fast.nm_stream cimport nm_stream_leave
from netmeasure._fast.round_trips cimport Histogram
from netmeasure._fast.worker cimport Group, Stream, copy_series

# The parts of a test, by their order in the native code.
PARTS = ("idle", "loaded")


cdef class ProbePart:
    """The counts of a probe in one part of a test."""

    cdef readonly Histogram latency
    cdef readonly Histogram there  # by how much each way took longer than the shortest so far
    cdef readonly Histogram back
    cdef Prober owner
    cdef nm_probe_part *own

    @property
    def sent(self):
        """Probes sent."""
        return nm_load_u64(&self.own.sent)

    @property
    def answered(self):
        """Probes whose answer has arrived."""
        return nm_load_u64(&self.own.answered)

    @property
    def skipped(self):
        """Probes that were due while the probing thread had no CPU, and were not sent."""
        return nm_load_u64(&self.own.skipped)

    @property
    def refused(self):
        """Probes that this host's kernel refused, and ICMP errors for probes."""
        return nm_load_u64(&self.own.refused)

    @property
    def host_ns(self):
        """(sum, longest) of the hosts' own delays, which were subtracted from the latencies, in
        ns."""
        return nm_load_u64(&self.own.host_sum_ns), nm_load_i64(&self.own.host_max_ns)

    def series(self):
        """Return (origin_ns or None, width_ns, answers per bucket)."""
        return copy_series(&self.own.count)

    def latency_sums(self):
        """Return (origin_ns or None, width_ns, sum of the latencies per bucket in ns)."""
        return copy_series(&self.own.sum_ns)


cdef class Prober(Stream):
    """Sends probes as ordered, and times each until its answer has come.

    It begins without an order and sends nothing. `width_ns` and `buckets` are those of the parts'
    series of latencies.

    Args:
        group: `stop` and `abort` end the loop.
        fd: a connected socket of UDP, or of TCP without Nagle's algorithm.
        stream: it is one of TCP.
        stamped: the reflector stamps its answers, so that the two ways are told apart.
        wake: an eventfd that does not block, and stays open until the loop has ended: orders are seen
            at once. -1: within a tenth of a second.
    """

    cdef nm_probe probe
    cdef tuple histograms

    def __cinit__(self, Group group not None, int fd, *, int64_t width_ns=100_000_000,
                  uint32_t buckets=1024, bint stream=False, bint stamped=False, int wake=-1, **_):
        cdef uint32_t i
        self.probe.own = &self.own
        self.probe.group = &self.group.shared
        self.probe.fd = fd
        self.probe.stream = stream
        self.probe.stamped = stamped
        self.probe.wake = wake
        self.probe.active = NM_PROBE_PAUSED
        self.probe.slot = <nm_probe_slot *>PyMem_Calloc(NM_PROBE_SLOTS, sizeof(nm_probe_slot))
        if self.probe.slot == NULL:
            raise MemoryError
        made = []
        for i in range(NM_PROBE_PARTS):
            latency, there, back = Histogram(), Histogram(), Histogram()
            made.append((latency, there, back))
            self.probe.part[i].latency = (<Histogram>latency).own
            self.probe.part[i].there = (<Histogram>there).own
            self.probe.part[i].back = (<Histogram>back).own
            self.probe.part[i].count.bucket = <uint64_t *>PyMem_Calloc(buckets, sizeof(uint64_t))
            self.probe.part[i].sum_ns.bucket = <uint64_t *>PyMem_Calloc(buckets, sizeof(uint64_t))
            if self.probe.part[i].count.bucket == NULL or self.probe.part[i].sum_ns.bucket == NULL:
                raise MemoryError
            self.probe.part[i].count.capacity = self.probe.part[i].sum_ns.capacity = buckets
            self.probe.part[i].count.width_ns = self.probe.part[i].sum_ns.width_ns = width_ns
        self.histograms = tuple(made)

    def __dealloc__(self):
        cdef uint32_t i
        PyMem_Free(self.probe.slot)
        for i in range(NM_PROBE_PARTS):
            PyMem_Free(self.probe.part[i].count.bucket)
            PyMem_Free(self.probe.part[i].sum_ns.bucket)

    def part(self, str name not None):
        """Return the counts of a part of the test, "idle" or "loaded"; they may still grow."""
        cdef ProbePart found = ProbePart()
        cdef uint32_t i = PARTS.index(name)
        found.latency, found.there, found.back = self.histograms[i]
        found.owner = self
        found.own = &self.probe.part[i]
        return found

    def send(self, str name not None, *, double per_s, int64_t most=0):
        """Order the probes of a part, so many a second, `most` of them (0: any number).

        An order for the part that is under way changes its rate. Orders come from one thread.
        """
        if not 0 < per_s <= 1e6:
            raise ValueError("per_s must be positive, and at most a million")
        nm_probe_order(&self.probe, PARTS.index(name), <int64_t>(1e9 / per_s), most)

    def pause(self):
        """Order the loop to send no more probes. Answers are still booked."""
        nm_probe_order(&self.probe, NM_PROBE_PAUSED, 0, 0)

    def run(self):
        """Send probes and time their answers until told to leave. It holds no GIL."""
        self.enter()
        with nogil:
            nm_probe_all(&self.probe)
            nm_stream_leave(&self.own)

    @property
    def sending(self):
        """Whether probes are being sent."""
        return nm_load_u32(&self.probe.active) < NM_PROBE_PARTS

    @property
    def unanswered(self):
        """Probes whose answer may still arrive."""
        return nm_load_u64(&self.probe.open)

    @property
    def longest_ns(self):
        """The longest time that an answer took, the hosts' own part included."""
        return nm_load_i64(&self.probe.longest_ns)

    @property
    def late(self):
        """Answers that arrived a second time, or so late that their probe was no longer stored."""
        return nm_load_u64(&self.probe.late)

    @property
    def invalid(self):
        """Datagrams that answer no probe."""
        return nm_load_u64(&self.probe.invalid)

    @property
    def apart_ns(self):
        """For how long the two hosts' clocks were compared; None: they were not, or they do not run
        alike, and nothing is known of the two ways."""
        if nm_load_u32(&self.probe.uneven):
            return None
        return nm_load_i64(&self.probe.apart_ns) or None


cdef class Reflector(Stream):
    """Answers the probes that come to a connected socket, at a bounded rate.

    Args:
        group: `stop` and `abort` end the loop.
        fd: a connected socket of UDP, or of TCP without Nagle's algorithm.
        stream: it is one of TCP, where nothing but probes may come.
        stamped: the answers tell when they left.
        hello: how a datagram begins that opens the probe: it may be repeated.
        hello_bytes: the length of such a datagram.
        hello_reply: what answers it.
    """

    cdef nm_reflector reflector
    cdef bytes hello
    cdef bytes hello_reply

    def __cinit__(self, Group group not None, int fd, *, bytes hello=b"", size_t hello_bytes=0,
                  bytes hello_reply=b"", bint stream=False, bint stamped=False, **_):
        if len(hello) > hello_bytes or hello_bytes > NM_REFLECT_BYTES:
            raise ValueError("hello_bytes is at least the length of hello, and at most 128")
        self.hello, self.hello_reply = hello, hello_reply
        self.reflector.own = &self.own
        self.reflector.group = &self.group.shared
        self.reflector.fd = fd
        self.reflector.stream = stream
        self.reflector.stamped = stamped
        self.reflector.hello = <const char *>self.hello
        self.reflector.hello_bytes = hello_bytes
        self.reflector.hello_start_bytes = len(hello)
        self.reflector.hello_reply = <const char *>self.hello_reply
        self.reflector.hello_reply_bytes = len(hello_reply)

    def run(self):
        """Answer until told to leave. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            nm_reflect_all(&self.reflector)
            nm_stream_leave(&self.own)

    def loaded(self):
        """Switch the kernel's time stamps of received packets off, since a load begins."""
        nm_probe_stamps(self.reflector.fd, 0)

    @property
    def invalid(self):
        """Datagrams that are no probe."""
        return nm_load_u64(&self.reflector.invalid)
