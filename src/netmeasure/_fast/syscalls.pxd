"""Declares the system calls and constants that the native loops use."""

from posix.types cimport off_t


cdef extern from "<sys/socket.h>" nogil:
    ctypedef struct mmsghdr:
        pass
    ssize_t c_send "send"(int fd, const void *data, size_t size, int flags)
    ssize_t c_recv "recv"(int fd, void *data, size_t size, int flags)
    int c_recvmmsg "recvmmsg"(int fd, mmsghdr *message, unsigned int count, int flags, void *wait)
    int c_shutdown "shutdown"(int fd, int how)
    const int MSG_NOSIGNAL, MSG_TRUNC, MSG_DONTWAIT, MSG_WAITFORONE
    const int SHUT_WR, SO_SNDTIMEO, SO_RCVTIMEO

cdef extern from "<unistd.h>" nogil:
    ssize_t c_write "write"(int fd, const void *data, size_t size)

cdef extern from "<sys/sendfile.h>" nogil:
    ssize_t c_sendfile "sendfile"(int out_fd, int in_fd, off_t *offset, size_t size)

cdef extern from "<errno.h>" nogil:
    int errno
    const int EAGAIN, EINTR, EIO, ECONNREFUSED, EINVAL, EMSGSIZE, ENOBUFS, EOPNOTSUPP
