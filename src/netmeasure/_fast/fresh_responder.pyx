"""GIL-free answers to transactions that come on a fresh connection each."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free, PyMem_Malloc
from libc.stdint cimport int64_t, uint32_t, uint64_t
from libc.string cimport memcpy

from netmeasure._fast.nm_atomic cimport nm_load_u64
from netmeasure._fast.nm_fresh_responder cimport (
    NM_FRESH_EVENTS, epoll_event, nm_fresh_respond_all, nm_fresh_responder, nm_guest, sockaddr_storage,
)
from netmeasure._fast.nm_stream cimport nm_stream_leave
from netmeasure._fast.worker cimport Group, Stream

# What one recv() may take: some requests of usual size, and no more than fits the L2 cache.
cdef size_t BUFFER_BYTES = 65536


cdef class FreshResponder(Stream):
    """Accepts connections, and answers one request on each. It ends with the connection `fd`.

    `bytes` counts the whole requests, `acked_bytes` what was written.

    Args:
        fd: the stream's own connection, which carries nothing: its end says that all is over.
        listener: the listening socket; if it blocks, accept4() may wait, for 10 ms at a time.
        peer: the address of the host that is served, as the kernel has it (struct sockaddr).
        token: how each request begins; empty: requests are too short for it.
        request_bytes: the length of a request.
        payload: one response.
        places: how many connections may be open at a time.
        patience_ns: how long a connection may make no progress.
    """

    cdef nm_fresh_responder responder
    cdef bytes token

    def __cinit__(self, Group group not None, int fd, *, int listener, bytes peer not None,
                  bytes token=b"", uint32_t request_bytes=1, bytes payload not None,
                  uint32_t places=64, int64_t patience_ns=10_000_000_000, width_ns=None, buckets=None,
                  sample_every_ns=None):
        cdef nm_fresh_responder *r = &self.responder
        cdef size_t size = len(payload)
        if size == 0 or request_bytes == 0 or places == 0:
            raise ValueError("requests, responses and places are at least 1")
        if len(token) > request_bytes:
            raise ValueError("a request is at least as long as the token")
        if len(peer) > sizeof(sockaddr_storage) or len(peer) < 2:
            raise ValueError("that is no address")
        if patience_ns <= 0:
            raise ValueError("patience_ns must be positive")
        self.token = token
        r.token, r.token_bytes = <const char *>self.token, <uint32_t>len(token)
        r.payload = <const char *>PyMem_Malloc(size)
        r.buffer = <char *>PyMem_Malloc(BUFFER_BYTES)
        r.guest = <nm_guest *>PyMem_Calloc(places, sizeof(nm_guest))
        r.vacant = <uint32_t *>PyMem_Calloc(places, sizeof(uint32_t))
        r.event = <epoll_event *>PyMem_Calloc(NM_FRESH_EVENTS, sizeof(epoll_event))
        if (r.payload == NULL or r.buffer == NULL or r.guest == NULL or r.vacant == NULL
                or r.event == NULL):
            raise MemoryError
        memcpy(<char *>r.payload, <const char *>payload, size)
        memcpy(&r.peer, <const char *>peer, len(peer))
        r.buffer_bytes = BUFFER_BYTES
        r.request_bytes, r.response_bytes = request_bytes, <uint32_t>size
        r.places, r.patience_ns = places, patience_ns
        r.own = &self.own
        r.group = &self.group.shared
        r.fd, r.listener = fd, listener

    def __dealloc__(self):
        PyMem_Free(<void *>self.responder.payload)
        PyMem_Free(self.responder.buffer)
        PyMem_Free(self.responder.guest)
        PyMem_Free(self.responder.vacant)
        PyMem_Free(self.responder.event)

    def run(self):
        """Serve connections to the end of the stream. It blocks its thread and holds no GIL."""
        self.enter()
        with nogil:
            nm_fresh_respond_all(&self.responder)
            nm_stream_leave(&self.own)

    @property
    def accepted(self):
        """Connections from the host that is served."""
        return nm_load_u64(&self.responder.accepted)

    @property
    def answered(self):
        """Transactions whose whole response was written."""
        return nm_load_u64(&self.responder.answered)

    @property
    def strangers(self):
        """Connections from other hosts, or whose request did not begin with the token."""
        return nm_load_u64(&self.responder.strangers)
