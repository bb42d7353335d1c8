/* Requests over many connections from one thread: an epoll loop that opens connections, sends requests,
 * reads the responses and times all of it. (A single connection is waited for by ppoll() or recv(), which
 * costs less than to enter each fresh one into an epoll set.) nm_http_response.h parses the responses; those of a fixed
 * length (connect, request, response: netperf's TCP_CRR) need no parsing.
 *
 * A request is timed from just before it is passed to the kernel to just after the last byte of its
 * response was read. With a new connection for each request, it is timed from just before the
 * connection is opened. At a set rate it is timed from the moment when it was due, if no connection
 * was free then (otherwise a slow answer would hide the waits behind it: "coordinated omission").
 * If only this thread woke up late, it is timed from its sending: such delays of this host are not
 * the network's, and are reported separately.
 *
 * After a response of a fixed length, the server closes the connection first, and this end waits for
 * that before it closes. So TIME-WAIT (RFC 9293, 3.6.1) is at the server, where it costs a little memory.
 * At this end it would take one of some 28 000 local ports for a minute, and a thousand transactions per
 * second would use up all of them.
 *
 * By TLS, a connection is open when the two ends have agreed on keys: each connection has a handshake of its
 * own, which is timed from when TCP had connected them.
 *
 * Errors are counted by kind, and the loop goes on, so that a restart of the server is a part of
 * the measurement.
 */
#ifndef NM_REQUESTS_H
#define NM_REQUESTS_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll() */
#endif
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "nm_http_response.h"
#include "nm_latencies.h"
#include "nm_socket.h"
#include "nm_stream.h"
#include "nm_tls.h"

enum {
    NM_REQUESTS_EVENTS = 512,  /* taken from the kernel at a time */
    NM_REQUESTS_OPENING = 128, /* connections that are kept: so many are opened at a time, since more
                                  would overflow a listener's queue and measure that */
    NM_REQUESTS_READS = 16, /* of one connection before the others, the clock and orders have a turn */
    NM_REQUESTS_STATUSES = 600,
    NM_REQUESTS_OPTION_BYTES = 64
};
#define NM_REQUESTS_LOOK_NS 100000000 /* orders to leave and time-outs are looked at this often */
#define NM_REQUESTS_REST_NS 10000000  /* after a connection that failed */
#define NM_REQUESTS_LATE_NS 100000    /* a request that leaves so much later than due is late */
/* A SYN that was answered sooner was not sent twice: the kernel's timer has no finer grain. */
#define NM_REQUESTS_RESENT_NS 1000000

enum nm_request_error { /* the names are in requests.pyx */
    NM_ERROR_CONNECT = 0, /* no connection: refused, unreachable, no answer in time */
    NM_ERROR_LOCAL,       /* this host had no port, descriptor or memory for one */
    NM_ERROR_RESET,       /* it ended before the whole response had come */
    NM_ERROR_TIMEOUT,     /* no whole response in time */
    NM_ERROR_INVALID,     /* what came is no response */
    NM_ERROR_TLS,         /* no agreement on keys, or a certificate that is not trusted */
    NM_REQUEST_ERRORS
};

typedef struct {
    int level, name;
    uint32_t length;
    unsigned char value[NM_REQUESTS_OPTION_BYTES];
} nm_socket_option;

typedef struct {
    struct sockaddr_storage to, from;
    uint32_t to_bytes, from_bytes; /* from_bytes 0: the kernel chooses */
    const nm_socket_option *option;
    uint32_t option_count;
    const nm_tls *tls; /* NULL: nothing is encrypted */
    const char *request;
    uint32_t request_bytes;
    int no_body; /* the request is HEAD */
    uint32_t response_bytes; /* the length of a response that is no HTTP; 0: it is HTTP */
    int keep;    /* connections are used again; 0: a fresh one for each request */
    uint32_t connections;
    int64_t duration_ns; /* from when the first request may leave; 0: until stop or budget */
    int64_t omit_ns;
    int64_t drain_ns;   /* how long the last responses are waited for */
    int64_t connect_ns; /* how long a connection may take, */
    int64_t answer_ns;  /* and a response */
    double period_ns;   /* between two requests; 0: the next one leaves when a response has come */
    double phase;       /* of the period, 0 to 1: threads do not send together */
} nm_requests_options;

enum nm_link_state {
    NM_LINK_SHUT = 0, /* no socket */
    NM_LINK_OPENING,
    NM_LINK_SHAKING, /* TCP has connected it, and TLS has not */
    NM_LINK_FREE,   /* open, and no request on it */
    NM_LINK_ASKING,
    NM_LINK_ENDING /* answered: the server is to close it */
};

