"""GIL-free round trips by TCP and UDP: requesters that time transactions, and responders."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from netmeasure._fast.nm_atomic cimport nm_load_i64, nm_load_u64
from netmeasure._fast.nm_datagram_trips cimport (
    NM_TRIP_BYTES, nm_datagram_requester, nm_datagram_responder, nm_trip, nm_trips_all,
    nm_trips_respond,
)
from netmeasure._fast.nm_histogram cimport (
    NM_HISTOGRAM_BUCKETS, nm_histogram, nm_histogram_add, nm_histogram_from, nm_histogram_merge,
)
from netmeasure._fast.nm_round_trips cimport (
    nm_request_all, nm_requester, nm_respond_all, nm_responder, nm_round_trip_options,
)
from netmeasure._fast.nm_series cimport nm_series
from netmeasure._fast.nm_shared_trips cimport (
    NM_SHARED_EVENTS, epoll_event, nm_requesters, nm_requesters_all, nm_responders, nm_responders_all,
)
from netmeasure._fast.nm_stream cimport nm_stream_leave, nm_stream_leave_shared
from netmeasure._fast.worker cimport Group, Stream, copy_series

# What one recv() may take: some responses of usual size, and no more than fits the L2 cache.
cdef size_t BUFFER_BYTES = 65536


cdef class Histogram:
    """Durations in log-linear buckets, each at most 1/1024 as wide as what it holds.

    Durations below 0 count as 0. Those above two minutes count in the last bucket.
    """

    def __cinit__(self):
        self.own = <nm_histogram *>PyMem_Calloc(1, sizeof(nm_histogram))
        if self.own == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.own)

    def add(self, int64_t ns):
        """Count a duration."""
        nm_histogram_add(self.own, ns)

    def merge(self, Histogram other not None):
        """Add the counts of another histogram, to which nothing may be added meanwhile."""
        nm_histogram_merge(self.own, other.own)

    @property
    def count(self):
        """How many durations were counted."""
        return nm_load_u64(&self.own.count)

    @property
    def sum_ns(self):
        """The sum of the durations."""
        return nm_load_u64(&self.own.sum_ns)

    @property
    def min_ns(self):
        """The exact shortest duration; None: there is none."""
        return nm_load_i64(&self.own.min_ns) if nm_load_u64(&self.own.count) else None

    @property
    def max_ns(self):
        """The exact longest duration; None: there is none."""
        return nm_load_i64(&self.own.max_ns) if nm_load_u64(&self.own.count) else None

    def buckets(self):
        """Return [(start of the bucket in ns, its end, count)] of all buckets with a count."""
        cdef uint32_t i
        return [
            (nm_histogram_from(i), nm_histogram_from(i + 1), nm_load_u64(&self.own.bucket[i]))
            for i in range(NM_HISTOGRAM_BUCKETS) if nm_load_u64(&self.own.bucket[i])
        ]


cdef class Requester(Stream):
    """Sends requests on a connection, and times each until its response has come.

    The time series counts the bytes of requests at the moment of their response. `acked_bytes` is
    their sum.

    Args:
        payload: one request.
        response_bytes: the length of a response.
        in_flight: requests that may wait for their response at a time.
        duration_ns: how long, from the gate's opening; 0: no deadline.
        omit_ns: responses that come earlier than this after the first one of the group's streams are
            not in the histogram.
        drain_ns: how long to wait for the last responses.
        per_s: requests per second; 0: as soon as a place is free.
        lost_after_ns: of datagrams: a request without a response for so long is lost.
    """

    cdef nm_round_trip_options options
    cdef nm_requester requester
    cdef nm_series sums
    cdef readonly Histogram latency

    def __cinit__(self, Group group not None, int fd, *, bytes payload not None,
                  uint32_t response_bytes=1, uint32_t in_flight=1, int64_t duration_ns=0,
                  int64_t omit_ns=0, int64_t drain_ns=10_000_000_000, double per_s=0,
                  int64_t lost_after_ns=1_000_000_000, width_ns=None, buckets=None, sample_every_ns=None):
        cdef uint32_t request_bytes = len(payload)
        if request_bytes == 0 or response_bytes == 0 or in_flight == 0:
            raise ValueError("requests, responses and the number in flight are at least 1")
        self.latency = Histogram()
        self.options = nm_round_trip_options(
            request_bytes=request_bytes, response_bytes=response_bytes, in_flight=in_flight,
            duration_ns=duration_ns, omit_ns=omit_ns, drain_ns=drain_ns,
            lost_after_ns=lost_after_ns, period_ns=1e9 / per_s if per_s > 0 else 0,
        )
        self.sums.width_ns = self.own.series.width_ns
        self.sums.capacity = self.own.series.capacity
        self.sums.bucket = <uint64_t *>PyMem_Calloc(self.sums.capacity, sizeof(uint64_t))
        self.requester.payload = <const char *>PyMem_Malloc(request_bytes)
        self.requester.buffer = <char *>PyMem_Malloc(BUFFER_BYTES)
        self.requester.began_ns = <int64_t *>PyMem_Calloc(in_flight, sizeof(int64_t))
        if (self.sums.bucket == NULL or self.requester.payload == NULL
                or self.requester.buffer == NULL or self.requester.began_ns == NULL):
            raise MemoryError
        memcpy(<char *>self.requester.payload, <const char *>payload, request_bytes)
        self.requester.buffer_bytes = BUFFER_BYTES
        self.requester.options = &self.options
        self.requester.own = &self.own
        self.requester.group = &self.group.shared
        self.requester.fd = fd
        self.requester.latencies.histogram = self.latency.own
        self.requester.latencies.sum = &self.sums

    def __dealloc__(self):
        PyMem_Free(self.sums.bucket)
        PyMem_Free(<void *>self.requester.payload)
        PyMem_Free(self.requester.buffer)
        PyMem_Free(self.requester.began_ns)

    def run(self):
        """Wait at the gate, send requests, wait for the last responses. It holds no GIL."""
        self.enter()
        with nogil:
            nm_request_all(&self.requester)
            nm_stream_leave(&self.own)

    @property
    def begun(self):
        """Requests of which at least a part was sent."""
        return nm_load_u64(&self.requester.begun)

    @property
    def answered(self):
        """Requests whose response has arrived."""
        return nm_load_u64(&self.requester.answered)

    @property
    def skipped(self):
        """Requests that were due at the set rate and had not been sent when the time was over."""
        return nm_load_u64(&self.requester.skipped)

    @property
    def late(self):
        """(requests that this thread sent later than they were due, the longest of these delays in
        ns); none of them waited for the peer."""
        return nm_load_u64(&self.requester.late), nm_load_i64(&self.requester.latest_ns)

    def latency_sums(self):
        """Return (origin_ns or None, width_ns, sum of the latencies per bucket in ns), with the same
        buckets as `series`."""
        return copy_series(&self.sums)


cdef class DatagramRequester(Requester):
    """Sends requests as datagrams, and times each until its response has come or it is lost.

    It takes what `Requester` takes. Requests and responses have at least 8 bytes: their first ones are
    the number of the request.
    """

    cdef nm_datagram_requester datagrams

    def __cinit__(self, *_, **__):
        if min(self.options.request_bytes, self.options.response_bytes) < NM_TRIP_BYTES:
            raise ValueError("a datagram has at least 8 bytes: the number of its request")
        if self.options.lost_after_ns <= 0:
            raise ValueError("lost_after_ns must be positive")
        self.datagrams.base = &self.requester
        self.datagrams.trip = <nm_trip *>PyMem_Calloc(self.options.in_flight, sizeof(nm_trip))
        self.datagrams.vacant = <uint32_t *>PyMem_Calloc(self.options.in_flight, sizeof(uint32_t))
        if self.datagrams.trip == NULL or self.datagrams.vacant == NULL:
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.datagrams.trip)
        PyMem_Free(self.datagrams.vacant)

    def run(self):
        """Wait at the gate, send requests, wait for the last responses. It holds no GIL."""
        self.enter()
        with nogil:
            nm_trips_all(&self.datagrams)
            nm_stream_leave(&self.own)

    @property
    def lost(self):
        """(requests that had no response in time, those of them that were sent in the omitted
        time)."""
        return nm_load_u64(&self.requester.lost), nm_load_u64(&self.datagrams.lost_omitted)

    @property
    def late_responses(self):
        """Responses to requests that were lost, or answered before."""
        return nm_load_u64(&self.datagrams.late_responses)

    @property
    def invalid_responses(self):
        """Datagrams that answer no request: of another length, or with a number never sent."""
        return nm_load_u64(&self.datagrams.invalid_responses)

    @property
    def refused(self):
        """Requests that this host's kernel refused, and ICMP errors for requests."""
        return nm_load_u64(&self.datagrams.refused)


