/* The times at which bytes reached this host, from the kernel, and how long the bytes then waited
 * to be read by the program.
 *
 * A watcher thread follows many sockets by epoll. It never consumes bytes: it peeks, for which the
 * kernel returns the software time stamp of the segment (SO_TIMESTAMPNS, socket(7)), which neither
 * a busy event loop nor a busy CPU can shift. The kernel joins segments that wait unread, and keeps
 * the last one's stamp; the time of waking up limits the resulting error.
 */
#ifndef NM_WATCH_H
#define NM_WATCH_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <netinet/in.h>

#include "nm_clock.h"

#define NM_WATCH_STRETCHES 32 /* the latest ones of a socket are kept */
#define NM_WATCH_EVENTS 64
#define NM_WATCH_TICK_MS 1 /* how often a socket is looked at whose bytes wait */
#define NM_TCP_INFO 11
#define NM_BYTES_RECEIVED 128 /* tcpi_bytes_received in struct tcp_info (linux/tcp.h) */

/* Returns how long ago the wall clock showed this; negative: it has been set back since. `now` becomes
 * the moment of looking: a thread that loses its CPU between the two clocks looks again. */
static inline int64_t nm_watch_age(const struct timespec *stamp, int64_t *now) {
    struct timespec t;
    int64_t before, tries = 0;
    do {
        before = nm_now();
        clock_gettime(CLOCK_REALTIME, &t);
        *now = nm_now();
    } while (*now - before > 5000 && ++tries < 3);
    return ((int64_t)t.tv_sec - stamp->tv_sec) * NM_SECOND_NS + t.tv_nsec - stamp->tv_nsec;
}

static inline void nm_stamp_arrivals(int fd, int on) {
    (void)setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on); /* without: moments of looking */
}

/* When the first unread bytes of a socket arrived (CLOCK_MONOTONIC, ns), and `now` where the kernel
 * does not say; 0: nothing is there; -1: nothing will come any more. */
static inline int64_t nm_arrived(int fd, int64_t now) {
    char byte;
    _Alignas(struct cmsghdr) char room[CMSG_SPACE(sizeof(struct timespec)) + 64];
    struct iovec part = {&byte, 1};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = room,
                             .msg_controllen = sizeof room};
    ssize_t n = recvmsg(fd, &message, MSG_PEEK | MSG_DONTWAIT);
    if (n == 0) return -1;
    if (n < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(&message); c != NULL; c = CMSG_NXTHDR(&message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
            struct timespec stamp;
            int64_t looked, age, at;
            memcpy(&stamp, CMSG_DATA(c), sizeof stamp);
            age = nm_watch_age(&stamp, &looked);
            at = looked - age;
            return age >= 0 && at < now ? at : now; /* the wall clock may have been set */
        }
    }
    return now;
}

/* As nm_arrived, after waiting for bytes, but not for longer than so many milliseconds. */
static inline int64_t nm_await_bytes(int fd, int wait_ms) {
    struct pollfd one = {.fd = fd, .events = POLLIN};
    if (poll(&one, 1, wait_ms) <= 0) return 0;
    return nm_arrived(fd, nm_now());
}

typedef struct nm_watched {
    int fd; /* -1: no longer watched */
    int waiting; /* the last stretch is open: bytes are unread */
    int listed;  /* among the watcher's `waiting` */
    uint64_t taken; /* bytes that the program had read at the last look */
    uint32_t count; /* stretches so far */
    int64_t arrived_ns[NM_WATCH_STRETCHES];
    int64_t taken_ns[NM_WATCH_STRETCHES]; /* 0: not yet */
    struct nm_watched *next; /* of those that wait */
} nm_watched;

typedef struct {
    int epoll, wake;
    uint32_t stop;
    pthread_mutex_t mutex;
    nm_watched *waiting;
} nm_watcher;

static inline int nm_watcher_init(nm_watcher *w) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    memset(w, 0, sizeof *w);
    pthread_mutex_init(&w->mutex, NULL);
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->wake < 0) return errno;
    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) < 0 ? errno : 0;
}

/* Only when the thread has ended. */
static inline void nm_watcher_close(nm_watcher *w) {
    if (w->epoll >= 0) close(w->epoll);
    if (w->wake >= 0) close(w->wake);
    w->epoll = w->wake = -1;
}

static inline void nm_watcher_destroy(nm_watcher *w) {
    nm_watcher_close(w);
    pthread_mutex_destroy(&w->mutex);
}

static inline void nm_watch_lock(nm_watcher *w) { pthread_mutex_lock(&w->mutex); }
static inline void nm_watch_unlock(nm_watcher *w) { pthread_mutex_unlock(&w->mutex); }

/* Returns how many bytes the program has read from a socket so far, and how many wait in `unread`. */
static inline uint64_t nm_watch_taken(int fd, int *unread) {
    unsigned char info[256];
    socklen_t size = sizeof info;
    uint64_t received = 0;
    memset(info, 0, sizeof info);
    if (getsockopt(fd, IPPROTO_TCP, NM_TCP_INFO, info, &size) == 0)
        memcpy(&received, info + NM_BYTES_RECEIVED, sizeof received);
    if (ioctl(fd, SIOCINQ, unread) < 0) *unread = 0;
    return received > (uint64_t)*unread ? received - (uint64_t)*unread : 0;
}

