"""GIL-free requests over many connections from few threads: by HTTP/1.1, or of fixed lengths."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from netmeasure._fast.nm_atomic cimport nm_load_i32, nm_load_i64, nm_load_u64
from netmeasure._fast.nm_requests cimport (
    NM_REQUEST_ERRORS, NM_REQUESTS_EVENTS, NM_REQUESTS_OPTION_BYTES, NM_REQUESTS_STATUSES,
    epoll_event, nm_link, nm_requests, nm_requests_all, nm_requests_options, nm_socket_option,
    sockaddr_storage,
)
from netmeasure._fast.nm_series cimport nm_series
from netmeasure._fast.nm_stream cimport NM_ABORTED, NM_ERROR, nm_stream_leave
from netmeasure._fast.nm_tls cimport nm_tls, nm_tls_close, nm_tls_load, nm_tls_open
from netmeasure._fast.round_trips cimport Histogram
from netmeasure._fast.syscalls cimport SHUT_WR, c_shutdown
from netmeasure._fast.worker cimport Group, Stream, copy_series

#: The kinds of errors, in the order of enum nm_request_error.
ERRORS = ("connect", "local", "reset", "timeout", "invalid", "tls")

# What one recv() may take: some responses of usual size, and no more than fits the L2 cache.
cdef size_t BUFFER_BYTES = 65536


cdef class TlsClient:
    """TLS for the connections of a RequestLoop, by the OpenSSL of this host.

    The threads of a test share it. OSError: there is no OpenSSL, or the certificates that are to be
    trusted can't be used.

    Args:
        name: the server's name or numeric address, which its certificate must have.
        numeric: it is an address.
        verifies: a connection without a valid certificate is an error.
        ca_file: the trusted certificates (PEM).
        ca_folder: a folder of them (openssl-rehash(1)). Without both: OpenSSL's own.
    """

    cdef nm_tls own
    cdef bytes name

    def __cinit__(self, bytes name not None, *, bint numeric=False, bint verifies=True,
                  bytes ca_file=None, bytes ca_folder=None):
        cdef const char *file = NULL
        cdef const char *folder = NULL
        cdef int opened
        if nm_tls_load(&self.own) != 0:
            raise OSError("this host has no OpenSSL library (libssl.so.3)")
        self.name = name
        self.own.name = self.name
        self.own.numeric, self.own.verifies = numeric, verifies
        if ca_file is not None:
            file = ca_file
        if ca_folder is not None:
            folder = ca_folder
        with nogil:
            opened = nm_tls_open(&self.own, file, folder)
        if opened != 0:
            raise OSError("OpenSSL can't use the trusted certificates")

    def __dealloc__(self):
        nm_tls_close(&self.own)

    cdef str text(self, int64_t verify, uint64_t code):
        """Return OpenSSL's words for the outcome of a handshake."""
        cdef const char *words = NULL
        if verify:
            words = self.own.X509_verify_cert_error_string(verify)
        elif code:
            words = self.own.ERR_reason_error_string(code)
        return "" if words == NULL else words.decode("ascii", "replace")


