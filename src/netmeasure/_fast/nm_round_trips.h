/* Round trips on one TCP connection: a requester that times each transaction, and the responder. (By
 * UDP: nm_datagram_trips.h.)
 *
 * A transaction is timed from just before its request is passed to the kernel to just after the
 * last byte of its response was read. At a set rate it is timed from the moment when it was due, if
 * it had to wait for an earlier response (otherwise a slow response would hide the waits behind it:
 * "coordinated omission"). If only this thread woke up late, it is timed from its sending: such
 * delays of this host are not the network's, and are reported separately.
 */
#ifndef NM_ROUND_TRIPS_H
#define NM_ROUND_TRIPS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll() */
#endif
#include <poll.h>

#include "nm_latencies.h"
#include "nm_socket.h"
#include "nm_stream.h"

/* A blocked call looks at the orders to leave this often. */
#define NM_ROUND_TRIPS_POLL_NS 100000000

typedef struct {
    uint32_t request_bytes; /* at least 1, as are the others */
    uint32_t response_bytes;
    uint32_t in_flight; /* requests that may wait for their responses at a time */
    int64_t duration_ns; /* 0: until stop or budget */
    int64_t omit_ns;
    int64_t drain_ns; /* how long the last responses are waited for */
    int64_t lost_after_ns; /* UDP: a request without a response for so long is lost */
    double period_ns; /* between two requests; 0: the next one leaves when a response has come */
} nm_round_trip_options;

typedef struct {
    nm_stream *own;
    nm_group *group;
    const nm_round_trip_options *options;
    int fd;
    const char *payload; /* one request */
    char *buffer;
    size_t buffer_bytes;
    int64_t *began_ns; /* a ring of `in_flight` moments */
    nm_latencies latencies;
    /* published */
    uint64_t begun;    /* requests of which at least a part was sent */
    uint64_t answered;
    uint64_t lost;     /* UDP: had no response in time; omitted ones included */
    uint64_t skipped;  /* were due and had not been sent when the time was over */
    uint64_t late;     /* sent late by this thread's own fault */
    int64_t latest_ns; /* the latest of these */
    /* the thread's own */
    int64_t zero_ns, deadline_ns;
    int sending;      /* a request is being sent: */
    uint32_t offset;  /* so many bytes of it have been */
    uint64_t partial; /* bytes of the next response that have come */
    int full;         /* the kernel took no more of a request */
    int held;         /* the next request was due and waited for the peer */
} nm_requester;

static inline uint64_t nm_round_trips_open(const nm_requester *r) {
    return r->begun - r->answered - r->lost;
}

static inline int nm_requester_paced(const nm_requester *r) { return r->options->period_ns > 0; }

/* Returns when the next request is due at a set rate. */
static inline int64_t nm_request_due(const nm_requester *r) {
    return nm_add_ns(r->zero_ns, (int64_t)((double)r->begun * r->options->period_ns));
}

static inline int nm_requester_told(nm_requester *r, int64_t now) {
    if (nm_aborting(r->group))
        nm_stream_reason(r->own, NM_ABORTED);
    else if (nm_stopping(r->group))
        nm_stream_reason(r->own, NM_STOPPED);
    else if (r->deadline_ns && now >= r->deadline_ns)
        nm_stream_reason(r->own, NM_DEADLINE);
    else
        return 0;
    return 1;
}

/* Takes a request from what may leave now. Returns the moment from which it is timed; 0: none may. */
static inline int64_t nm_request_take(nm_requester *r, int64_t now) {
    int64_t from = now;
    if (nm_requester_paced(r)) {
        int64_t due = nm_request_due(r);
        if (due > now) r->held = 0;
        if (due > now || (r->deadline_ns && due >= r->deadline_ns)) return 0;
        if (nm_round_trips_open(r) >= r->options->in_flight) r->held = 1;
        if (r->held) {
            from = due;
        } else if (now > due) {
            NM_ADD(&r->late, 1);
            if (now - due > r->latest_ns) NM_STORE(&r->latest_ns, now - due);
        }
    }
    if (nm_round_trips_open(r) >= r->options->in_flight) return 0;
    if (nm_claim(r->group, r->options->request_bytes) < r->options->request_bytes) {
        nm_stream_reason(r->own, NM_BUDGET);
        return 0;
    }
    return from;
}

