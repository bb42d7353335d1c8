"""C declarations: the one place where system calls and nm_native.h are declared to Cython."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t
from posix.types cimport off_t


cdef extern from "<sys/socket.h>" nogil:
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    int c_shutdown "shutdown"(int fd, int how)
    const int MSG_NOSIGNAL, MSG_TRUNC, MSG_DONTWAIT, SHUT_WR, SO_SNDTIMEO, SO_RCVTIMEO

cdef extern from "<unistd.h>" nogil:
    ssize_t c_write "write"(int fd, const void *data, size_t size)

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t c_sendfile "sendfile"(int out_fd, int in_fd, off_t *offset, size_t size)

cdef extern from "<errno.h>" nogil:
    int errno
    const int EAGAIN, EINTR, EIO

cdef extern from "nm_native.h" nogil:
    ctypedef struct nm_group:
        uint64_t claimed
        uint64_t budget
        int64_t opened_ns
    ctypedef struct nm_series:
        uint64_t *bucket
        uint32_t capacity
        uint32_t used
        int64_t origin_ns
        int64_t width_ns
    ctypedef struct nm_sample:
        int64_t at_ns
        int64_t cpu_ns
        int64_t wait_ns
        uint32_t length
        unsigned char *raw
    ctypedef struct nm_stream:
        uint64_t bytes
        uint64_t acked
        uint64_t calls
        int64_t first_ns
        int64_t last_ns
        uint32_t reason
        int32_t error
        int64_t user_ns
        int64_t system_ns
        int64_t ended_ns
        nm_series series
        nm_sample *sample
        uint32_t samples
        int64_t sample_every_ns
        int64_t sample_due_ns

    const int NM_SAMPLES
    const uint32_t NM_NOT_STARTED, NM_RUNNING, NM_DEADLINE, NM_BUDGET
    const uint32_t NM_STOPPED, NM_ABORTED, NM_EOF, NM_ERROR

    int64_t nm_now()
    void nm_sleep(int64_t duration_ns)
    void nm_group_init(nm_group *g)
    void nm_group_destroy(nm_group *g)
    int nm_stopping(nm_group *g)
    int nm_aborting(nm_group *g)
    int64_t nm_gate_wait(nm_group *g)
    void nm_gate_open(nm_group *g, int64_t now)
    void nm_stop(nm_group *g)
    void nm_abort(nm_group *g)
    uint64_t nm_claim(nm_group *g, uint64_t want)
    void nm_series_start(nm_series *s, int64_t origin_ns)
    void nm_series_add(nm_series *s, int64_t now, uint64_t n)
    uint32_t nm_series_read(nm_series *s, uint64_t *into, int64_t *origin, int64_t *width)
    uint64_t nm_series_until(nm_series *s, int64_t moment)
    nm_sample *nm_sample_next(nm_stream *s)
    void nm_sample_take(nm_stream *s, int fd, int64_t now)
    void nm_thread_cpu(nm_stream *s)
    void nm_timeout(int fd, int option, int64_t duration_ns)
    int64_t nm_unacknowledged(int fd)
    int64_t nm_unread(int fd)
    int32_t nm_gone(int fd)
    void nm_set_nonblocking(int fd)
    void nm_wait_writable(int fd, int64_t duration_ns)
    uint64_t NM_LOAD(uint64_t *p)
    void NM_STORE(void *p, int64_t v)
