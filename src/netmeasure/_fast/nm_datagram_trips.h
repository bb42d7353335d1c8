/* Round trips by UDP: requests and responses are datagrams, any of which may be lost.
 *
 * A request carries a number, big-endian in its first 8 bytes, and its response carries the same.
 * The number identifies a place in flight and how often the place was used, so that a response to a
 * lost request is never counted as the response to a later one. A request without a response within
 * `lost_after_ns` is lost: no latency includes it, and its place is free again.
 */
#ifndef NM_DATAGRAM_TRIPS_H
#define NM_DATAGRAM_TRIPS_H

#include <endian.h>
#include <string.h>

#include "nm_round_trips.h"

#define NM_TRIP_BYTES 8 /* the number; no datagram of a test is shorter */
#define NM_TRIP_NONE UINT32_MAX
#define NM_TRIPS_AT_ONCE 64 /* responses that are read before the next requests are looked at */

typedef struct {
    uint64_t uses;
    int64_t from_ns, sent_ns;
    uint32_t before, behind; /* of the places that wait, in the order of sending */
    int waiting;
} nm_trip;

typedef struct {
    nm_requester *base; /* its payload is written to */
    nm_trip *trip;      /* in_flight places */
    uint32_t *vacant;   /* a stack of free places */
    uint32_t vacancies, oldest, newest;
    int64_t taken_ns; /* of a request that the kernel had no room for; 0: none */
    /* published */
    uint64_t lost_omitted; /* of `lost`, those sent in the omitted time */
    uint64_t late_responses; /* whose request was lost or answered before */
    uint64_t invalid_responses;
    uint64_t refused; /* requests that this host's kernel refused, or ICMP errors that came for them */
} nm_datagram_requester;

static inline void nm_trips_init(nm_datagram_requester *d) {
    uint32_t count = d->base->options->in_flight, i;
    d->oldest = d->newest = NM_TRIP_NONE;
    d->vacancies = count;
    for (i = 0; i < count; i++) d->vacant[i] = count - 1 - i;
}

static inline void nm_trip_free(nm_datagram_requester *d, uint32_t i) {
    nm_trip *t = &d->trip[i];
    if (t->before == NM_TRIP_NONE) d->oldest = t->behind; else d->trip[t->before].behind = t->behind;
    if (t->behind == NM_TRIP_NONE) d->newest = t->before; else d->trip[t->behind].before = t->before;
    t->waiting = 0;
    nm_assert(d->vacancies < d->base->options->in_flight);
    d->vacant[d->vacancies++] = i;
}

static inline void nm_trip_wait(nm_datagram_requester *d, uint32_t i, int64_t from, int64_t now) {
    nm_trip *t = &d->trip[i];
    t->from_ns = from, t->sent_ns = now, t->waiting = 1;
    t->before = d->newest, t->behind = NM_TRIP_NONE;
    if (d->newest == NM_TRIP_NONE) d->oldest = i; else d->trip[d->newest].behind = i;
    d->newest = i;
}

/* Returns whether the error is of one datagram: the network or a firewall did not take it. */
static inline int nm_trip_refused(int code) {
    return code == ECONNREFUSED || code == EHOSTUNREACH || code == ENETUNREACH || code == ENETDOWN ||
           code == EHOSTDOWN || code == EPERM || code == ENOBUFS || code == ENOPROTOOPT;
}

/* Counts requests that have waited too long as lost. */
static inline void nm_trips_expire(nm_datagram_requester *d, int64_t now) {
    nm_requester *r = d->base;
    while (d->oldest != NM_TRIP_NONE) {
        const nm_trip *t = &d->trip[d->oldest];
        if (now - t->sent_ns < r->options->lost_after_ns) return;
        if (r->options->omit_ns > 0 && t->sent_ns < r->latencies.omit_until_ns) NM_ADD(&d->lost_omitted, 1);
        NM_ADD(&r->lost, 1);
        nm_trip_free(d, d->oldest);
    }
}