cdef class Responder(Stream):
    """Answers each request on a connection with a response. `acked_bytes` is what it has written.

    Args:
        request_bytes: the length of a request.
        payload: one response.
    """

    cdef nm_responder responder

    def __cinit__(self, Group group not None, int fd, *, uint32_t request_bytes=1,
                  bytes payload not None, width_ns=None, buckets=None, sample_every_ns=None, **_):
        cdef size_t size = len(payload)
        cdef size_t copies, i
        if size == 0 or request_bytes == 0:
            raise ValueError("requests and responses are at least 1")
        copies = max(1, BUFFER_BYTES // size)
        self.responder.payload = <const char *>PyMem_Malloc(copies * size)
        self.responder.buffer = <char *>PyMem_Malloc(BUFFER_BYTES)
        if self.responder.payload == NULL or self.responder.buffer == NULL:
            raise MemoryError
        for i in range(copies):
            memcpy(<char *>self.responder.payload + i * size, <const char *>payload, size)
        self.responder.payload_bytes = copies * size
        self.responder.buffer_bytes = BUFFER_BYTES
        self.responder.request_bytes = request_bytes
        self.responder.response_bytes = <uint32_t>size
        self.responder.own = &self.own
        self.responder.group = &self.group.shared
        self.responder.fd = fd

    def __dealloc__(self):
        PyMem_Free(<void *>self.responder.payload)
        PyMem_Free(self.responder.buffer)

    def run(self):
        """Answer to the end of the stream. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            nm_respond_all(&self.responder)
            nm_stream_leave(&self.own)


cdef class DatagramResponder(Responder):
    """Answers each request with a datagram that carries the request's number.

    Args:
        request_bytes, payload: as of `Responder`; at least 8 bytes.
        hello: how a datagram begins that opens the stream: it may be repeated.
        hello_bytes: the length of such a datagram.
        hello_reply: what answers it.
    """

    cdef nm_datagram_responder datagrams
    cdef bytes hello
    cdef bytes hello_reply

    def __cinit__(self, *_, bytes hello=b"", size_t hello_bytes=0, bytes hello_reply=b"", **__):
        if min(self.responder.request_bytes, self.responder.response_bytes) < NM_TRIP_BYTES:
            raise ValueError("a datagram has at least 8 bytes: the number of its request")
        if len(hello) > hello_bytes or hello_bytes > BUFFER_BYTES:
            raise ValueError("hello_bytes is at least the length of hello, and at most 65536")
        self.hello, self.hello_reply = hello, hello_reply
        self.datagrams.base = &self.responder
        self.datagrams.hello = <const char *>self.hello
        self.datagrams.hello_bytes = hello_bytes
        self.datagrams.hello_start_bytes = len(hello)
        self.datagrams.hello_reply = <const char *>self.hello_reply
        self.datagrams.hello_reply_bytes = len(hello_reply)

    def run(self):
        """Answer until it is told to leave. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            nm_trips_respond(&self.datagrams)
            nm_stream_leave(&self.own)

    @property
    def invalid_requests(self):
        """Datagrams that are no request: of another length."""
        return nm_load_u64(&self.datagrams.invalid_requests)


cdef class SharedLoop:
    """Runs the loops of several connections in one thread: requesters, or responders, by TCP or UDP.

    They are of one group and alike, and requesters have no set rate. A single loop is run as by its own
    `run`. If one breaks, the others end as `aborted`. Each has an equal part of the thread's CPU time, and
    only the first has samples of it.
    """

    cdef list members
    cdef nm_requesters requesters
    cdef nm_responders responders
    cdef epoll_event *event

    def __cinit__(self):
        self.members = []
        self.event = <epoll_event *>PyMem_Calloc(NM_SHARED_EVENTS, sizeof(epoll_event))
        if self.event == NULL:
            raise MemoryError
        self.requesters.event = self.responders.event = self.event

    def __dealloc__(self):
        PyMem_Free(self.event)
        PyMem_Free(self.requesters.r)
        PyMem_Free(self.requesters.d)
        PyMem_Free(self.responders.r)
        PyMem_Free(self.responders.d)

    def add(self, Stream loop not None):
        """Add a loop, before `run`. Raises ValueError if it can't share a thread with the others."""
        if not isinstance(loop, (Requester, Responder)) or self.members and (
            type(loop) is not type(self.members[0]) or loop.group is not self.members[0].group
        ):
            raise ValueError("loops of one kind and one group share a thread")
        if isinstance(loop, Requester) and (<Requester>loop).options.period_ns > 0:
            raise ValueError("requests at a set rate need a thread for each connection")
        self.members.append(loop)

    def run(self):
        """Run all loops to their ends. It blocks its thread and holds no GIL."""
        if len(self.members) == 1:
            self.members[0].run()
        elif isinstance(self.members[0], Requester):
            self.run_requesters()
        else:
            self.run_responders()

    cdef void run_requesters(self) except *:
        cdef uint32_t count = len(self.members), i
        cdef bint udp = isinstance(self.members[0], DatagramRequester)
        cdef nm_requesters *s = &self.requesters
        s.r = <nm_requester **>PyMem_Calloc(count, sizeof(nm_requester *))
        s.d = <nm_datagram_requester **>PyMem_Calloc(count, sizeof(nm_datagram_requester *)) if udp else NULL
        if s.r == NULL or (udp and s.d == NULL):
            raise MemoryError
        for i in range(count):
            (<Stream>self.members[i]).enter()
            s.r[i] = &(<Requester>self.members[i]).requester
            if udp:
                s.d[i] = &(<DatagramRequester>self.members[i]).datagrams
        s.count = count
        with nogil:
            nm_requesters_all(s)
            for i in range(count):
                nm_stream_leave_shared(s.r[i].own, count)

    cdef void run_responders(self) except *:
        cdef uint32_t count = len(self.members), i
        cdef bint udp = isinstance(self.members[0], DatagramResponder)
        cdef nm_responders *s = &self.responders
        s.r = <nm_responder **>PyMem_Calloc(count, sizeof(nm_responder *))
        s.d = <nm_datagram_responder **>PyMem_Calloc(count, sizeof(nm_datagram_responder *)) if udp else NULL
        if s.r == NULL or (udp and s.d == NULL):
            raise MemoryError
        for i in range(count):
            (<Stream>self.members[i]).enter()
            s.r[i] = &(<Responder>self.members[i]).responder
            if udp:
                s.d[i] = &(<DatagramResponder>self.members[i]).datagrams
        s.count = count
        with nogil:
            nm_responders_all(s)
            for i in range(count):
                nm_stream_leave_shared(s.r[i].own, count)
