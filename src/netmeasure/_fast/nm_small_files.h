/* Answers requests for small files by HTTP, on many kept connections from one thread. nm_file_request.h says
 * which requests; a connection with any other goes back to the program, with its bytes unread, and is no
 * longer of this thread. So is one whose request has not come whole.
 *
 * The program adds connections and takes those back that were handed over. Both wait in lists under a
 * mutex, and an eventfd at each side says that a list is no longer empty. A connection's data belong to
 * the side that holds it, so the thread's work on a request needs no lock.
 *
 * Every wait ends: for a request after `idle_ns`, and for a client that does not read a response after
 * `stall_ns` from the beginning of the response. The connections of each kind are in a list by the
 * time when their wait ends, so a thread wakes up only for events and for the next of these times.
 */
#ifndef NM_SMALL_FILES_H
#define NM_SMALL_FILES_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* Python.h defines it, too */
#endif
#include <errno.h>
#include <limits.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "nm_assert.h"
#include "nm_atomic.h"
#include "nm_clock.h"
#include "nm_file_request.h"

enum {
    NM_FILES_EVENTS = 256,    /* taken from the kernel at a time */
    NM_FILES_TURNS = 16,      /* requests of one connection before the others have a turn */
    NM_FILES_HEAD_BYTES = 320 /* of a response */
};

struct nm_file_client;

typedef struct {
    struct nm_file_client *first, *last;
} nm_file_clients;

typedef struct nm_file_client {
    int fd;
    uint32_t events;   /* that are waited for; 0: it is not in the epoll set */
    int64_t until_ns;  /* when waiting for it ends */
    nm_file_clients *list; /* that it is in */
    struct nm_file_client *previous, *next;
    uint32_t head_bytes, all_bytes, sent; /* of the response */
    char head[NM_FILES_HEAD_BYTES];
} nm_file_client;

typedef struct {
    const char *content; /* of all files: each is the beginning of it */
    uint32_t most;       /* the size of the largest file; `content` has so many bytes at least */
    const char *before, *between, *after; /* a response's head, around its length and its date */
    uint32_t before_bytes, between_bytes, after_bytes;
    int64_t idle_ns, stall_ns;
    int epoll;
    int wake; /* an eventfd: connections were added, or the thread must stop */
    int news; /* an eventfd: connections were handed over */
    uint32_t stop;
    pthread_mutex_t mutex;
    nm_file_clients added, handed; /* under the mutex */
    /* published */
    uint32_t open;     /* connections in all lists */
    uint64_t answered; /* whole responses */
    /* the thread's own */
    nm_file_clients idle;    /* that wait for a request */
    nm_file_clients sending; /* whose response the kernel has not taken yet */
    int64_t now_ns;
    int64_t date_s; /* what `date` shows */
    char date[32];
} nm_small_files;

/* ---- lists ---------------------------------------------------------------------------------------- */

static inline void nm_file_append(nm_file_clients *list, nm_file_client *c) {
    c->list = list;
    c->next = NULL;
    c->previous = list->last;
    *(list->last ? &list->last->next : &list->first) = c;
    list->last = c;
}

static inline void nm_file_remove(nm_file_client *c) {
    *(c->previous ? &c->previous->next : &c->list->first) = c->next;
    *(c->next ? &c->next->previous : &c->list->last) = c->previous;
}

/* Adds a client to a list under the mutex, and tells the other side. */
static inline void nm_files_pass(nm_small_files *s, nm_file_clients *list, nm_file_client *c, int event) {
    const uint64_t one = 1;
    int first;
    pthread_mutex_lock(&s->mutex);
    first = list->first == NULL;
    nm_file_append(list, c);
    pthread_mutex_unlock(&s->mutex);
    if (first && write(event, &one, sizeof one) < 0) return; /* full: it is told already */
}

/* Takes all clients of a list under the mutex. */
static inline nm_file_client *nm_files_take(nm_small_files *s, nm_file_clients *list) {
    nm_file_client *all;
    pthread_mutex_lock(&s->mutex);
    all = list->first;
    list->first = list->last = NULL;
    pthread_mutex_unlock(&s->mutex);
    return all;
}

/* ---- the program's side --------------------------------------------------------------------------- */

/* Returns 0 or the errno. */
static inline int nm_files_init(nm_small_files *s) {
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    pthread_mutex_init(&s->mutex, NULL);
    s->date_s = -1;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    s->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    s->news = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->epoll < 0 || s->wake < 0 || s->news < 0) return errno;
    return epoll_ctl(s->epoll, EPOLL_CTL_ADD, s->wake, &event) == 0 ? 0 : errno;
}

/* Adds a non-blocking connection, which belongs to this object from now on. Returns 0 or the errno. */
static inline int nm_files_add(nm_small_files *s, int fd) {
    const int on = 1;
    nm_file_client *c = calloc(1, sizeof *c);
    if (c == NULL) return ENOMEM;
    c->fd = fd;
    /* as aiohttp sets them; best effort */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
    __atomic_fetch_add(&s->open, 1, __ATOMIC_RELAXED);
    nm_files_pass(s, &s->added, c, s->wake);
    return 0;
}

