/* Round trips on several connections in one thread, by epoll, as nm_round_trips.h and nm_datagram_trips.h have
 * them for one with blocking calls. With many connections, a thread for each of them would spend most of the
 * CPUs' time on switching between threads. Not at a set rate: each connection has times of its own there.
 *
 * Events of TCP are edge-triggered (epoll(7)): a connection is read until less than asked for has come or, if
 * its end is behind that, until the end. The first connection's buffer serves all, since what is read is only
 * counted. What comes as fast as it is read would keep the thread for ever, so the rest of it is another event.
 * Events of UDP are level-triggered, and one datagram is read for each.
 *
 * If a connection breaks, the others are aborted: the test has failed, and what waits for the thread is to know
 * at once.
 */
#ifndef NM_SHARED_TRIPS_H
#define NM_SHARED_TRIPS_H

#include <sys/epoll.h>
#include <unistd.h>

#include "nm_datagram_trips.h"
#include "nm_round_trips.h"

enum {
    NM_SHARED_EVENTS = 256, /* taken from the kernel at a time */
    NM_SHARED_READS = 16 /* of one connection before the others, the clock and orders have a turn */
};
#define NM_SHARED_FULL_NS 1000000 /* datagrams that the kernel had no room for are tried again */

/* Takes a sample of a connection when one is due; the first connection's has the thread, too. */
static inline void nm_shared_sample(nm_stream *own, int fd, int64_t now, int first) {
    if (now < own->sampling.due_ns) return;
    if (first)
        nm_sample_take(&own->sampling, own->sample, fd, now);
    else
        (void)nm_sample_socket(&own->sampling, own->sample, fd, now);
}