typedef struct {
    int fd;
    uint32_t number;   /* of its socket: a forked child may hold an earlier one, and events of that */
    uint32_t state;
    uint32_t sent;     /* bytes of the request */
    int asked;         /* a request waits for this connection to open */
    int queued;        /* it is among the free ones, or was when it broke */
    int tried;         /* its first attempt has come to an end */
    int blocking;      /* its calls may wait themselves */
    int64_t began_ns;  /* the moment from which the request is timed */
    int64_t opened_ns; /* when connect() was called */
    int64_t joined_ns; /* when TCP had connected it */
    int64_t ready_ns;  /* when the connection had come about */
    int64_t until_ns;  /* when waiting for it ends */
    void *tls;         /* its state of TLS; NULL: none */
    nm_http_response response;
} nm_link;

/* A queue of connections; each is in it once at the most. */
typedef struct {
    uint32_t *item;
    uint32_t first, count;
} nm_links;

typedef struct {
    nm_stream *own;
    nm_group *group;
    const nm_requests_options *options;
    nm_link *link; /* `connections` of them */
    nm_links free; /* kept: open and idle; fresh: shut and idle */
    nm_links shut; /* kept: to be opened at once */
    nm_links resting; /* shut after an error; `rest_ns` says until when */
    int64_t *rest_ns;
    struct epoll_event *event;
    char *buffer;
    size_t buffer_bytes;
    nm_latencies latencies;
    nm_histogram *connecting;
    nm_histogram *shaking; /* TLS */
    nm_histogram *answering; /* fresh connections: from when they were open to the whole response */
    /* published */
    uint64_t begun;
    uint64_t answered;   /* with a status below 400 */
    uint64_t rejected;   /* with a status of 400 or more; they are in no latency */
    uint64_t failed;     /* ended by an error */
    uint64_t skipped;    /* were due and had not been sent when the time was over */
    uint64_t late;       /* sent late by this thread's own fault */
    int64_t latest_ns;   /* the latest of these */
    uint64_t syn_resent; /* SYNs sent again */
    uint64_t body_bytes;
    uint64_t error[NM_REQUEST_ERRORS];
    uint64_t status[NM_REQUESTS_STATUSES];
    int32_t connect_errno; /* of the last connection that failed; 0: none has */
    int64_t tls_verify; /* of the last handshake that failed: what is wrong with the certificate; 0: nothing, */
    uint64_t tls_error; /* and OpenSSL's code */
    /* the thread's own */
    int epoll;
    int64_t zero_ns; /* when the first request might leave; 0: connections are being opened */
    int64_t deadline_ns, look_ns;
    uint32_t opening, untried;
    int spare; /* the only connection's next socket, ready to be connected; -1: none */
    int held; /* the next request was due and waited for a connection */
} nm_requests;

/* ---- queues ------------------------------------------------------------------------------------- */

static inline void nm_links_put(nm_links *q, uint32_t capacity, uint32_t i) {
    nm_assert(q->count < capacity);
    if (q->count < capacity) q->item[(q->first + q->count++) % capacity] = i;
}

static inline uint32_t nm_links_take(nm_links *q, uint32_t capacity) {
    uint32_t i = q->item[q->first];
    q->first = (q->first + 1) % capacity;
    q->count--;
    return i;
}

static inline uint32_t nm_requests_index(const nm_requests *r, const nm_link *l) {
    return (uint32_t)(l - r->link);
}

static inline void nm_requests_put(nm_requests *r, nm_links *q, const nm_link *l) {
    nm_links_put(q, r->options->connections, nm_requests_index(r, l));
}

/* ---- what is counted ---------------------------------------------------------------------------- */

static inline uint64_t nm_requests_open(const nm_requests *r) {
    return r->begun - r->answered - r->rejected - r->failed;
}

static inline int nm_requests_paced(const nm_requests *r) { return r->options->period_ns > 0; }

/* Returns whether ppoll() waits for the only connection. (OpenSSL does not say in advance whether it will
 * read or write; by epoll, edge-triggered, it need not.) */
static inline int nm_requests_single(const nm_requests *r) {
    return r->options->connections == 1 && !r->options->tls;
}

/* Returns how often time-outs are looked at: short ones more often, but no more often than costs
 * little with so many connections. */
static inline int64_t nm_requests_grain(const nm_requests_options *o) {
    int64_t shorter = o->connect_ns < o->answer_ns ? o->connect_ns : o->answer_ns;
    int64_t least = 1000000 + (int64_t)o->connections * 1000;
    shorter /= 16;
    if (shorter < least) return least < NM_REQUESTS_LOOK_NS ? least : NM_REQUESTS_LOOK_NS;
    return shorter < NM_REQUESTS_LOOK_NS ? shorter : NM_REQUESTS_LOOK_NS;
}