/* Sends the requests that may be sent now. */
static inline void nm_trips_send(nm_datagram_requester *d, int64_t now) {
    nm_requester *r = d->base;
    for (;;) {
        uint32_t i;
        uint64_t number;
        ssize_t n;
        if (d->taken_ns == 0) d->taken_ns = nm_request_take(r, now);
        if (d->taken_ns == 0) return;
        nm_assert(d->vacancies > 0);
        i = d->vacant[d->vacancies - 1];
        number = htobe64((d->trip[i].uses + 1) * r->options->in_flight + i);
        memcpy((char *)r->payload, &number, sizeof number);
        n = send(r->fd, r->payload, r->options->request_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        r->full = n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK);
        if (r->full) {
            r->held = 1;
            return;
        }
        if (n < 0 && !nm_trip_refused(errno)) {
            nm_stream_broken(r->own, r->group, errno);
            return;
        }
        if (n < 0) NM_ADD(&d->refused, 1);
        d->trip[i].uses++;
        d->vacancies--;
        nm_trip_wait(d, i, d->taken_ns, now);
        d->taken_ns = 0;
        NM_ADD(&r->begun, 1);
        NM_ADD(&r->own->calls, 1);
        NM_ADD(&r->own->bytes, r->options->request_bytes);
        if (r->options->in_flight > 1) now = nm_now();
    }
}

/* Books a received datagram. */
static inline void nm_trip_take(nm_datagram_requester *d, size_t size, int64_t now) {
    nm_requester *r = d->base;
    uint64_t number, uses;
    uint32_t i;
    nm_trip *t;
    if (size < NM_TRIP_BYTES) return; /* the answer to a hello that was sent twice */
    if (size != r->options->response_bytes) {
        NM_ADD(&d->invalid_responses, 1);
        return;
    }
    memcpy(&number, r->buffer, sizeof number);
    number = be64toh(number);
    i = (uint32_t)(number % r->options->in_flight);
    uses = number / r->options->in_flight;
    t = &d->trip[i];
    if (uses == 0 || uses > t->uses) {
        NM_ADD(&d->invalid_responses, 1);
    } else if (uses < t->uses || !t->waiting) {
        NM_ADD(&d->late_responses, 1);
    } else {
        int64_t from = t->from_ns;
        nm_trip_free(d, i);
        nm_request_book(r, now, now - from);
    }
}

/* Books what recv() with MSG_TRUNC has returned, at the moment after. */
static inline void nm_trips_took(nm_datagram_requester *d, ssize_t n, int code, int64_t now) {
    nm_requester *r = d->base;
    if (n >= 0)
        nm_trip_take(d, (size_t)n, now);
    else if (nm_trip_refused(code))
        NM_ADD(&d->refused, 1);
    else if (code != EAGAIN && code != EWOULDBLOCK && code != EINTR)
        nm_stream_broken(r->own, r->group, code);
}

/* Reads the arrived responses, or waits for one. Returns the time afterwards. */
static inline int64_t nm_trips_receive(nm_datagram_requester *d, int64_t now, int64_t until) {
    nm_requester *r = d->base;
    int flags = 0, i;
    if (r->full || nm_requester_paced(r) || nm_round_trips_open(r) < r->options->in_flight) {
        int64_t lost = d->oldest == NM_TRIP_NONE
                           ? until
                           : nm_add_ns(d->trip[d->oldest].sent_ns, r->options->lost_after_ns);
        if (!nm_requester_wait(r, now, lost < until ? lost : until)) return nm_now();
        flags = MSG_DONTWAIT;
    }
    for (i = 0; i < NM_TRIPS_AT_ONCE; i++) {
        ssize_t n = recv(r->fd, r->buffer, r->buffer_bytes, flags | MSG_TRUNC);
        int code = n < 0 ? errno : 0;
        now = nm_now();
        nm_trips_took(d, n, code, now);
        if (n < 0 || r->options->in_flight == 1) break;
        flags = MSG_DONTWAIT;
    }
    return now;
}

/* Returns how often lost requests are looked for. */
static inline int64_t nm_trips_grain(const nm_datagram_requester *d) {
    int64_t grain = d->base->options->lost_after_ns / 10;
    return grain < NM_ROUND_TRIPS_POLL_NS ? grain : NM_ROUND_TRIPS_POLL_NS;
}

/* Waits at the gate, then gets ready to send. Returns the moment; see nm_requester_start(). */
static inline int64_t nm_trips_start(nm_datagram_requester *d) {
    nm_requester *r = d->base;
    int64_t now;
    nm_trips_init(d);
    now = nm_requester_start(r, nm_trips_grain(d));
    /* until a response has come */
    if (r->zero_ns) r->latencies.omit_until_ns = nm_add_ns(r->zero_ns, r->options->omit_ns);
    return now;
}

