"""Declares nm_socket.h."""

from libc.stdint cimport int32_t, int64_t


cdef extern from "nm_socket.h" nogil:
    int nm_timeout(int fd, int option, int64_t duration_ns)
    int64_t nm_unacknowledged(int fd)
    int64_t nm_unread(int fd)
    void nm_acknowledge(int fd)
    int32_t nm_gone(int fd)
    int nm_set_nonblocking(int fd)
    void nm_wait_writable(int fd, int64_t duration_ns)
