/* Answers transactions that come on a fresh connection each (netperf's TCP_CRR), from one thread: it accepts
 * a connection, reads one request, writes one response, and closes. nm_requests.h is the other end; for
 * connections that stay open, see nm_round_trips.h.
 *
 * This end closes first. So TIME-WAIT (RFC 9293, 3.6.1) is here, where it takes no port: all connections
 * have the listener's. A new connection from the same port of the client replaces it, for its time stamps
 * and its sequence numbers are later (RFC 6191). The kernel also bounds their number
 * (tcp_max_tw_buckets), and may drop them without harm.
 *
 * Strangers: only connections from the host of the client are served, and only requests that begin with
 * the token of the test, where they are long enough for it. The rest is closed, and counts nowhere. A
 * connection whose request does not come loses its place after a while, or when places are short.
 */
#ifndef NM_FRESH_RESPONDER_H
#define NM_FRESH_RESPONDER_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* accept4() */
#endif
#include <errno.h>
#include <netinet/in.h>
#include <stdint.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nm_round_trips.h"
#include "nm_stream.h"

enum { NM_FRESH_EVENTS = 256 }; /* taken from the kernel at a time */
#define NM_FRESH_LOOK_NS 100000000 /* orders to leave and time-outs are looked at this often */
#define NM_FRESH_SHORT_NS 1000000  /* a rest where this host has no descriptor or memory */
#define NM_FRESH_BRISK_NS 10000000 /* accept4() itself waits for the next connection, for so long */

typedef struct {
    int fd;
    uint32_t got;      /* bytes of the request */
    uint32_t sent;     /* bytes of the response */
    uint32_t events;   /* that are waited for; 0: it is not in the epoll set */
    uint64_t order;    /* of its acceptance */
    int64_t until_ns;  /* when waiting for it ends */
} nm_guest;

typedef struct {
    nm_stream *own;  /* `bytes`: whole requests; `acked`: written */
    nm_group *group;
    int fd;          /* the stream's own connection: its end says that no more transactions come */
    int listener;
    struct sockaddr_storage peer; /* the host that is served */
    const char *token;
    uint32_t token_bytes; /* 0: requests are too short for it */
    uint32_t request_bytes, response_bytes;
    const char *payload; /* one response */
    char *buffer;
    size_t buffer_bytes;
    int64_t patience_ns; /* how long a connection may make no progress */
    nm_guest *guest;     /* `places` of them */
    uint32_t *vacant;    /* their numbers, `vacant_count` of them */
    uint32_t places, vacant_count;
    struct epoll_event *event;
    /* published */
    uint64_t accepted;  /* connections from the peer's host */
    uint64_t answered;  /* whole responses */
    uint64_t strangers; /* connections from elsewhere, or without the token */
    /* the thread's own */
    int epoll;
    int64_t now_ns, look_ns;
    int64_t brisk_ns; /* until when accept4() may wait, rather than epoll_wait() */
} nm_fresh_responder;

/* Returns whether two addresses are of the same host. */
static inline int nm_same_host(const struct sockaddr_storage *a, const struct sockaddr_storage *b) {
    if (a->ss_family != b->ss_family) return 0;
    if (a->ss_family == AF_INET)
        return ((const struct sockaddr_in *)a)->sin_addr.s_addr ==
               ((const struct sockaddr_in *)b)->sin_addr.s_addr;
    return memcmp(&((const struct sockaddr_in6 *)a)->sin6_addr,
                  &((const struct sockaddr_in6 *)b)->sin6_addr, sizeof(struct in6_addr)) == 0;
}

/* Closes a connection. That alone does not take it out of the epoll set while a child process that the
 * program has forked holds it, too (epoll(7)): its place would have events without end. */
static inline void nm_guest_close(nm_fresh_responder *r, nm_guest *g) {
    nm_assert(r->vacant_count < r->places && g->fd >= 0);
    if (g->events) (void)epoll_ctl(r->epoll, EPOLL_CTL_DEL, g->fd, NULL);
    close(g->fd);
    g->fd = -1;
    r->vacant[r->vacant_count++] = (uint32_t)(g - r->guest);
}