/* Books a whole response. */
static inline void nm_requests_book(nm_requests *r, nm_link *l, int64_t now) {
    uint32_t status = l->response.status;
    NM_ADD(&r->status[status < NM_REQUESTS_STATUSES ? status : 0], 1);
    NM_ADD(&r->body_bytes, l->response.body_bytes);
    if (status >= 400) {
        NM_ADD(&r->rejected, 1);
        return;
    }
    NM_ADD(&r->answered, 1);
    if (!r->options->keep) nm_histogram_add(r->answering, now - l->ready_ns);
    nm_latencies_book(&r->latencies, r->own, r->group, r->options->omit_ns, r->options->request_bytes,
                      now, now - l->began_ns);
}

/* Returns when the next request is due at a set rate. */
static inline int64_t nm_requests_due(const nm_requests *r) {
    double periods = (double)r->begun + r->options->phase;
    return nm_add_ns(r->zero_ns, (int64_t)(periods * r->options->period_ns));
}

/* Notes whether a request that is due has had to wait for a connection, where none is free. */
static inline void nm_requests_hold(nm_requests *r, int64_t now) {
    if (r->free.count == 0 && r->zero_ns && nm_requests_paced(r) && nm_requests_due(r) <= now)
        r->held = 1;
}

static inline void nm_requests_set_free(nm_requests *r, nm_link *l, int64_t now) {
    nm_requests_hold(r, now);
    if (!l->queued) nm_requests_put(r, &r->free, l);
    l->queued = 1;
}

/* ---- connections -------------------------------------------------------------------------------- */

/* Notes that a connection's first attempt has ended, well or not. */
static inline void nm_requests_tried(nm_requests *r, nm_link *l) {
    if (!l->tried) l->tried = 1, r->untried--;
}

/* Shuts a connection. Closing takes it out of the epoll set, unless a forked child holds it, too: what comes
 * then has an old number. */
static inline void nm_requests_shut(nm_requests *r, nm_link *l) {
    if (l->tls) nm_tls_end(r->options->tls, l->tls, l->state >= NM_LINK_FREE);
    l->tls = NULL;
    if (l->fd >= 0) close(l->fd);
    if (l->state == NM_LINK_OPENING || l->state == NM_LINK_SHAKING) r->opening--;
    l->fd = -1;
    l->state = NM_LINK_SHUT;
    l->asked = 0;
}

/* Shuts a connection that may be opened again: at once, or after a rest. */
static inline void nm_requests_renew(nm_requests *r, nm_link *l, int64_t now, int rests) {
    nm_requests_shut(r, l);
    if (rests) {
        r->rest_ns[nm_requests_index(r, l)] = nm_add_ns(now, NM_REQUESTS_REST_NS);
        nm_requests_put(r, &r->resting, l);
    } else if (r->options->keep) {
        nm_requests_put(r, &r->shut, l);
    } else {
        nm_requests_set_free(r, l, now);
    }
}

/* Ends the request on a connection by an error. */
static inline void nm_requests_fail(nm_requests *r, nm_link *l, uint32_t kind, int64_t now) {
    NM_ADD(&r->error[kind], 1);
    NM_ADD(&r->failed, 1);
    nm_requests_renew(r, l, now, 0);
}

/* Counts the SYNs that were sent again for a connection, which has come about or failed. */
static inline void nm_requests_count_resent(nm_requests *r, nm_link *l, int64_t now) {
    struct tcp_info info;
    socklen_t length = sizeof info;
    if (now - l->opened_ns < NM_REQUESTS_RESENT_NS) return;
    memset(&info, 0, sizeof info);
    if (getsockopt(l->fd, IPPROTO_TCP, TCP_INFO, &info, &length) == 0)
        NM_ADD(&r->syn_resent, info.tcpi_total_retrans);
}

static inline int nm_errno_is_local(int code) {
    return code == EADDRNOTAVAIL || code == EMFILE || code == ENFILE || code == ENOBUFS ||
           code == ENOMEM || code == ENOSPC || code == EAGAIN;
}

/* Ends an attempt to open a connection. A request that waited for it has failed with it. */
static inline void nm_requests_refused(nm_requests *r, nm_link *l, int code, int64_t now) {
    NM_STORE(&r->connect_errno, code);
    NM_ADD(&r->error[nm_errno_is_local(code) ? NM_ERROR_LOCAL : NM_ERROR_CONNECT], 1);
    if (l->state == NM_LINK_OPENING) nm_requests_count_resent(r, l, now);
    if (l->asked) NM_ADD(&r->failed, 1);
    nm_requests_tried(r, l);
    nm_requests_renew(r, l, now, 1);
}

/* Asks for a connection's events, or asks again: what is to be read tells of itself once more. A whole
 * request on a fresh connection needs no room to write. Returns 0, or -1 and an errno. */
static inline int nm_requests_listen(const nm_requests *r, const nm_link *l, int operation) {
    struct epoll_event e = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
    if (nm_requests_single(r)) return 0; /* what is waited for follows from its state */
    if (!r->options->keep && l->sent == r->options->request_bytes) e.events &= ~(uint32_t)EPOLLOUT;
    e.data.u64 = (uint64_t)l->number << 32 | nm_requests_index(r, l);
    return epoll_ctl(r->epoll, operation, l->fd, &e);
}