/* Begins a request if one may leave now. Returns whether it did. */
static inline int nm_request_begin(nm_requester *r, int64_t now) {
    int64_t from = nm_request_take(r, now);
    if (from == 0) return 0;
    r->began_ns[r->begun % r->options->in_flight] = from;
    r->sending = 1;
    NM_ADD(&r->begun, 1);
    return 1;
}

/* Sends the rest of the request that is being sent. Returns whether the kernel took all of it. */
static inline int nm_request_rest(nm_requester *r) {
    uint32_t size = r->options->request_bytes;
    while (r->sending) {
        ssize_t n = send(r->fd, r->payload + r->offset, size - r->offset, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        r->full = n < 0;
        if (n < 0) {
            r->held = 1; /* what is due meanwhile waits for the peer, not for us */
            if (errno != EAGAIN && errno != EWOULDBLOCK) nm_stream_broken(r->own, r->group, errno);
            return 0;
        }
        NM_ADD(&r->own->calls, 1);
        NM_ADD(&r->own->bytes, (uint64_t)n);
        r->offset += (uint32_t)n;
        if (r->offset == size) r->offset = 0, r->sending = 0;
    }
    return 1;
}

/* Sends what may leave now. A request that the kernel takes no more of goes on later. */
static inline void nm_requester_send(nm_requester *r, int64_t now) {
    while ((r->sending || nm_request_begin(r, now)) && nm_request_rest(r))
        if (r->options->in_flight > 1) now = nm_now();
}

/* Books a response as complete at a moment. */
static inline void nm_request_book(nm_requester *r, int64_t now, int64_t latency) {
    NM_ADD(&r->answered, 1);
    nm_latencies_book(&r->latencies, r->own, r->group, r->options->omit_ns, r->options->request_bytes,
                      now, latency);
}

/* Books the next response: TCP keeps their order. */
static inline void nm_request_answered(nm_requester *r, int64_t now) {
    nm_request_book(r, now, now - r->began_ns[r->answered % r->options->in_flight]);
}

/* Waits until there is something to do, but for no longer than `until`. Returns whether bytes came. */
static inline int nm_requester_wait(nm_requester *r, int64_t now, int64_t until) {
    struct pollfd p = {r->fd, (short)(POLLIN | (r->full ? POLLOUT : 0)), 0};
    struct timespec t;
    int64_t left = until - now;
    if (left > NM_ROUND_TRIPS_POLL_NS) left = NM_ROUND_TRIPS_POLL_NS;
    if (left < 0) left = 0;
    t.tv_sec = left / NM_SECOND_NS;
    t.tv_nsec = left % NM_SECOND_NS;
    return ppoll(&p, 1, &t, NULL) > 0 && (p.revents & ~POLLOUT);
}

/* Books what recv() has returned, at the moment after. */
static inline void nm_requester_took(nm_requester *r, ssize_t n, int64_t now) {
    uint32_t size = r->options->response_bytes;
    if (n == 0) {
        nm_stream_broken(r->own, r->group, ECONNRESET); /* the responder left before the requester */
    } else if (n < 0) {
        if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR)
            nm_stream_broken(r->own, r->group, errno);
    } else {
        r->partial += (uint64_t)n;
        while (r->partial >= size && nm_round_trips_open(r) > 0) {
            r->partial -= size;
            nm_request_answered(r, now);
        }
        if (r->partial > 0 && nm_round_trips_open(r) == 0) /* more than was asked for */
            nm_stream_broken(r->own, r->group, EPROTO);
    }
}