/* Waits for an event of a connection. */
static inline void nm_guest_wait(nm_fresh_responder *r, nm_guest *g, uint32_t events) {
    struct epoll_event e = {.events = events};
    e.data.u64 = (uint64_t)(g - r->guest);
    if (g->events == events) return;
    if (epoll_ctl(r->epoll, g->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, g->fd, &e) == 0)
        g->events = events;
    else
        nm_guest_close(r, g);
}

/* Writes what is left of a response, then closes. */
static inline void nm_guest_answer(nm_fresh_responder *r, nm_guest *g) {
    while (g->sent < r->response_bytes) {
        ssize_t n = send(g->fd, r->payload + g->sent, r->response_bytes - g->sent,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            nm_guest_wait(r, g, EPOLLOUT);
            return;
        }
        if (n < 0) break; /* the client has left: it counts that */
        g->sent += (uint32_t)n;
        NM_ADD(&r->own->acked, (uint64_t)n);
    }
    if (g->sent == r->response_bytes) NM_ADD(&r->answered, 1);
    nm_guest_close(r, g);
}

/* Returns whether so many bytes, the next of a request, are as the test's token has them. */
static inline int nm_guest_known(const nm_fresh_responder *r, const nm_guest *g, size_t n) {
    if (g->got >= r->token_bytes) return 1;
    if (n > r->token_bytes - g->got) n = r->token_bytes - g->got;
    return memcmp(r->buffer, r->token + g->got, n) == 0;
}

/* Reads what has come of a request, and answers it where it is whole. */
static inline void nm_guest_serve(nm_fresh_responder *r, nm_guest *g) {
    g->until_ns = nm_add_ns(r->now_ns, r->patience_ns);
    while (g->got < r->request_bytes) {
        size_t left = r->request_bytes - g->got;
        ssize_t n = recv(g->fd, r->buffer, left < r->buffer_bytes ? left : r->buffer_bytes, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            nm_guest_wait(r, g, EPOLLIN);
            return;
        }
        if (n <= 0) {
            nm_guest_close(r, g);
            return;
        }
        if (!nm_guest_known(r, g, (size_t)n)) {
            NM_ADD(&r->strangers, 1);
            nm_guest_close(r, g);
            return;
        }
        g->got += (uint32_t)n;
        if (g->got == r->request_bytes) {
            int64_t now = nm_now();
            if (r->own->first_ns == 0) NM_STORE(&r->own->first_ns, now);
            NM_ADD(&r->own->calls, 1);
            nm_stream_count(r->own, now, r->request_bytes, 0);
        }
    }
    nm_guest_answer(r, g);
}

/* Closes the oldest connection whose request is not whole, where all places are taken; else the oldest. */
static inline void nm_fresh_make_room(nm_fresh_responder *r) {
    nm_guest *oldest = NULL;
    uint32_t i;
    if (r->vacant_count > 0) return;
    for (i = 0; i < r->places; i++) {
        nm_guest *g = &r->guest[i];
        int waits = g->got < r->request_bytes;
        int other = oldest != NULL && oldest->got < r->request_bytes;
        if (oldest == NULL || waits > other || (waits == other && g->order < oldest->order))
            oldest = g;
    }
    if (oldest != NULL) nm_guest_close(r, oldest);
}

/* Accepts a connection, and serves it where its request has come. Only one: if there are more, there is
 * another event, which costs less than a try that finds none. Returns whether there was one. */
static inline int nm_fresh_accept(nm_fresh_responder *r) {
    struct sockaddr_storage from;
    socklen_t length = sizeof from;
    nm_guest *g;
    int fd = accept4(r->listener, (struct sockaddr *)&from, &length, SOCK_NONBLOCK | SOCK_CLOEXEC);
    r->now_ns = nm_now();
    if (fd < 0) {
        r->brisk_ns = 0;
        /* the listener stays readable where there is no descriptor: no busy loop */
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR && errno != ECONNABORTED)
            nm_sleep(NM_FRESH_SHORT_NS);
        return 0;
    }
    if (!nm_same_host(&from, &r->peer)) {
        NM_ADD(&r->strangers, 1);
        close(fd);
        return 1;
    }
    NM_ADD(&r->accepted, 1);
    nm_fresh_make_room(r);
    g = &r->guest[r->vacant[--r->vacant_count]];
    memset(g, 0, sizeof *g);
    g->fd = fd;
    g->order = r->accepted;
    nm_guest_serve(r, g);
    return 1;
}