static inline int nm_requests_begin_at_once(nm_requests *r, nm_link *l);

/* Returns whether the calls for the only connection may wait themselves, for no longer than a grain: that
 * costs less than poll(). For responses of a fixed length, since the end of a connection is an answer there
 * that need not be told from data in advance; not at a set rate, which no call may delay; and not so late
 * that a call might wait beyond the end of the test. */
static inline int nm_requests_blocking(const nm_requests *r, int64_t now) {
    if (!nm_requests_single(r) || !r->options->response_bytes || nm_requests_paced(r)) return 0;
    return !r->deadline_ns || r->deadline_ns - now > nm_requests_grain(r->options);
}

/* Makes a socket for a connection, with all its options. Returns it, or -1 and an errno. */
static inline int nm_requests_socket(const nm_requests_options *o, int blocking) {
    int on = 1, code;
    uint32_t i;
    int fd = socket(o->to.ss_family, SOCK_STREAM | SOCK_CLOEXEC | (blocking ? 0 : SOCK_NONBLOCK), 0);
    if (fd < 0) return -1;
    if (blocking) {
        errno = nm_timeout(fd, SO_SNDTIMEO, nm_requests_grain(o)); /* of connect(), too (socket(7)) */
        if (errno == 0) errno = nm_timeout(fd, SO_RCVTIMEO, nm_requests_grain(o));
        if (errno) goto failed;
    }
    /* a socket of another kind has no Nagle's algorithm */
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    for (i = 0; i < o->option_count; i++)
        if (setsockopt(fd, o->option[i].level, o->option[i].name, o->option[i].value,
                       o->option[i].length) != 0)
            goto failed;
    if (o->from_bytes) {
        /* the port is chosen by connect(), which knows which ones the peer leaves free (ip(7)) */
        (void)setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof on);
        if (bind(fd, (const struct sockaddr *)&o->from, o->from_bytes) != 0) goto failed;
    }
    return fd;
failed:
    code = errno;
    close(fd);
    errno = code;
    return -1;
}

static inline void nm_requests_drop_spare(nm_requests *r) {
    if (r->spare >= 0) close(r->spare);
    r->spare = -1;
}

/* Makes the socket of the next connection while the present one's response is on its way, so that the
 * next request leaves sooner. Where it can't be made, the next connection tries again, and says why. */
static inline void nm_requests_make_spare(nm_requests *r, const nm_link *l) {
    if (r->spare < 0 && l->state == NM_LINK_ASKING)
        r->spare = nm_requests_socket(r->options, 1);
}

/* Gives a connection its socket. Returns 0, or -1 and an errno. */
static inline int nm_requests_equip(nm_requests *r, nm_link *l, int64_t now) {
    l->blocking = nm_requests_blocking(r, now);
    if (!l->blocking) nm_requests_drop_spare(r); /* its calls wait */
    l->fd = r->spare >= 0 ? r->spare : nm_requests_socket(r->options, l->blocking);
    r->spare = -1;
    return l->fd < 0 ? -1 : 0;
}

/* Begins to open a connection. */
static inline void nm_requests_connect(nm_requests *r, nm_link *l, int64_t now) {
    const nm_requests_options *o = r->options;
    if (nm_requests_equip(r, l, now) != 0) goto failed;
    l->number++;
    l->opened_ns = now;
    l->until_ns = nm_add_ns(now, o->connect_ns);
    l->state = NM_LINK_OPENING;
    r->opening++;
    /* a call that a signal or its time-out ended goes on in the kernel (connect(2)) */
    if (connect(l->fd, (const struct sockaddr *)&o->to, o->to_bytes) != 0 && errno != EINPROGRESS &&
        errno != EINTR)
        goto failed;
    if (l->asked && !o->tls && nm_requests_begin_at_once(r, l) != 0) goto failed;
    if (l->fd < 0) return; /* its request has failed already */
    /* events say how it went on, also where that is known already */
    if (nm_requests_listen(r, l, EPOLL_CTL_ADD) == 0) return;
    if (l->state == NM_LINK_ASKING) {
        nm_requests_fail(r, l, NM_ERROR_LOCAL, nm_now());
        return;
    }
failed:
    nm_requests_refused(r, l, errno, nm_now());
}

/* Goes on with a connection that may carry requests now. */
static inline void nm_requests_ready(nm_requests *r, nm_link *l, int64_t now) {
    nm_requests_tried(r, l);
    l->ready_ns = now;
    r->opening--;
    if (l->asked) {
        l->asked = 0;
        l->state = NM_LINK_ASKING;
        l->until_ns = nm_add_ns(now, r->options->answer_ns);
    } else {
        l->state = NM_LINK_FREE;
        nm_requests_set_free(r, l, now);
    }
}