/* Returns whether an event tells of a connection's end, which may be behind data that are to be read. */
static inline int nm_shared_ended(const struct epoll_event *e) {
    return (e->events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0;
}

/* Asks for the events of a connection, or asks again: what is to be read tells of itself once more. Returns 0
 * or the errno. */
static inline int nm_shared_listen(int epoll, int operation, int fd, uint32_t number, int udp) {
    struct epoll_event e = {.events = EPOLLIN | (udp ? 0 : EPOLLOUT | EPOLLRDHUP | EPOLLET)};
    e.data.u32 = number;
    return epoll_ctl(epoll, operation, fd, &e) == 0 ? 0 : errno;
}

/* Waits for events until a moment, but for no longer than orders may wait. Returns their number. */
static inline int nm_shared_wait(int epoll, struct epoll_event *event, int64_t now, int64_t until) {
    int64_t left = until - now;
    if (left > NM_ROUND_TRIPS_POLL_NS) left = NM_ROUND_TRIPS_POLL_NS;
    return epoll_wait(epoll, event, NM_SHARED_EVENTS, left > 0 ? (int)((left + 999999) / 1000000) : 0);
}

/* ---- the requesters ----------------------------------------------------------------------------- */

typedef struct {
    nm_requester **r; /* `count` of them, of one group and with the same options */
    nm_datagram_requester **d; /* UDP: what they are the base of; NULL: TCP */
    uint32_t count;
    struct epoll_event *event; /* NM_SHARED_EVENTS of them */
    /* the thread's own */
    int epoll;
    int64_t look_ns; /* UDP: when lost requests, and room for others, are looked for */
    uint32_t running; /* how many of them may begin requests */
    int broken;       /* one of them has ended by an error */
} nm_requesters;

/* Counts anew, where a connection may have ended. */
static inline void nm_requesters_count(nm_requesters *s) {
    uint32_t i;
    s->running = 0;
    for (i = 0; i < s->count; i++) {
        s->running += s->r[i]->own->reason == NM_RUNNING;
        s->broken |= s->r[i]->own->reason == NM_ERROR;
    }
}

/* Sends what may leave now on a connection. */
static inline void nm_requesters_send(nm_requesters *s, uint32_t number, int64_t now) {
    nm_requester *r = s->r[number];
    if (r->own->reason == NM_RUNNING && s->d) {
        nm_trips_send(s->d[number], now);
        if (r->full && s->look_ns > now + NM_SHARED_FULL_NS) s->look_ns = now + NM_SHARED_FULL_NS;
    } else if (r->own->reason == NM_RUNNING) {
        nm_requester_send(r, now);
    } else if (r->own->reason != NM_ERROR && !s->d) {
        (void)nm_request_rest(r);
    }
    if (r->own->reason != NM_RUNNING) nm_requesters_count(s);
}

/* Reads what has come on a TCP connection, to its end if it has `ended`. Returns the moment after. */
static inline int64_t nm_requesters_read(nm_requesters *s, uint32_t number, int ended) {
    nm_requester *r = s->r[number];
    const size_t room = s->r[0]->buffer_bytes;
    int64_t now = 0;
    int reads, code;
    for (reads = 0; reads < NM_SHARED_READS; reads++) {
        ssize_t n = recv(r->fd, s->r[0]->buffer, room, MSG_DONTWAIT);
        now = nm_now();
        if (n < 0 && errno == EINTR) continue;
        nm_requester_took(r, n, now);
        if (r->own->reason == NM_ERROR || n <= 0 || (n < (ssize_t)room && !ended)) return now;
    }
    code = nm_shared_listen(s->epoll, EPOLL_CTL_MOD, r->fd, number, 0);
    if (code) nm_stream_broken(r->own, r->group, code);
    return now;
}

/* Reads one datagram. Returns the moment after. */
static inline int64_t nm_requesters_read_datagram(nm_datagram_requester *d) {
    nm_requester *r = d->base;
    ssize_t n = recv(r->fd, r->buffer, r->buffer_bytes, MSG_DONTWAIT | MSG_TRUNC);
    int code = n < 0 ? errno : 0;
    int64_t now = nm_now();
    nm_trips_took(d, n, code, now);
    return now;
}

/* UDP: counts requests that have waited too long as lost, and sends what may leave instead, when it is time. */
static inline void nm_requesters_look(nm_requesters *s, int64_t now) {
    uint32_t i;
    if (s->d == NULL || now < s->look_ns) return;
    s->look_ns = nm_add_ns(now, nm_trips_grain(s->d[0]));
    for (i = 0; i < s->count; i++) {
        nm_trips_expire(s->d[i], now);
        nm_requesters_send(s, i, nm_now()); /* not `now`: the others before took time to send */
    }
}

/* Waits for events until a moment, and handles them. Returns the moment after. */
static inline int64_t nm_requesters_wait(nm_requesters *s, int64_t now, int64_t until) {
    int i, count = nm_shared_wait(s->epoll, s->event, now,
                                  s->d && s->look_ns < until ? s->look_ns : until);
    for (i = 0; i < count; i++) {
        uint32_t number = s->event[i].data.u32;
        nm_requester *r = s->r[number];
        if (r->own->reason == NM_ERROR) continue;
        now = s->d ? nm_requesters_read_datagram(s->d[number])
                   : nm_requesters_read(s, number, nm_shared_ended(&s->event[i]));
        nm_requesters_send(s, number, now);
        nm_shared_sample(r->own, s->d ? -1 : r->fd, now, number == 0);
    }
    now = nm_now();
    nm_requesters_look(s, now);
    /* the thread's course has no gap where nothing comes */
    nm_shared_sample(s->r[0]->own, s->d ? -1 : s->r[0]->fd, now, 1);
    return now;
}

/* Waits at the gate, and asks for the events of all connections. */
static inline void nm_requesters_start(nm_requesters *s) {
    int code = 0;
    uint32_t i;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0) code = errno;
    for (i = 0; i < s->count; i++) {
        nm_requester *r = s->r[i];
        if (s->d)
            (void)nm_trips_start(s->d[i]);
        else
            (void)nm_requester_start(r, NM_ROUND_TRIPS_POLL_NS);
        if (r->own->reason != NM_RUNNING) continue;
        if (code == 0) code = nm_shared_listen(s->epoll, EPOLL_CTL_ADD, r->fd, i, s->d != NULL);
        if (code) nm_stream_broken(r->own, r->group, code);
    }
    nm_requesters_count(s);
}

/* Notes for all connections that their time is over or that they were told to leave. */
static inline void nm_requesters_told(nm_requesters *s, int64_t now) {
    uint32_t i;
    for (i = 0; i < s->count; i++)
        if (s->r[i]->own->reason == NM_RUNNING && !nm_requester_told(s->r[i], now)) return;
    nm_requesters_count(s);
}

