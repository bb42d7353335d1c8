/* Socket operations of the native loops. */
#ifndef NM_SOCKET_H
#define NM_SOCKET_H

#include <errno.h>
#include <fcntl.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdint.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/time.h>

/* Sets SO_SNDTIMEO or SO_RCVTIMEO (`option`), 1 ms at least. Returns 0 or the errno. */
static inline int nm_timeout(int fd, int option, int64_t duration_ns) {
    struct timeval t;
    if (duration_ns < 1000000) duration_ns = 1000000;
    t.tv_sec = duration_ns / 1000000000;
    t.tv_usec = (duration_ns % 1000000000) / 1000;
    return setsockopt(fd, SOL_SOCKET, option, &t, sizeof t) == 0 ? 0 : errno;
}

/* Returns the bytes that the peer has not acknowledged yet; -1 where the kernel does not say. */
static inline int64_t nm_unacknowledged(int fd) {
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) == 0 ? n : -1;
}

/* Returns the bytes that have arrived and were not read yet; 0 where the kernel does not say. */
static inline int64_t nm_unread(int fd) {
    int n = 0;
    return ioctl(fd, SIOCINQ, &n) == 0 ? n : 0;
}

/* Makes the kernel send the acknowledgement that it may be delaying (tcp(7)). Best effort. */
static inline void nm_acknowledge(int fd) {
    int on = 1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_QUICKACK, &on, sizeof on);
}

/* Returns the errno of a connection that is gone (reset, timed out); 0 while it lives. */
static inline int32_t nm_gone(int fd) {
    unsigned char state = 0; /* tcpi_state, the first byte of TCP_INFO */
    int code = 0;
    socklen_t length = sizeof state;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &length) != 0 || state != TCP_CLOSE) return 0;
    length = sizeof code;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0 || code == 0) return ECONNRESET;
    return code;
}

/* Makes a socket non-blocking for sendfile(), which applies SO_SNDTIMEO to each 64 KiB anew: one
 * call could block for seconds. Returns 0 or the errno. */
static inline int nm_set_nonblocking(int fd) {
    int flags = fcntl(fd, F_GETFL);
    return flags >= 0 && fcntl(fd, F_SETFL, flags | O_NONBLOCK) == 0 ? 0 : errno;
}

/* Waits until a socket takes more or `duration_ns` are over. It may return early: callers try. */
static inline void nm_wait_writable(int fd, int64_t duration_ns) {
    struct pollfd p = {fd, POLLOUT, 0};
    int64_t ms = duration_ns / 1000000;
    (void)poll(&p, 1, ms < 1 ? 1 : ms > 1000 ? 1000 : (int)ms);
}

#endif