/* Ends a connection without TLS. A request that waited for it has failed with it. */
static inline void nm_requests_unshaken(nm_requests *r, nm_link *l, int64_t now) {
    const nm_tls *t = r->options->tls;
    if (l->tls) {
        NM_STORE(&r->tls_verify, t->verifies ? t->SSL_get_verify_result(l->tls) : 0);
        NM_STORE(&r->tls_error, t->ERR_peek_last_error());
    }
    NM_ADD(&r->error[NM_ERROR_TLS], 1);
    if (l->asked) NM_ADD(&r->failed, 1);
    nm_requests_tried(r, l);
    nm_requests_renew(r, l, now, 1);
}

/* Goes on with the handshake of TLS, as far as the peer has. */
static inline void nm_requests_shake(nm_requests *r, nm_link *l) {
    ssize_t n = nm_tls_shake(r->options->tls, l->tls);
    int64_t now = nm_now();
    if (n > 0) {
        nm_histogram_add(r->shaking, now - l->joined_ns);
        nm_requests_ready(r, l, now);
    } else if (n == 0 || errno != EAGAIN) {
        nm_requests_unshaken(r, l, now);
    }
}

/* Goes on with a connection that TCP has made. */
static inline void nm_requests_connected(nm_requests *r, nm_link *l, int64_t now) {
    nm_histogram_add(r->connecting, now - l->opened_ns);
    nm_requests_count_resent(r, l, now);
    l->joined_ns = now;
    if (!r->options->tls) {
        nm_requests_ready(r, l, now);
        return;
    }
    l->state = NM_LINK_SHAKING;
    l->tls = nm_tls_begin(r->options->tls, l->fd);
    if (l->tls)
        nm_requests_shake(r, l);
    else
        nm_requests_unshaken(r, l, now);
}

/* ---- requests ----------------------------------------------------------------------------------- */