/* Returns the connections that were handed over: nm_file_release() for each of them. */
static inline nm_file_client *nm_files_handed(nm_small_files *s) {
    uint64_t count;
    if (read(s->news, &count, sizeof count) < 0 && errno != EAGAIN) return NULL;
    return nm_files_take(s, &s->handed);
}

/* Frees a client that is in no list, but not its connection. Returns the next one. */
static inline nm_file_client *nm_file_release(nm_small_files *s, nm_file_client *c) {
    nm_file_client *next = c->next;
    free(c);
    __atomic_fetch_sub(&s->open, 1, __ATOMIC_RELAXED);
    return next;
}

/* Makes nm_files_run() return. */
static inline void nm_files_stop(nm_small_files *s) {
    const uint64_t one = 1;
    NM_RELEASE(&s->stop, 1);
    if (write(s->wake, &one, sizeof one) < 0) return; /* full: it is awake already */
}

/* Closes everything. Only when the thread has ended, or never began. */
static inline void nm_files_close(nm_small_files *s) {
    nm_file_clients *const lists[] = {&s->added, &s->handed, &s->idle, &s->sending};
    int *const own[] = {&s->epoll, &s->wake, &s->news};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        for (nm_file_client *c = nm_files_take(s, lists[i]); c != NULL;) {
            close(c->fd);
            c = nm_file_release(s, c);
        }
    for (size_t i = 0; i < sizeof own / sizeof *own; i++) {
        if (*own[i] >= 0) close(*own[i]);
        *own[i] = -1;
    }
}

static inline void nm_files_destroy(nm_small_files *s) {
    nm_files_close(s);
    pthread_mutex_destroy(&s->mutex);
}

/* ---- the thread's side ---------------------------------------------------------------------------- */

/* Takes a client's connection out of the epoll set. close() alone does not while a child process that the
 * program has forked holds the connection, too (epoll(7)): its events would name a client that is freed. */
static inline void nm_files_forget(nm_small_files *s, nm_file_client *c) {
    if (c->events) (void)epoll_ctl(s->epoll, EPOLL_CTL_DEL, c->fd, NULL);
    c->events = 0;
}

static inline void nm_files_drop(nm_small_files *s, nm_file_client *c) {
    nm_file_remove(c);
    nm_files_forget(s, c);
    close(c->fd);
    (void)nm_file_release(s, c);
}

/* Gives a connection back to the program. */
static inline void nm_files_hand_over(nm_small_files *s, nm_file_client *c) {
    nm_assert(c->list == &s->idle);
    nm_file_remove(c);
    nm_files_forget(s, c);
    nm_files_pass(s, &s->handed, c, s->news);
}

/* Waits for an event of a client. Returns 0 or the errno. */
static inline int nm_files_wait_for(nm_small_files *s, nm_file_client *c, uint32_t events) {
    struct epoll_event e = {.events = events, .data.ptr = c};
    if (c->events == events) return 0;
    if (epoll_ctl(s->epoll, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &e) != 0) return errno;
    c->events = events;
    return 0;
}

static inline void nm_file_put(nm_file_client *c, const char *text, size_t length) {
    nm_assert(c->head_bytes + length <= sizeof c->head);
    memcpy(c->head + c->head_bytes, text, length);
    c->head_bytes += (uint32_t)length;
}