/* Sends requests until the test ends, then waits for the last responses. */
static inline void nm_trips_all(nm_datagram_requester *d) {
    nm_requester *r = d->base;
    nm_stream *own = r->own;
    int64_t now = nm_trips_start(d), until;
    if (r->zero_ns == 0) return;
    while (own->reason == NM_RUNNING && !nm_requester_told(r, now)) {
        nm_trips_expire(d, now);
        nm_trips_send(d, now);
        if (own->reason != NM_RUNNING) break;
        until = nm_add_ns(now, NM_ROUND_TRIPS_POLL_NS);
        now = nm_trips_receive(d, now, nm_requester_until(r, until));
        nm_stream_sample(own, -1, now);
    }
    now = nm_now();
    nm_requester_sent_all(r, now);
    until = nm_add_ns(now, r->options->drain_ns);
    while (own->reason != NM_ERROR && own->reason != NM_ABORTED && nm_round_trips_open(r) > 0 &&
           now < until && !nm_aborting(r->group)) {
        r->full = 0; /* nothing more is to be sent */
        now = nm_trips_receive(d, now, until);
        nm_trips_expire(d, now);
    }
    nm_sample_take(&own->sampling, own->sample, -1, nm_now());
}

/* ---- the responder ------------------------------------------------------------------------------ */

typedef struct {
    nm_responder *base; /* its payload is one response, and is written to */
    const char *hello;  /* what answers a datagram of `hello_bytes` that begins like this one */
    const char *hello_reply;
    size_t hello_bytes, hello_start_bytes, hello_reply_bytes;
    uint64_t invalid_requests; /* published */
} nm_datagram_responder;

/* Returns 0 where a responder may begin, or the errno. */
static inline int nm_trips_ready(const nm_datagram_responder *d) {
    int code = nm_timeout(d->base->fd, SO_RCVTIMEO, NM_ROUND_TRIPS_POLL_NS);
    return code ? code : nm_timeout(d->base->fd, SO_SNDTIMEO, NM_ROUND_TRIPS_POLL_NS);
}

/* Answers what recv() with MSG_TRUNC has returned, at the moment after. */
static inline void nm_trips_answer(nm_datagram_responder *d, ssize_t n, int code, int64_t now) {
    nm_responder *r = d->base;
    nm_stream *own = r->own;
    const int hello = n == (ssize_t)d->hello_bytes &&
                      memcmp(r->buffer, d->hello, d->hello_start_bytes) == 0;
    if (n == r->request_bytes && !hello) {
        ssize_t sent;
        memcpy((char *)r->payload, r->buffer, NM_TRIP_BYTES);
        sent = send(r->fd, r->payload, r->response_bytes, MSG_NOSIGNAL);
        if (sent < 0) code = errno;
        if (own->first_ns == 0) NM_STORE(&own->first_ns, now);
        NM_ADD(&own->calls, 1);
        nm_stream_count(own, now, (uint64_t)n, 0);
        if (sent > 0) NM_ADD(&own->acked, (uint64_t)sent);
    } else if (hello) {
        (void)send(r->fd, d->hello_reply, d->hello_reply_bytes, MSG_NOSIGNAL);
    } else if (n >= 0) {
        NM_ADD(&d->invalid_requests, 1);
    }
    if (code && !nm_trip_refused(code) && code != EAGAIN && code != EWOULDBLOCK && code != EINTR)
        nm_stream_broken(own, r->group, code);
}

/* Answers each request with a response, until it is told to leave. */
static inline void nm_trips_respond(nm_datagram_responder *d) {
    nm_responder *r = d->base;
    nm_stream *own = r->own;
    int64_t now;
    int code = nm_trips_ready(d);
    if (code)
        nm_stream_broken(own, r->group, code);
    else
        nm_stream_reason(own, NM_RUNNING);
    while (own->reason == NM_RUNNING) {
        ssize_t n = recv(r->fd, r->buffer, r->buffer_bytes, MSG_TRUNC);
        code = n < 0 ? errno : 0;
        now = nm_now();
        nm_trips_answer(d, n, code, now);
        nm_stream_sample(own, -1, now); /* without data, too: a gap would be a pause of this host */
        nm_responder_told(own, r->group, n >= 0, &r->stop_ns, now);
    }
    NM_STORE(&own->ended_ns, nm_now());
    nm_sample_take(&own->sampling, own->sample, -1, nm_now());
}

#endif