/* Ends connections that have made no progress for too long. */
static inline void nm_fresh_look(nm_fresh_responder *r) {
    uint32_t i;
    if (r->now_ns < r->look_ns) return;
    r->look_ns = r->now_ns + NM_FRESH_LOOK_NS;
    for (i = 0; i < r->places; i++)
        if (r->guest[i].fd >= 0 && r->now_ns >= r->guest[i].until_ns) nm_guest_close(r, &r->guest[i]);
}

/* Looks at the stream's own connection: it carries nothing but its end. */
static inline void nm_fresh_stream_event(nm_fresh_responder *r) {
    ssize_t n = recv(r->fd, r->buffer, r->buffer_bytes, MSG_DONTWAIT);
    if (n == 0)
        nm_stream_reason(r->own, NM_EOF);
    else if (n > 0)
        nm_stream_broken(r->own, r->group, EPROTO);
    else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        nm_stream_broken(r->own, r->group, errno);
}

/* Makes the epoll set of the listener and the stream's own connection. Returns 0 or the errno. */
static inline int nm_fresh_prepare(nm_fresh_responder *r) {
    struct epoll_event e = {.events = EPOLLIN};
    uint32_t i;
    int code;
    for (i = 0; i < r->places; i++) r->guest[i].fd = -1, r->vacant[i] = i;
    r->vacant_count = r->places;
    r->epoll = -1;
    code = nm_timeout(r->listener, SO_RCVTIMEO, NM_FRESH_BRISK_NS); /* of accept(), too (socket(7)) */
    if (code) return code;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll < 0) return errno;
    e.data.u64 = r->places;
    if (epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->listener, &e) != 0) return errno;
    e.data.u64 = (uint64_t)r->places + 1;
    return epoll_ctl(r->epoll, EPOLL_CTL_ADD, r->fd, &e) == 0 ? 0 : errno;
}

/* Waits for events, and handles them. Returns their number. Where connections come one soon after the
 * other and none is open, accept4() itself waits for the next one, which costs less. The others have a turn
 * every 10 ms, or as soon as none has come for so long. */
static inline int nm_fresh_wait(nm_fresh_responder *r) {
    int count, i;
    if (r->now_ns < r->brisk_ns && r->vacant_count == r->places) return nm_fresh_accept(r);
    count = epoll_wait(r->epoll, r->event, NM_FRESH_EVENTS, NM_FRESH_LOOK_NS / 1000000);
    r->now_ns = nm_now();
    r->brisk_ns = r->now_ns + NM_FRESH_BRISK_NS;
    for (i = 0; i < count; i++) {
        uint64_t number = r->event[i].data.u64;
        if (number == r->places)
            (void)nm_fresh_accept(r);
        else if (number > r->places)
            nm_fresh_stream_event(r);
        else if (r->guest[number].fd >= 0) /* else it was closed to make room */
            nm_guest_serve(r, &r->guest[number]);
    }
    return count;
}

/* Serves connections to the end of the stream's own one. */
static inline void nm_fresh_respond_all(nm_fresh_responder *r) {
    nm_stream *own = r->own;
    int64_t stop_ns = 0;
    uint32_t i;
    int code = nm_fresh_prepare(r);
    if (code)
        nm_stream_broken(own, r->group, code);
    else
        nm_stream_reason(own, NM_RUNNING);
    while (own->reason == NM_RUNNING) {
        int count = nm_fresh_wait(r);
        nm_fresh_look(r);
        nm_stream_sample(own, -1, r->now_ns);
        nm_responder_told(own, r->group, count > 0, &stop_ns, r->now_ns);
    }
    for (i = 0; i < r->places; i++)
        if (r->guest[i].fd >= 0) nm_guest_close(r, &r->guest[i]);
    if (r->epoll >= 0) close(r->epoll);
    NM_STORE(&own->ended_ns, nm_now());
    nm_sample_take(&own->sampling, own->sample, -1, nm_now());
}

#endif