/* Sends requests until a deadline, an order, the budget or an error ends that. */
static inline void nm_requesters_run(nm_requesters *s) {
    const int64_t until = s->r[0]->deadline_ns ? s->r[0]->deadline_ns : INT64_MAX;
    int64_t now;
    uint32_t i;
    for (i = 0; i < s->count; i++) nm_requesters_send(s, i, nm_now());
    now = nm_now();
    while (s->running > 0 && !s->broken) {
        now = nm_requesters_wait(s, now, until);
        nm_requesters_told(s, now);
    }
}

/* Waits for the last responses, and for room for the rests of requests. */
static inline void nm_requesters_drain(nm_requesters *s) {
    int64_t now = nm_now(), until = nm_add_ns(now, s->r[0]->options->drain_ns);
    while (now < until && !s->broken && !nm_aborting(s->r[0]->group)) {
        uint64_t open = 0;
        uint32_t i;
        for (i = 0; i < s->count; i++) open += nm_round_trips_open(s->r[i]);
        if (open == 0) return;
        now = nm_requesters_wait(s, now, until);
    }
}

/* Does for several connections what nm_request_all() does for one. */
static inline void nm_requesters_all(nm_requesters *s) {
    int64_t now;
    uint32_t i;
    nm_requesters_start(s);
    if (s->running > 0 && !s->broken) nm_requesters_run(s);
    now = nm_now();
    for (i = 0; i < s->count; i++)
        if (s->r[i]->zero_ns) nm_requester_sent_all(s->r[i], now);
    nm_requesters_drain(s);
    for (i = 0; i < s->count; i++) {
        nm_requester *r = s->r[i];
        if (r->zero_ns == 0) continue;
        if (s->broken && r->own->reason != NM_ERROR) nm_stream_reason(r->own, NM_ABORTED);
        if (!s->broken && r->own->reason != NM_ABORTED && !s->d) (void)shutdown(r->fd, SHUT_WR);
        r->own->sampling.due_ns = 0;
        nm_shared_sample(r->own, s->d ? -1 : r->fd, nm_now(), i == 0);
    }
    if (s->epoll >= 0) close(s->epoll);
}

/* ---- the responders ----------------------------------------------------------------------------- */

typedef struct {
    nm_responder **r; /* `count` of them, of one group and with the same sizes */
    nm_datagram_responder **d; /* UDP: what they are the base of; NULL: TCP */
    uint32_t count;
    struct epoll_event *event;
    /* the thread's own */
    int epoll;
    uint32_t running;
    int broken;
} nm_responders;

/* Counts anew, where a connection may have ended. */
static inline void nm_responders_count(nm_responders *s) {
    uint32_t i;
    s->running = 0;
    for (i = 0; i < s->count; i++) {
        s->running += s->r[i]->own->reason == NM_RUNNING;
        s->broken |= s->r[i]->own->reason == NM_ERROR;
    }
}

/* Writes what is owed, as far as the kernel takes it, in so many calls at the most. Returns whether it took all,
 * or an event will tell of room. */
static inline int nm_responder_rest(nm_responder *r, int calls) {
    for (; r->owed > 0 && calls > 0; calls--) {
        uint64_t piece = r->payload_bytes - r->at;
        ssize_t n = send(r->fd, r->payload + r->at, piece < r->owed ? piece : r->owed,
                         MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) {
            if (errno != EAGAIN && errno != EWOULDBLOCK) nm_stream_broken(r->own, r->group, errno);
            return 1;
        }
        r->at = (r->at + (uint64_t)n) % r->payload_bytes;
        r->owed -= (uint64_t)n;
        NM_ADD(&r->own->acked, (uint64_t)n);
    }
    if (r->owed == 0) r->at = 0;
    return r->owed == 0;
}

/* Reads and answers once what has come on a connection. Returns whether there may be more to do at once: an
 * event tells of the rest else. */