cdef class RequestLoop(Stream):
    """Sends a request repeatedly over many connections, and times each response.

    The time series counts the bytes of requests at the moment of their response; `acked_bytes` is
    their sum, and `bytes` what the kernel took. `first_ns` is when the first request could leave.

    Args:
        fd: a connection that is shut down when all requests have been sent and answered; -1: none. The
            loop opens its own sockets for requests.
        request: one request, head and body.
        to: the server's address as the kernel has it (struct sockaddr).
        origin: the address to bind to, likewise; empty: the kernel chooses.
        socket_options: (level, name, value) of each option of every connection.
        connections: how many there are.
        tls: how they are encrypted; None: not at all.
        keep: use them again; else a fresh one for each request, which is timed with it.
        no_body: the request is HEAD, so that no response has a body.
        response_bytes: the length of a response that is no HTTP, behind which the server closes the
            connection; 0: responses are HTTP.
        duration_ns: how long, from when the connections are open; 0: no deadline.
        omit_ns: responses that come earlier than this after the first one of the group's streams are
            not in the histogram.
        drain_ns: how long to wait for the last responses.
        connect_ns: how long a connection may take to open.
        answer_ns: how long a response may take to come.
        per_s: requests per second; 0: one leaves as soon as a connection is free.
        phase: by which part of the distance of two requests the first one is later, 0 to 1.
    """

    cdef nm_requests_options options
    cdef nm_requests requests
    cdef nm_series sums
    cdef bytes request
    cdef TlsClient tls
    cdef nm_socket_option *chosen
    cdef readonly Histogram latency
    cdef readonly Histogram connecting
    cdef readonly Histogram shaking
    cdef readonly Histogram answering

    def __cinit__(self, Group group not None, int fd=-1, *, bytes request not None, bytes to not None,
                  bytes origin=b"", socket_options=(), uint32_t connections=1, bint keep=True,
                  TlsClient tls=None,
                  bint no_body=False, uint32_t response_bytes=0, int64_t duration_ns=0,
                  int64_t omit_ns=0, int64_t drain_ns=10_000_000_000, int64_t connect_ns=10_000_000_000,
                  int64_t answer_ns=10_000_000_000, double per_s=0, double phase=0,
                  width_ns=None, buckets=None, sample_every_ns=None):
        if not request or connections == 0:
            raise ValueError("there is at least one connection, and a request has a byte")
        if response_bytes and keep:
            raise ValueError("a connection with a response of a fixed length is not kept")
        if max(len(to), len(origin)) > sizeof(sockaddr_storage) or len(to) < 2:
            raise ValueError("that is no address")
        if min(connect_ns, answer_ns) <= 0 or not 0 <= phase < 1:
            raise ValueError("time-outs must be positive, and the phase from 0 to 1")
        self.request = request
        self.latency, self.connecting, self.answering = Histogram(), Histogram(), Histogram()
        self.shaking = Histogram()
        self.tls = tls
        if tls is not None:
            self.options.tls = &tls.own
        self.options.request = <const char *>self.request
        self.options.request_bytes = len(request)
        memcpy(&self.options.to, <const char *>to, len(to))
        memcpy(&self.options.from_, <const char *>origin, len(origin))
        self.options.to_bytes, self.options.from_bytes = len(to), len(origin)
        self.options.connections = connections
        self.options.keep, self.options.no_body = keep, no_body
        self.options.response_bytes = response_bytes
        self.options.duration_ns, self.options.omit_ns = duration_ns, omit_ns
        self.options.drain_ns = drain_ns
        self.options.connect_ns, self.options.answer_ns = connect_ns, answer_ns
        self.options.period_ns = 1e9 / per_s if per_s > 0 else 0
        self.options.phase = phase
        self.choose(list(socket_options))
        self.allocate(connections)
        self.requests.options = &self.options
        self.requests.own = &self.own
        self.requests.group = &self.group.shared
        self.requests.latencies.histogram = self.latency.own
        self.requests.connecting = self.connecting.own
        self.requests.shaking = self.shaking.own
        self.requests.answering = self.answering.own
        self.requests.latencies.sum = &self.sums

    cdef void choose(self, list socket_options) except *:
        """Copy the socket options."""
        cdef uint32_t i = 0
        cdef bytes value
        self.chosen = <nm_socket_option *>PyMem_Calloc(max(1, len(socket_options)),
                                                       sizeof(nm_socket_option))
        if self.chosen == NULL:
            raise MemoryError
        for level, name, value in socket_options:
            if len(value) > NM_REQUESTS_OPTION_BYTES:
                raise ValueError("a socket option has at most 64 bytes")
            self.chosen[i].level, self.chosen[i].name = level, name
            self.chosen[i].length = len(value)
            memcpy(self.chosen[i].value, <const char *>value, len(value))
            i += 1
        self.options.option, self.options.option_count = self.chosen, i

    cdef void allocate(self, uint32_t connections) except *:
        """Allocate the memory of the connections and of the received bytes."""
        cdef nm_requests *r = &self.requests
        self.sums.width_ns = self.own.series.width_ns
        self.sums.capacity = self.own.series.capacity
        self.sums.bucket = <uint64_t *>PyMem_Calloc(self.sums.capacity, sizeof(uint64_t))
        r.link = <nm_link *>PyMem_Calloc(connections, sizeof(nm_link))
        r.free.item = <uint32_t *>PyMem_Calloc(connections, sizeof(uint32_t))
        r.shut.item = <uint32_t *>PyMem_Calloc(connections, sizeof(uint32_t))
        r.resting.item = <uint32_t *>PyMem_Calloc(connections, sizeof(uint32_t))
        r.rest_ns = <int64_t *>PyMem_Calloc(connections, sizeof(int64_t))
        r.event = <epoll_event *>PyMem_Calloc(NM_REQUESTS_EVENTS, sizeof(epoll_event))
        r.buffer = <char *>PyMem_Calloc(1, BUFFER_BYTES)
        r.buffer_bytes = BUFFER_BYTES
        if (self.sums.bucket == NULL or r.link == NULL or r.free.item == NULL
                or r.shut.item == NULL or r.resting.item == NULL or r.rest_ns == NULL
                or r.event == NULL or r.buffer == NULL):
            raise MemoryError

    def __dealloc__(self):
        PyMem_Free(self.chosen)
        PyMem_Free(self.sums.bucket)
        PyMem_Free(self.requests.link)
        PyMem_Free(self.requests.free.item)
        PyMem_Free(self.requests.shut.item)
        PyMem_Free(self.requests.resting.item)
        PyMem_Free(self.requests.rest_ns)
        PyMem_Free(self.requests.event)
        PyMem_Free(self.requests.buffer)

    def run(self):
        """Wait at the gate, open connections, send requests, wait for the last responses. It holds
        no GIL."""
        self.enter()
        with nogil:
            nm_requests_all(&self.requests)
            if self.fd >= 0 and self.own.reason != NM_ABORTED and self.own.reason != NM_ERROR:
                c_shutdown(self.fd, SHUT_WR)
            nm_stream_leave(&self.own)

    @property
    def begun(self):
        """Requests of which at least a part was sent, or for which a connection was to be opened."""
        return nm_load_u64(&self.requests.begun)

    @property
    def answered(self):
        """Requests whose whole response has arrived, with a status below 400."""
        return nm_load_u64(&self.requests.answered)

    @property
    def rejected(self):
        """Requests whose whole response has arrived, with a status of 400 or more."""
        return nm_load_u64(&self.requests.rejected)

    @property
    def failed(self):
        """Requests that an error has ended."""
        return nm_load_u64(&self.requests.failed)

    @property
    def skipped(self):
        """Requests that were due at the set rate and had not been sent when the time was over."""
        return nm_load_u64(&self.requests.skipped)

    @property
    def late(self):
        """(requests that this thread sent more than 0.1 ms later than they were due, the longest of
        these delays in ns); none of them waited for a connection."""
        return nm_load_u64(&self.requests.late), nm_load_i64(&self.requests.latest_ns)

    @property
    def errors(self):
        """The number of errors of each kind, by its name in ERRORS."""
        cdef uint32_t i
        return {
            ERRORS[i]: nm_load_u64(&self.requests.error[i])
            for i in range(NM_REQUEST_ERRORS) if nm_load_u64(&self.requests.error[i])
        }

    @property
    def statuses(self):
        """The responses with each status."""
        cdef uint32_t i
        return {
            i: nm_load_u64(&self.requests.status[i])
            for i in range(NM_REQUESTS_STATUSES) if nm_load_u64(&self.requests.status[i])
        }

    @property
    def connect_errno(self):
        """The errno of the last connection that could not be opened, or 0."""
        return nm_load_i32(&self.requests.connect_errno)

    @property
    def tls_error(self):
        """OpenSSL's words for the last handshake that failed; None: none has, or there is no reason but
        the connection's end."""
        if self.tls is None:
            return None
        return self.tls.text(nm_load_i64(&self.requests.tls_verify),
                             nm_load_u64(&self.requests.tls_error)) or None

    @property
    def syn_retransmits(self):
        """The retransmitted SYNs, over all connections."""
        return nm_load_u64(&self.requests.syn_resent)

    @property
    def body_bytes(self):
        """The bytes of the bodies of all whole responses, without framing."""
        return nm_load_u64(&self.requests.body_bytes)

    def latency_sums(self):
        """Return (origin_ns or None, width_ns, sum of the latencies per bucket in ns), with the same
        buckets as `series`."""
        return copy_series(&self.sums)
