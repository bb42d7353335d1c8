"""GIL-free answers to requests for small files by HTTP."""

from libc.stdint cimport int64_t, uint32_t

from netmeasure._fast.nm_atomic cimport nm_load_u32, nm_load_u64
from netmeasure._fast.nm_small_files cimport (
    NM_FILES_HEAD_BYTES, nm_file_client, nm_file_parse, nm_file_release, nm_file_request, nm_file_size,
    nm_files_add, nm_files_close, nm_files_destroy, nm_files_handed, nm_files_init, nm_files_run,
    nm_files_stop, nm_small_files,
)

# What the length and the date take in a head.
cdef size_t INSERTED_BYTES = 10 + 32


def simple_size(bytes path not None):
    """Return the size of the file at a path of the simplest form; None for any other path."""
    cdef int64_t size = nm_file_size(path, len(path))
    return None if size < 0 else size


def simple_request(bytes data not None, uint32_t most):
    """Return (head_bytes, size, no_body) of the request that the data begin with; None if it is not
    simple, or the file is larger than `most` bytes."""
    cdef nm_file_request request
    if not nm_file_parse(data, len(data), most, &request):
        return None
    return request.head_bytes, request.size, bool(request.no_body)


cdef class SmallFiles:
    """Serves small files on connections that are added, and hands a connection over at its first
    other request. `run` is for a thread of its own; everything else is for any other one thread.

    Args:
        content: what each file is the beginning of.
        most: the size of the largest file.
        head: a response's head in three parts; the length and the date stand between them.
        idle_ns: how long to wait for a request.
        stall_ns: how long the client may take to receive a response.
    """

    cdef nm_small_files own
    cdef bytes content, before, between, after
    cdef bint made

    def __cinit__(self, bytes content not None, *, uint32_t most, tuple head not None, int64_t idle_ns,
                  int64_t stall_ns):
        self.content = content
        self.before, self.between, self.after = head
        if most > len(content):
            raise ValueError("a file can't be larger than the content")
        if self.before is None or self.between is None or self.after is None:
            raise TypeError("each part of the head is bytes")
        if len(self.before) + len(self.between) + len(self.after) + INSERTED_BYTES > NM_FILES_HEAD_BYTES:
            raise ValueError("the head is too long")
        if idle_ns <= 0 or stall_ns <= 0:
            raise ValueError("idle_ns and stall_ns must be positive")
        self.own.content, self.own.most = <const char *>self.content, most
        self.own.idle_ns, self.own.stall_ns = idle_ns, stall_ns
        self.own.before, self.own.before_bytes = <const char *>self.before, len(self.before)
        self.own.between, self.own.between_bytes = <const char *>self.between, len(self.between)
        self.own.after, self.own.after_bytes = <const char *>self.after, len(self.after)
        cdef int code = nm_files_init(&self.own)
        self.made = True
        if code:
            raise OSError(code, "no server of small files")

    def __dealloc__(self):
        if self.made:
            nm_files_destroy(&self.own)

    def run(self):
        """Serve until `stop`. Blocks its thread; holds no GIL."""
        with nogil:
            nm_files_run(&self.own)

    def stop(self):
        """Make `run` return."""
        nm_files_stop(&self.own)

    def close(self):
        """Close all connections, once `run` has returned."""
        with nogil:
            nm_files_close(&self.own)

    def add(self, int fd):
        """Serve a non-blocking connection, whose descriptor belongs to this object from now on."""
        cdef int code = nm_files_add(&self.own, fd)
        if code:
            raise OSError(code, "can't be added")

    def handed_over(self):
        """Return the descriptors of the connections that were handed over since the last call. They
        belong to the caller."""
        cdef nm_file_client *client = nm_files_handed(&self.own)
        cdef list fds = []
        while client != NULL:
            fds.append(client.fd)
            client = nm_file_release(&self.own, client)
        return fds

    def fileno(self):
        """Return a descriptor that is readable while connections wait in `handed_over`."""
        return self.own.news

    @property
    def connections(self):
        """The connections that belong to this object."""
        return nm_load_u32(&self.own.open)

    @property
    def answered(self):
        """The responses that the kernel has taken whole."""
        return nm_load_u64(&self.own.answered)