/* Reads what has come, or waits for it where nothing else can be done. Returns the moment after. */
static inline int64_t nm_requester_receive(nm_requester *r, int64_t now, int64_t until) {
    int flags = 0;
    ssize_t n;
    if (r->full || nm_requester_paced(r) || nm_round_trips_open(r) == 0) {
        if (!nm_requester_wait(r, now, until)) return nm_now();
        flags = MSG_DONTWAIT;
    }
    n = recv(r->fd, r->buffer, r->buffer_bytes, flags);
    now = nm_now();
    nm_requester_took(r, n, now);
    return now;
}

/* Waits for the responses that are still to come, and for room for the rest of a request. */
static inline void nm_requester_drain(nm_requester *r, int64_t now) {
    int64_t until = nm_add_ns(now, r->options->drain_ns);
    while (nm_round_trips_open(r) > 0 && now < until && !nm_aborting(r->group)) {
        if (!nm_request_rest(r) && !r->full) return;
        if (r->own->reason == NM_ERROR) return;
        now = nm_requester_receive(r, now, until);
    }
}

/* Waits at the gate, then gets ready to send. Returns the moment; the reason says whether to go on. */
static inline int64_t nm_requester_start(nm_requester *r, int64_t wake_ns) {
    nm_stream *own = r->own;
    int64_t now;
    int code;
    r->zero_ns = nm_gate_wait(r->group);
    if (r->zero_ns == 0) {
        nm_stream_reason(own, nm_aborting(r->group) ? NM_ABORTED : NM_STOPPED);
        return 0;
    }
    if (nm_requester_paced(r)) (void)nm_timer_slack(1);
    if (r->options->duration_ns > 0)
        r->deadline_ns = nm_add_ns(r->zero_ns, r->options->duration_ns);
    now = nm_now();
    NM_STORE(&own->first_ns, now);
    code = nm_timeout(r->fd, SO_RCVTIMEO, wake_ns);
    if (code)
        nm_stream_broken(own, r->group, code);
    else
        nm_stream_reason(own, NM_RUNNING);
    return now;
}

/* Returns until when to wait for responses: the next request may be due earlier than `until`. */
static inline int64_t nm_requester_until(const nm_requester *r, int64_t until) {
    if (nm_requester_paced(r) && nm_round_trips_open(r) < r->options->in_flight &&
        nm_request_due(r) < until)
        until = nm_request_due(r);
    return r->deadline_ns && r->deadline_ns < until ? r->deadline_ns : until;
}

/* Notes when the last request was sent, and how many were due by then and had not been. */
static inline void nm_requester_sent_all(nm_requester *r, int64_t now) {
    NM_STORE(&r->own->ended_ns, now);
    if (nm_requester_paced(r) && r->own->reason == NM_DEADLINE) {
        uint64_t due = (uint64_t)((double)r->options->duration_ns / r->options->period_ns);
        if (due > r->begun) NM_STORE(&r->skipped, due - r->begun);
    }
}

/* Sends requests until something ends that, then waits for the last responses and says FIN. */
static inline void nm_request_all(nm_requester *r) {
    nm_stream *own = r->own;
    int64_t now = nm_requester_start(r, NM_ROUND_TRIPS_POLL_NS);
    if (r->zero_ns == 0) return;
    while (own->reason == NM_RUNNING && !nm_requester_told(r, now)) {
        int64_t until = nm_add_ns(now, NM_ROUND_TRIPS_POLL_NS);
        nm_requester_send(r, now);
        if (own->reason != NM_RUNNING) break;
        now = nm_requester_receive(r, now, nm_requester_until(r, until));
        nm_stream_sample(own, r->fd, now);
    }
    now = nm_now();
    nm_requester_sent_all(r, now);
    if (own->reason != NM_ERROR && own->reason != NM_ABORTED) {
        nm_requester_drain(r, now);
        (void)shutdown(r->fd, SHUT_WR);
    }
    nm_sample_take(&own->sampling, own->sample, r->fd, nm_now());
}

/* ---- the responder ------------------------------------------------------------------------------ */