/* Passes what is left of a request to the kernel. Returns how much that took, or -1 and an errno. */
static inline ssize_t nm_requests_pass(nm_requests *r, nm_link *l) {
    const nm_requests_options *o = r->options;
    const char *rest = o->request + l->sent;
    size_t size = o->request_bytes - l->sent;
    ssize_t n;
    do
        n = l->tls ? nm_tls_write(o->tls, l->tls, rest, size)
                   : send(l->fd, rest, size, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (n < 0 && errno == EINTR);
    if (n >= 0) {
        NM_ADD(&r->own->calls, 1);
        NM_ADD(&r->own->bytes, (uint64_t)n);
        l->sent += (uint32_t)n;
    }
    return n;
}

/* Sends what is left of a connection's request; goes on later where the kernel takes no more. */
static inline void nm_requests_send(nm_requests *r, nm_link *l) {
    while (l->sent < r->options->request_bytes) {
        if (nm_requests_pass(r, l) < 0) {
            /* after a reset there may be a response to read: the event that tells of it decides */
            if (errno != EAGAIN && errno != EWOULDBLOCK && errno != EPIPE && errno != ECONNRESET)
                nm_requests_fail(r, l, NM_ERROR_RESET, nm_now());
            return;
        }
    }
}

/* Sends the request on a connection that may have come about while connect() ran, as it does on loopback:
 * no event need be waited for then. Returns 0, or -1 and the errno with which the connection failed. */
static inline int nm_requests_begin_at_once(nm_requests *r, nm_link *l) {
    int64_t now = nm_now(); /* before the call: if it works, the connection had come about by then */
    if (nm_requests_pass(r, l) < 0) return errno == EAGAIN || errno == EWOULDBLOCK ? 0 : -1;
    nm_requests_connected(r, l, now);
    nm_requests_send(r, l);
    return 0;
}

/* Takes a request from what may leave now, where a connection is free. Returns the moment from which it
 * is timed; 0: none may. */
static inline int64_t nm_requests_take(nm_requests *r, int64_t now) {
    int64_t from = now;
    if (r->zero_ns == 0 || r->own->reason != NM_RUNNING) return 0;
    if (nm_requests_paced(r)) {
        int64_t due = nm_requests_due(r);
        if (due > now) r->held = 0;
        if (due > now || (r->deadline_ns && due >= r->deadline_ns)) return 0;
        if (r->held) {
            from = due;
        } else if (now - due > NM_REQUESTS_LATE_NS) {
            NM_ADD(&r->late, 1);
            if (now - due > r->latest_ns) NM_STORE(&r->latest_ns, now - due);
        }
    } else if (r->deadline_ns && now >= r->deadline_ns) {
        return 0;
    }
    if (nm_claim(r->group, r->options->request_bytes) < r->options->request_bytes) {
        nm_stream_reason(r->own, NM_BUDGET);
        return 0;
    }
    NM_ADD(&r->begun, 1);
    return from;
}

/* Begins a request on a connection. */
static inline void nm_requests_begin(nm_requests *r, nm_link *l, int64_t from, int64_t now) {
    l->began_ns = from;
    l->sent = 0;
    if (r->options->response_bytes)
        nm_http_begin_bare(&l->response, r->options->response_bytes);
    else
        nm_http_begin(&l->response, r->options->no_body);
    if (l->state == NM_LINK_SHUT) {
        l->asked = 1;
        nm_requests_connect(r, l, now);
        return;
    }
    l->state = NM_LINK_ASKING;
    l->until_ns = nm_add_ns(now, r->options->answer_ns);
    nm_requests_send(r, l);
}

/* Begins what may leave now on the connections that are free. Returns the moment after. */
static inline int64_t nm_requests_pump(nm_requests *r, int64_t now) {
    const uint32_t idle = r->options->keep ? NM_LINK_FREE : NM_LINK_SHUT;
    while (r->zero_ns && r->free.count > 0) {
        nm_link *l = &r->link[r->free.item[r->free.first]];
        int64_t from;
        if (l->state == idle) {
            from = nm_requests_take(r, now);
            if (from == 0) return now;
            nm_links_take(&r->free, r->options->connections);
            l->queued = 0;
            nm_requests_begin(r, l, from, now);
            now = nm_now();
        } else { /* it broke while it was idle, and is being renewed */
            nm_links_take(&r->free, r->options->connections);
            l->queued = 0;
        }
    }
    nm_requests_hold(r, now);
    return now;
}

/* Goes on after a whole response: with the next request, or with the connection's end. */
static inline void nm_requests_answered(nm_requests *r, nm_link *l, int64_t now) {
    int64_t from;
    nm_requests_book(r, l, now);
    if (r->options->response_bytes) {
        l->state = NM_LINK_ENDING;
        l->until_ns = nm_add_ns(now, r->options->answer_ns);
        return;
    }
    if (!r->options->keep || !l->response.keep || l->sent < r->options->request_bytes) {
        nm_requests_renew(r, l, now, 0);
        return;
    }
    l->state = NM_LINK_FREE;
    if (!nm_requests_paced(r) && (from = nm_requests_take(r, now)) != 0)
        nm_requests_begin(r, l, from, now);
    else
        nm_requests_set_free(r, l, now);
}

/* Reads what has come on a connection. `ended`: the event told of its end, behind what is to be read.
 * `flags`: MSG_DONTWAIT, or 0 to wait for it. A body that comes as fast as it is read would keep this thread
 * for ever: the rest of it is another event. */
static inline void nm_requests_receive(nm_requests *r, nm_link *l, int ended, int flags) {
    for (int reads = 0; reads < NM_REQUESTS_READS; reads++) {
        ssize_t n = l->tls ? nm_tls_read(r->options->tls, l->tls, r->buffer, r->buffer_bytes)
                           : recv(l->fd, r->buffer, r->buffer_bytes, flags);
        int64_t now;
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        now = nm_now();
        if (l->state == NM_LINK_ENDING) {
            if (n > 0) NM_ADD(&r->error[NM_ERROR_INVALID], 1); /* more than the whole response */
            nm_requests_renew(r, l, now, 0);
            return;
        }
        if (l->state != NM_LINK_ASKING) { /* idle: the server closed it, or spoke unasked */
            nm_requests_renew(r, l, now, 1);
            return;
        }
        if (n <= 0) {
            if (n == 0 && nm_http_closed(&l->response))
                nm_requests_answered(r, l, now);
            else
                nm_requests_fail(r, l, NM_ERROR_RESET, now);
            return;
        }
        if (nm_http_feed(&l->response, r->buffer, (size_t)n) < (size_t)n ||
            l->response.state == NM_HTTP_INVALID) { /* more than was asked for is no response, too */
            nm_requests_fail(r, l, NM_ERROR_INVALID, now);
            return;
        }
        if (l->response.state == NM_HTTP_DONE) {
            if (ended) l->response.keep = 0; /* the server closed it, whatever it said */
            nm_requests_answered(r, l, now);
            if (l->state == NM_LINK_SHUT) return;
        }
        /* That was all there is (epoll(7)): a new event tells of more, or of the end. TLS reads record by
         * record. */
        if ((size_t)n < r->buffer_bytes && !ended && !l->tls) return;
    }
    if (nm_requests_listen(r, l, EPOLL_CTL_MOD) != 0)
        nm_requests_fail(r, l, NM_ERROR_LOCAL, nm_now());
}

static inline void nm_requests_event(nm_requests *r, nm_link *l, uint32_t events) {
    if (l->state == NM_LINK_OPENING) {
        int64_t now = nm_now();
        if (events & (EPOLLERR | EPOLLHUP)) {
            int code = 0;
            socklen_t length = sizeof code;
            if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &code, &length) != 0 || code == 0)
                code = ECONNRESET;
            nm_requests_refused(r, l, code, now);
            return;
        }
        if (!(events & EPOLLOUT)) return;
        nm_requests_connected(r, l, now);
        if (l->state == NM_LINK_ASKING) nm_requests_send(r, l);
    } else if (l->state == NM_LINK_SHAKING) {
        nm_requests_shake(r, l);
        if (l->state == NM_LINK_ASKING) nm_requests_send(r, l);
    } else if (l->state == NM_LINK_ASKING && (l->tls || (events & EPOLLOUT)) &&
               l->sent < r->options->request_bytes) {
        nm_requests_send(r, l);
    }
    if (l->state >= NM_LINK_FREE && (events & (EPOLLIN | EPOLLRDHUP | EPOLLERR | EPOLLHUP)))
        nm_requests_receive(r, l, (events & (EPOLLRDHUP | EPOLLERR | EPOLLHUP)) != 0, MSG_DONTWAIT);
}