/* Under the mutex: ends the open stretch of a socket if the program has read since, and opens one if
 * bytes wait. `news`: bytes have just come. */
static inline void nm_watch_look(nm_watched *one, int news) {
    int unread = 0;
    uint64_t taken = nm_watch_taken(one->fd, &unread);
    int64_t at, now = nm_now(); /* after the look: what it saw had happened by then */
    if (taken == one->taken && unread == 0) news = 0; /* an earlier look has seen them */
    if (one->waiting && (unread == 0 || taken > one->taken)) {
        one->taken_ns[(one->count - 1) % NM_WATCH_STRETCHES] = now;
        one->waiting = 0;
        news = 0;
    }
    one->taken = taken;
    if (one->waiting) return;
    at = unread > 0 ? nm_arrived(one->fd, now) : 0;
    if (at > 0 || news) { /* without `at` the program was faster than this thread */
        uint32_t slot = one->count % NM_WATCH_STRETCHES;
        int64_t before = one->count ? one->arrived_ns[(one->count - 1) % NM_WATCH_STRETCHES] : 0;
        if (at > 0 && at < before) at = before; /* the rest of one segment, or a clock that was set */
        one->count++;
        one->arrived_ns[slot] = at > 0 ? at : now;
        one->taken_ns[slot] = at > 0 ? 0 : now;
        one->waiting = at > 0;
    }
}

static inline int nm_watch_add(nm_watcher *w, nm_watched *one, int fd) {
    struct epoll_event event = {.events = EPOLLIN | EPOLLRDHUP | EPOLLET, .data.ptr = one};
    memset(one, 0, sizeof *one);
    /* a descriptor of its own: the number of one that others close may soon be another socket's */
    one->fd = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (one->fd < 0) return errno;
    nm_stamp_arrivals(one->fd, 1);
    return epoll_ctl(w->epoll, EPOLL_CTL_ADD, one->fd, &event) < 0 ? errno : 0;
}

/* Until this is called the connection stays open. What was seen stays readable. */
static inline void nm_watch_remove(nm_watcher *w, nm_watched *one) {
    pthread_mutex_lock(&w->mutex);
    if (one->fd >= 0) {
        epoll_ctl(w->epoll, EPOLL_CTL_DEL, one->fd, NULL);
        nm_stamp_arrivals(one->fd, 0);
        close(one->fd);
        one->fd = -1;
    }
    pthread_mutex_unlock(&w->mutex);
}

/* Gives the descriptor back of a socket that no watcher knows. */
static inline void nm_watch_forget(nm_watched *one) {
    if (one->fd >= 0) close(one->fd);
    one->fd = -1;
}

/* Notes what the program has read since the last look: call before the stretches are read. */
static inline void nm_watch_now(nm_watched *one) {
    int unread = 0;
    uint64_t taken;
    if (one->fd < 0) return;
    taken = nm_watch_taken(one->fd, &unread);
    if (one->waiting || taken > one->taken)
        nm_watch_look(one, taken > one->taken && !one->waiting);
}

static inline void nm_watch_all(nm_watcher *w, const struct epoll_event *events, int n) {
    nm_watched *one, **link;
    for (one = w->waiting; one != NULL; one = one->next)
        if (one->fd >= 0) nm_watch_look(one, 0);
    for (int i = 0; i < n; i++) {
        one = events[i].data.ptr;
        if (one == NULL || one->fd < 0) continue;
        nm_watch_look(one, 1);
        if (one->waiting && !one->listed) {
            one->listed = 1;
            one->next = w->waiting;
            w->waiting = one;
        }
    }
    for (link = &w->waiting; (one = *link) != NULL;) {
        if (one->fd < 0 || !one->waiting) {
            *link = one->next;
            one->listed = 0;
        } else {
            link = &one->next;
        }
    }
}

/* The thread: until nm_watcher_stop. */
static inline void nm_watcher_run(nm_watcher *w) {
    struct epoll_event events[NM_WATCH_EVENTS];
    while (!__atomic_load_n(&w->stop, __ATOMIC_ACQUIRE)) {
        int n = epoll_wait(w->epoll, events, NM_WATCH_EVENTS, w->waiting ? NM_WATCH_TICK_MS : -1);
        pthread_mutex_lock(&w->mutex);
        nm_watch_all(w, events, n < 0 ? 0 : n);
        pthread_mutex_unlock(&w->mutex);
    }
}

static inline void nm_watcher_stop(nm_watcher *w) {
    uint64_t one = 1;
    __atomic_store_n(&w->stop, 1, __ATOMIC_RELEASE);
    if (write(w->wake, &one, sizeof one) < 0) return; /* full: it is awake already */
}

#endif
