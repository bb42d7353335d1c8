"""The times at which bytes arrive at sockets, recorded by a native thread that a busy event loop
does not delay."""

from cpython.mem cimport PyMem_Calloc, PyMem_Free
from libc.stdint cimport int64_t, uint32_t

from netmeasure._fast.nm_watch cimport (
    NM_WATCH_STRETCHES, nm_watch_add, nm_watch_forget, nm_watch_lock, nm_watch_now, nm_watch_remove, nm_watch_unlock, nm_watched,
    nm_watcher, nm_watcher_close, nm_watcher_destroy, nm_watcher_init, nm_watcher_run, nm_watcher_stop,
)


cdef class Watcher:
    """Follows sockets during set-up. `run` is for a thread of its own; everything else may be called
    from any other one thread."""

    cdef nm_watcher own
    cdef list watched
    cdef bint made

    def __cinit__(self):
        self.watched = []
        cdef int code = nm_watcher_init(&self.own)
        self.made = True
        if code:
            raise OSError(code, "no watcher")

    def __dealloc__(self):
        if self.made:
            nm_watcher_destroy(&self.own)

    def run(self):
        """Watch until `stop`. Blocks its thread; holds no GIL."""
        with nogil:
            nm_watcher_run(&self.own)

    def stop(self):
        """Make `run` return."""
        nm_watcher_stop(&self.own)

    def close(self):
        """Give the descriptors back, once `run` has returned. What was seen stays readable."""
        for one in self.watched:
            one.remove()
        self.watched.clear()
        nm_watcher_close(&self.own)

    def add(self, int fd):
        """Return the Watched of a TCP socket. Call this before any bytes arrive. The connection
        stays open until `Watched.remove`. Raises OSError."""
        cdef Watched one = Watched(self)
        cdef int code = nm_watch_add(&self.own, one.own, fd)
        if code:
            one.remove()
            raise OSError(code, "can't be watched")
        self.watched.append(one)  # the thread goes by its address
        return one


cdef class Watched:
    """The observations of one socket."""

    cdef nm_watched *own
    cdef Watcher watcher

    def __cinit__(self, Watcher watcher not None):
        self.watcher = watcher
        self.own = <nm_watched *>PyMem_Calloc(1, sizeof(nm_watched))
        if self.own == NULL:
            raise MemoryError
        self.own.fd = -1

    def __dealloc__(self):
        # the watcher knows it until it is closed: no thread looks at it any more, and the collector
        # may have taken `watcher` already
        if self.own != NULL:
            nm_watch_forget(self.own)
            PyMem_Free(self.own)

    def remove(self):
        """Stop watching the socket; a second call has no effect."""
        with nogil:
            nm_watch_remove(&self.watcher.own, self.own)

    def stretches(self):
        """Return [(arrived_ns, taken_ns)]: how long bytes were there before this program read them
        (CLOCK_MONOTONIC, ns), the latest ones. taken_ns is None where they still wait."""
        cdef uint32_t i
        with nogil:
            nm_watch_lock(&self.watcher.own)
            nm_watch_now(self.own)
        try:
            first = max(0, <int64_t>self.own.count - NM_WATCH_STRETCHES)
            return [
                (self.own.arrived_ns[i % NM_WATCH_STRETCHES],
                 self.own.taken_ns[i % NM_WATCH_STRETCHES] or None)
                for i in range(first, self.own.count)
            ]
        finally:
            nm_watch_unlock(&self.watcher.own)