/* ---- the loop ----------------------------------------------------------------------------------- */

/* Opens connections that are to be open, and frees those that have rested. */
static inline void nm_requests_reopen(nm_requests *r, int64_t now) {
    const nm_requests_options *o = r->options;
    while (r->resting.count > 0 && r->rest_ns[r->resting.item[r->resting.first]] <= now) {
        nm_link *l = &r->link[nm_links_take(&r->resting, o->connections)];
        if (o->keep)
            nm_requests_put(r, &r->shut, l);
        else
            nm_requests_set_free(r, l, now);
    }
    while (r->shut.count > 0 && r->opening < NM_REQUESTS_OPENING) {
        nm_requests_connect(r, &r->link[nm_links_take(&r->shut, o->connections)], now);
        now = nm_now();
    }
}

/* Ends what has waited for too long. */
static inline void nm_requests_look(nm_requests *r, int64_t now) {
    uint32_t i;
    if (now < r->look_ns) return;
    r->look_ns = now + nm_requests_grain(r->options);
    for (i = 0; i < r->options->connections; i++) {
        nm_link *l = &r->link[i];
        if (l->state == NM_LINK_OPENING && now >= l->until_ns)
            nm_requests_refused(r, l, ETIMEDOUT, now);
        else if (l->state == NM_LINK_SHAKING && now >= l->until_ns)
            nm_requests_unshaken(r, l, now);
        else if (l->state == NM_LINK_ASKING && now >= l->until_ns)
            nm_requests_fail(r, l, NM_ERROR_TIMEOUT, now);
        else if (l->state == NM_LINK_ENDING && now >= l->until_ns)
            nm_requests_renew(r, l, now, 0);
    }
}

/* Returns until when there is nothing to do, if no event comes. */
static inline int64_t nm_requests_until(const nm_requests *r) {
    int64_t until = r->look_ns, due;
    if (r->own->reason == NM_RUNNING && r->deadline_ns && r->deadline_ns < until)
        until = r->deadline_ns;
    if (r->own->reason == NM_RUNNING && r->resting.count > 0) {
        due = r->rest_ns[r->resting.item[r->resting.first]];
        if (due < until) until = due;
    }
    if (r->own->reason == NM_RUNNING && r->zero_ns && nm_requests_paced(r) && r->free.count > 0) {
        due = nm_requests_due(r);
        if (due < until) until = due;
    }
    return until;
}

/* Returns whether recv() itself may wait on the only connection: its request has been sent, and the test's
 * time is not over meanwhile. */
static inline int nm_requests_waits_itself(const nm_requests *r, const nm_link *l, int64_t now) {
    if (!l->blocking || l->state < NM_LINK_ASKING) return 0;
    if (l->sent < r->options->request_bytes) return 0;
    return r->own->reason != NM_RUNNING || !r->deadline_ns ||
           r->deadline_ns - now > nm_requests_grain(r->options);
}

/* Waits for the events of the only connection, until a moment at the latest, and handles them. */
static inline void nm_requests_wait_single(nm_requests *r, int64_t now, int64_t until) {
    nm_link *l = &r->link[0];
    int64_t left = until - now;
    struct pollfd p = {l->fd, POLLIN | POLLRDHUP, 0}; /* -1, where it is shut, is only a pause */
    struct timespec t = {0, 0};
    if (nm_requests_waits_itself(r, l, now)) {
        nm_requests_make_spare(r, l);
        nm_requests_receive(r, l, 0, 0);
        return;
    }
    if (left > 0) t.tv_sec = left / NM_SECOND_NS, t.tv_nsec = left % NM_SECOND_NS;
    if (l->state == NM_LINK_OPENING || (l->state == NM_LINK_ASKING && l->sent < r->options->request_bytes))
        p.events |= POLLOUT;
    /* the events of poll() have the numbers of epoll's (poll.h, epoll.h) */
    if (ppoll(&p, 1, &t, NULL) > 0) nm_requests_event(r, l, (uint16_t)p.revents);
}