/* Formats the date of responses (RFC 9110, 5.6.7), once a second. */
static inline void nm_files_date(nm_small_files *s) {
    static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
    static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                     "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
    struct timespec t = {0};
    struct tm u = {0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (t.tv_sec == s->date_s) return;
    s->date_s = t.tv_sec;
    (void)gmtime_r(&t.tv_sec, &u);
    (void)strftime(s->date, sizeof s->date, "---, %d --- %Y %H:%M:%S GMT", &u); /* without the locale */
    memcpy(s->date, days[u.tm_wday % 7], 3);
    memcpy(s->date + 8, months[u.tm_mon % 12], 3);
}

/* Writes the head of a response. */
static inline void nm_files_begin(nm_small_files *s, nm_file_client *c, const nm_file_request *r) {
    char digits[10];
    uint32_t left = r->size, at = sizeof digits;
    do digits[--at] = (char)('0' + left % 10);
    while ((left /= 10) > 0);
    nm_files_date(s);
    c->head_bytes = c->sent = 0;
    nm_file_put(c, s->before, s->before_bytes);
    nm_file_put(c, digits + at, sizeof digits - at);
    nm_file_put(c, s->between, s->between_bytes);
    nm_file_put(c, s->date, strlen(s->date));
    nm_file_put(c, s->after, s->after_bytes);
    c->all_bytes = c->head_bytes + (r->no_body ? 0 : r->size);
}

/* Sends what the kernel takes of the rest of a response. Returns 1: all was sent; 0: wait; -1: the client
 * has left. */
static inline int nm_files_send(nm_small_files *s, nm_file_client *c) {
    while (c->sent < c->all_bytes) {
        uint32_t of_head = c->sent < c->head_bytes ? c->head_bytes - c->sent : 0;
        uint32_t of_body = c->sent + of_head - c->head_bytes; /* where the body goes on */
        struct iovec parts[2] = {
            {c->head + (c->head_bytes - of_head), of_head},
            {(void *)(uintptr_t)(s->content + of_body), c->all_bytes - c->head_bytes - of_body}};
        struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
        c->sent += (uint32_t)n;
    }
    NM_ADD(&s->answered, 1);
    return 1;
}

/* Begins a wait, at the end of the list whose waits last so long. */
static inline void nm_files_await(nm_small_files *s, nm_file_client *c, nm_file_clients *list,
                                  int64_t duration_ns) {
    nm_file_remove(c);
    c->until_ns = nm_add_ns(s->now_ns, duration_ns);
    nm_file_append(list, c);
}

/* Answers the next request. Returns whether the client has another one already. */
static inline int nm_files_answer(nm_small_files *s, nm_file_client *c) {
    char data[NM_FILE_HEAD_BYTES];
    nm_file_request r;
    ssize_t n, all = recv(c->fd, data, sizeof data, MSG_PEEK | MSG_DONTWAIT);
    int sent;
    if (all < 0 && (errno == EAGAIN || errno == EWOULDBLOCK || errno == EINTR)) return 0;
    if (all <= 0) { /* the client has left */
        nm_files_drop(s, c);
        return 0;
    }
    if (!nm_file_parse(data, (size_t)all, s->most, &r)) {
        nm_files_hand_over(s, c);
        return 0;
    }
    do n = recv(c->fd, data, r.head_bytes, MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n != (ssize_t)r.head_bytes) { /* they were there: the connection was reset meanwhile */
        nm_files_drop(s, c);
        return 0;
    }
    nm_files_begin(s, c, &r);
    sent = nm_files_send(s, c);
    if (sent > 0)
        nm_files_await(s, c, &s->idle, s->idle_ns);
    else if (sent == 0 && nm_files_wait_for(s, c, EPOLLOUT) == 0)
        nm_files_await(s, c, &s->sending, s->stall_ns);
    else
        nm_files_drop(s, c);
    return sent > 0 && all > n;
}

/* Handles an event of a client. */
static inline void nm_files_serve(nm_small_files *s, nm_file_client *c) {
    if (c->list == &s->sending) {
        int sent = nm_files_send(s, c);
        if (sent == 0) return;
        if (sent < 0 || nm_files_wait_for(s, c, EPOLLIN) != 0)
            nm_files_drop(s, c);
        else
            nm_files_await(s, c, &s->idle, s->idle_ns);
        return;
    }
    for (int turn = 0; turn < NM_FILES_TURNS; turn++)
        if (!nm_files_answer(s, c)) return;
}

/* Begins to serve the connections that the program has added. */
static inline void nm_files_admit(nm_small_files *s) {
    uint64_t count;
    nm_file_client *c, *next;
    if (read(s->wake, &count, sizeof count) < 0 && errno != EAGAIN) return;
    for (c = nm_files_take(s, &s->added); c != NULL; c = next) {
        next = c->next;
        c->until_ns = nm_add_ns(s->now_ns, s->idle_ns);
        nm_file_append(&s->idle, c);
        if (nm_files_wait_for(s, c, EPOLLIN) != 0) nm_files_hand_over(s, c); /* there is no memory */
    }
}

/* Ends waits that are over. */
static inline void nm_files_look(nm_small_files *s) {
    nm_file_clients *const lists[] = {&s->idle, &s->sending};
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        while (lists[i]->first != NULL && lists[i]->first->until_ns <= s->now_ns)
            nm_files_drop(s, lists[i]->first);
}

/* Returns for how long to wait for events (ms, -1: without end). */
static inline int nm_files_rest(const nm_small_files *s) {
    const nm_file_clients *const lists[] = {&s->idle, &s->sending};
    int64_t until = INT64_MAX, ms;
    for (size_t i = 0; i < sizeof lists / sizeof *lists; i++)
        if (lists[i]->first != NULL && lists[i]->first->until_ns < until)
            until = lists[i]->first->until_ns;
    if (until == INT64_MAX) return -1;
    if (until <= s->now_ns) return 0;
    ms = (until - s->now_ns) / 1000000 + 1; /* not before it is over */
    return ms < INT_MAX ? (int)ms : INT_MAX;
}

/* Serves until nm_files_stop(). */
static inline void nm_files_run(nm_small_files *s) {
    struct epoll_event events[NM_FILES_EVENTS];
    s->now_ns = nm_now();
    while (!NM_ACQUIRE(&s->stop)) {
        int count = epoll_wait(s->epoll, events, NM_FILES_EVENTS, nm_files_rest(s)), i;
        s->now_ns = nm_now();
        for (i = 0; i < count; i++) {
            if (events[i].data.ptr == NULL)
                nm_files_admit(s);
            else
                nm_files_serve(s, events[i].data.ptr);
        }
        nm_files_look(s);
    }
}

#endif