typedef struct {
    nm_stream *own; /* `bytes`: read; `acked`: written */
    nm_group *group;
    int fd;
    uint32_t request_bytes, response_bytes;
    const char *payload; /* responses, one after the other */
    size_t payload_bytes; /* a multiple of response_bytes */
    char *buffer;
    size_t buffer_bytes;
    /* the thread's own */
    int64_t stop_ns;  /* when it leaves, after the order to stop */
    uint64_t partial; /* bytes of the next request that have come */
    uint64_t owed;    /* bytes of responses that are still to be written, */
    uint64_t at;      /* from this one of `payload` on */
} nm_responder;

/* Sets the reason where a responder is to leave: at once where nothing has come, and a while after the
 * order else, for a requester need not end. */
static inline void nm_responder_told(nm_stream *own, const nm_group *g, int came, int64_t *stop_ns,
                                     int64_t now) {
    if (own->reason != NM_RUNNING) return;
    if (nm_aborting(g)) {
        nm_stream_reason(own, NM_ABORTED);
    } else if (nm_stopping(g)) {
        if (*stop_ns == 0) *stop_ns = nm_add_ns(now, NM_SECOND_NS);
        if (!came || now >= *stop_ns) nm_stream_reason(own, NM_STOPPED);
    }
}

/* Writes so many responses. It sets the reason where the loop is to end. */
static inline void nm_respond(nm_responder *r, uint64_t count) {
    uint64_t left = count * r->response_bytes, at = 0;
    while (left > 0) {
        uint64_t piece = r->payload_bytes - at;
        ssize_t n = send(r->fd, r->payload + at, piece < left ? piece : left, MSG_NOSIGNAL);
        if (n < 0 && errno != EINTR && errno != EAGAIN && errno != EWOULDBLOCK) {
            nm_stream_broken(r->own, r->group, errno);
            return;
        }
        if (n > 0) {
            at = (at + (uint64_t)n) % r->payload_bytes;
            left -= (uint64_t)n;
            NM_ADD(&r->own->acked, (uint64_t)n);
        }
        if (nm_aborting(r->group) || nm_stopping(r->group))
            nm_responder_told(r->own, r->group, n > 0, &r->stop_ns, nm_now());
        if (r->own->reason != NM_RUNNING) return;
    }
}

/* Answers each request with a response, to the end of the stream. */
static inline void nm_respond_all(nm_responder *r) {
    nm_stream *own = r->own;
    uint64_t partial = 0;
    int64_t now;
    int code = nm_timeout(r->fd, SO_RCVTIMEO, NM_ROUND_TRIPS_POLL_NS);
    if (code == 0) code = nm_timeout(r->fd, SO_SNDTIMEO, NM_ROUND_TRIPS_POLL_NS);
    if (code)
        nm_stream_broken(own, r->group, code);
    else
        nm_stream_reason(own, NM_RUNNING);
    while (own->reason == NM_RUNNING) {
        ssize_t n = recv(r->fd, r->buffer, r->buffer_bytes, 0);
        now = nm_now();
        if (n > 0) {
            uint64_t whole;
            partial += (uint64_t)n;
            whole = partial / r->request_bytes;
            partial %= r->request_bytes;
            if (own->first_ns == 0) NM_STORE(&own->first_ns, now);
            nm_respond(r, whole); /* first: what follows is not to delay it */
            NM_ADD(&own->calls, 1);
            nm_stream_count(own, now, (uint64_t)n, 0);
        } else if (n == 0) {
            nm_stream_reason(own, NM_EOF);
        } else if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EINTR) {
            nm_stream_broken(own, r->group, errno);
        }
        nm_stream_sample(own, r->fd, now); /* without data, too: a gap would be a pause of this host */
        nm_responder_told(own, r->group, n > 0, &r->stop_ns, now);
    }
    NM_STORE(&own->ended_ns, nm_now());
    nm_sample_take(&own->sampling, own->sample, r->fd, nm_now());
}

#endif