static inline int nm_responders_turn(nm_responders *s, uint32_t number, int ended) {
    nm_responder *r = s->r[number];
    const size_t room = s->r[0]->buffer_bytes;
    ssize_t n;
    int64_t now;
    int more;
    if (r->owed > 0) return !nm_responder_rest(r, NM_SHARED_READS) || r->owed == 0;
    n = recv(r->fd, s->r[0]->buffer, room, MSG_DONTWAIT);
    now = nm_now();
    if (n == 0) nm_stream_reason(r->own, NM_EOF);
    if (n < 0 && errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
        nm_stream_broken(r->own, r->group, errno);
    if (n <= 0) return n < 0 && errno == EINTR;
    r->partial += (uint64_t)n;
    r->owed = r->partial / r->request_bytes * r->response_bytes;
    r->partial %= r->request_bytes;
    if (r->own->first_ns == 0) NM_STORE(&r->own->first_ns, now);
    more = !nm_responder_rest(r, NM_SHARED_READS); /* first: what follows is not to delay it */
    NM_ADD(&r->own->calls, 1);
    nm_stream_count(r->own, now, (uint64_t)n, 0);
    nm_shared_sample(r->own, r->fd, now, number == 0);
    return more || (r->owed == 0 && (n == (ssize_t)room || ended));
}

/* Serves a connection of which there was an event. What is not done in some turns is another event. */
static inline void nm_responders_serve(nm_responders *s, const struct epoll_event *event) {
    const uint32_t number = event->data.u32;
    nm_responder *r = s->r[number];
    int turns = 0, more = 1;
    while (more && turns++ < NM_SHARED_READS && r->own->reason == NM_RUNNING)
        more = nm_responders_turn(s, number, nm_shared_ended(event));
    if (more && r->own->reason == NM_RUNNING) {
        int code = nm_shared_listen(s->epoll, EPOLL_CTL_MOD, r->fd, number, 0);
        if (code) nm_stream_broken(r->own, r->group, code);
    }
    if (r->own->reason != NM_RUNNING) nm_responders_count(s);
}

/* Reads one datagram, and answers it. */
static inline void nm_responders_serve_datagram(nm_responders *s, uint32_t number) {
    nm_responder *r = s->r[number];
    ssize_t n;
    int code;
    int64_t now;
    if (r->own->reason != NM_RUNNING) return;
    n = recv(r->fd, r->buffer, r->buffer_bytes, MSG_DONTWAIT | MSG_TRUNC);
    code = n < 0 ? errno : 0;
    now = nm_now();
    nm_trips_answer(s->d[number], n, code, now);
    nm_shared_sample(r->own, -1, now, number == 0);
    if (r->own->reason != NM_RUNNING) nm_responders_count(s);
}

/* Asks for the events of all connections. */
static inline void nm_responders_start(nm_responders *s) {
    int code = 0;
    uint32_t i;
    s->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (s->epoll < 0) code = errno;
    for (i = 0; i < s->count; i++) {
        nm_responder *r = s->r[i];
        nm_stream_reason(r->own, NM_RUNNING);
        if (code == 0 && s->d) code = nm_trips_ready(s->d[i]);
        if (code == 0) code = nm_shared_listen(s->epoll, EPOLL_CTL_ADD, r->fd, i, s->d != NULL);
        if (code) nm_stream_broken(r->own, r->group, code);
    }
    nm_responders_count(s);
}

/* Notes for all connections that they were told to leave; see nm_responder_told(). */
static inline void nm_responders_told(nm_responders *s, int came, int64_t now) {
    int64_t *stop_ns = &s->r[0]->stop_ns;
    uint32_t i;
    if (!nm_aborting(s->r[0]->group) && !nm_stopping(s->r[0]->group)) return;
    for (i = 0; i < s->count; i++) nm_responder_told(s->r[i]->own, s->r[i]->group, came, stop_ns, now);
    nm_responders_count(s);
}

/* Does for several connections what nm_respond_all() does for one. */
static inline void nm_responders_all(nm_responders *s) {
    int64_t now = nm_now();
    uint32_t i;
    nm_responders_start(s);
    while (s->running > 0 && !s->broken) {
        int k, count = nm_shared_wait(s->epoll, s->event, now, INT64_MAX);
        for (k = 0; k < count; k++) {
            if (s->d)
                nm_responders_serve_datagram(s, s->event[k].data.u32);
            else
                nm_responders_serve(s, &s->event[k]);
        }
        now = nm_now();
        nm_shared_sample(s->r[0]->own, s->d ? -1 : s->r[0]->fd, now, 1);
        nm_responders_told(s, count > 0, now);
    }
    for (i = 0; i < s->count; i++) {
        nm_stream *own = s->r[i]->own;
        if (own->reason == NM_RUNNING) nm_stream_reason(own, NM_ABORTED); /* another one has broken */
        NM_STORE(&own->ended_ns, now);
        own->sampling.due_ns = 0;
        nm_shared_sample(own, s->d ? -1 : s->r[i]->fd, now, i == 0);
    }
    if (s->epoll >= 0) close(s->epoll);
}

#endif