/* Waits for events, but for no longer than there is nothing else to do, and handles them. */
static inline void nm_requests_wait(nm_requests *r, int64_t now) {
    int64_t left = nm_requests_until(r) - now;
    /* epoll_wait() counts in ms, which is too coarse for a rate */
    int ms = left <= 0 || nm_requests_paced(r) ? 0 : (int)((left + 999999) / 1000000), count, i;
    if (nm_requests_single(r)) {
        nm_requests_wait_single(r, now, now + left);
        return;
    }
    count = epoll_wait(r->epoll, r->event, NM_REQUESTS_EVENTS, ms);
    if (count == 0 && left > 0 && nm_requests_paced(r)) {
        struct pollfd p = {r->epoll, POLLIN, 0};
        struct timespec t = {left / NM_SECOND_NS, left % NM_SECOND_NS};
        if (ppoll(&p, 1, &t, NULL) > 0)
            count = epoll_wait(r->epoll, r->event, NM_REQUESTS_EVENTS, 0);
    }
    for (i = 0; i < count; i++) {
        uint64_t data = r->event[i].data.u64;
        nm_link *l = &r->link[(uint32_t)data];
        nm_assert((uint32_t)data < r->options->connections);
        if (l->number == data >> 32) nm_requests_event(r, l, r->event[i].events);
    }
}

/* Begins to measure when all connections are open, or have failed once. */
static inline void nm_requests_zero(nm_requests *r, int64_t now) {
    if (r->zero_ns || (r->options->keep && r->untried > 0)) return;
    r->zero_ns = now;
    if (r->options->duration_ns > 0) r->deadline_ns = nm_add_ns(now, r->options->duration_ns);
    NM_STORE(&r->own->first_ns, now);
}

static inline void nm_requests_told(nm_requests *r, int64_t now) {
    if (r->own->reason != NM_RUNNING) return;
    if (nm_aborting(r->group))
        nm_stream_reason(r->own, NM_ABORTED);
    else if (nm_stopping(r->group))
        nm_stream_reason(r->own, NM_STOPPED);
    else if (r->deadline_ns && now >= r->deadline_ns)
        nm_stream_reason(r->own, NM_DEADLINE);
}

/* Notes when the last request was sent, and how many were due by then and had not been. */
static inline void nm_requests_sent_all(nm_requests *r, int64_t now) {
    NM_STORE(&r->own->ended_ns, now);
    if (nm_requests_paced(r) && r->own->reason == NM_DEADLINE) {
        double due = (double)r->options->duration_ns / r->options->period_ns - r->options->phase;
        uint64_t whole = due > 0 ? (uint64_t)due + (due > (double)(uint64_t)due) : 0;
        if (whole > r->begun) NM_STORE(&r->skipped, whole - r->begun);
    }
}

/* Waits at the gate, opens connections, sends requests until something ends that, and waits for the last
 * responses. */
static inline void nm_requests_all(nm_requests *r) {
    nm_stream *own = r->own;
    const nm_requests_options *o = r->options;
    int64_t now, until;
    uint32_t i;
    if (nm_gate_wait(r->group) == 0) {
        nm_stream_reason(own, nm_aborting(r->group) ? NM_ABORTED : NM_STOPPED);
        return;
    }
    r->spare = -1;
    r->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (r->epoll < 0) {
        nm_stream_broken(own, r->group, errno);
        return;
    }
    if (nm_requests_paced(r)) (void)nm_timer_slack(1);
    if (o->tls) { /* OpenSSL writes to sockets without MSG_NOSIGNAL */
        sigset_t pipe;
        sigemptyset(&pipe);
        sigaddset(&pipe, SIGPIPE);
        pthread_sigmask(SIG_BLOCK, &pipe, NULL);
    }
    nm_stream_reason(own, NM_RUNNING);
    r->untried = o->connections;
    for (i = 0; i < o->connections; i++) {
        r->link[i].fd = -1;
        nm_requests_renew(r, &r->link[i], 0, 0);
    }
    for (;;) {
        now = nm_now();
        nm_requests_look(r, now);
        nm_requests_reopen(r, now);
        nm_requests_zero(r, now);
        now = nm_requests_pump(r, now); /* first: what is due may leave though the time is over now */
        nm_requests_told(r, now);
        if (own->reason != NM_RUNNING) break;
        nm_requests_wait(r, now);
        nm_stream_sample(own, -1, now);
    }
    nm_requests_sent_all(r, now);
    until = nm_add_ns(now, o->drain_ns);
    while (own->reason != NM_ABORTED && nm_requests_open(r) > 0 && now < until) {
        nm_requests_wait(r, now);
        now = nm_now();
        nm_requests_look(r, now);
        if (nm_aborting(r->group)) nm_stream_reason(own, NM_ABORTED);
    }
    for (i = 0; i < o->connections; i++) nm_requests_shut(r, &r->link[i]);
    nm_requests_drop_spare(r);
    close(r->epoll);
    nm_sample_take(&own->sampling, own->sample, -1, nm_now());
}

#endif
