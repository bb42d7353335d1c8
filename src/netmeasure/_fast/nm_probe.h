/* A latency probe beside a load: it measures the round-trip time of a few bytes, by UDP or on a TCP
 * connection.
 *
 * Probes are sent at a set rate, and none waits for the answer to another one, so that slow answers
 * do not hide delays ("coordinated omission"). A probe without an answer is lost, and no latency
 * includes it.
 *
 * The time runs from just before a probe is passed to the kernel until its answer has been read.
 * The hosts' own delays are subtracted and reported separately: how long the answer waited on this
 * host before this thread read it, and how long the reflector kept the probe. Before a load, the
 * kernel's time stamps of received packets show these delays. Beside a load, time stamps would cost
 * too much; then the time that a thread was ready to read but had no CPU is subtracted.
 *
 * A probe has 16 bytes, and so has its answer. That fits into the shortest Ethernet frame. By UDP each is a
 * datagram; by TCP they follow each other. All of it is big-endian:
 *
 *             8 bytes                                           8 bytes
 *   probe     its number                                        0
 *   answer    its number                                        how long the reflector kept it, in ns
 *   stamped   4 bytes: how long it was kept, in ns, or 2^32 - 1 when it left, by the reflector's
 *             where that was longer; 4 bytes: its number        CLOCK_MONOTONIC in ns
 *
 * Stamped answers tell the two ways apart, though the two clocks have nothing in common: what the clocks
 * differ by is a part of each one-way delay, but not of how much longer than the shortest one it is. That is
 * the packet delay variation of RFC 5481 (4.2). It includes what the clocks drift apart meanwhile.
 */
#ifndef NM_PROBE_H
#define NM_PROBE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* ppoll() */
#endif
#include <endian.h>
#include <poll.h>
#include <string.h>

#include "nm_histogram.h"
#include "nm_socket.h"
#include "nm_stream.h"

#define NM_PROBE_BYTES 16
#define NM_PROBE_SLOTS 4096 /* probes that are remembered: a later answer is late. A power of 2 */
#define NM_PROBE_POLL_NS 100000000 /* the thread looks so often whether it is to leave */
#define NM_PROBE_PARTS 2 /* of the test: idle, loaded */
#define NM_PROBE_IDLE 0
#define NM_PROBE_PAUSED NM_PROBE_PARTS
#define NM_PROBE_DRIFT 10000 /* two clocks drift apart by one part of so many at most: 50 ppm each */
#define NM_PROBE_SLACK_NS 1000000
#define NM_PROBE_LEAST_NS 1000 /* no round trip through two kernels' stacks is shorter */
/* A reflector answers no more than so many probes in so long: a client sends fewer. */
#define NM_REFLECT_BYTES 128 /* no datagram that is read is longer */
#define NM_REFLECT_BURST 200
#define NM_REFLECT_BURST_NS 100000000

typedef struct { /* a part of the test; published, but for `latency` and the series' pointers */
    nm_histogram *latency;
    nm_series count, sum_ns; /* of the answers and their latencies, by when they came */
    uint64_t sent;
    uint64_t answered;
    uint64_t skipped; /* were due while this thread did not run */
    uint64_t refused; /* by this host's kernel, or ICMP errors that came for them */
    uint64_t host_sum_ns; /* what was taken off the latencies */
    int64_t host_max_ns;
    /* stamped: by how much each way took longer than the shortest so far; not published */
    nm_histogram *there, *back;
} nm_probe_part;

typedef struct {
    int64_t sent_ns;
    uint64_t number;
    uint32_t part;
    uint32_t waiting;
} nm_probe_slot;

typedef struct {
    nm_stream *own;
    nm_group *group;
    int fd;
    int stream; /* whether the socket is a TCP connection */
    int stamped; /* whether the answers are */
    int wake; /* an eventfd that does not block: an order is written to it; -1: there is none */
    nm_probe_slot *slot; /* NM_PROBE_SLOTS of them */
    nm_probe_part part[NM_PROBE_PARTS];
    /* orders, from another thread: nm_probe_order() */
    uint32_t order;
    uint32_t order_part;
    int64_t order_period_ns, order_most;
    /* published */
    uint64_t open;    /* probes without an answer so far, of those that are remembered */
    int64_t longest_ns;
    uint32_t active;  /* the part whose probes are being sent; NM_PROBE_PAUSED */
    uint64_t late;    /* answers a second time, or to probes that are remembered no more */
    uint64_t invalid; /* datagrams that answer no probe */
    int64_t apart_ns; /* stamped: from the first probe that was answered to the last answer; 0: none was */
    uint32_t uneven;  /* stamped: the two clocks do not run alike, so nothing is known of the two ways */
    /* the thread's own */
    int64_t first_ns, least_there_ns, least_back_ns;
    uint32_t obeyed;
    int64_t period_ns, due_ns;
    uint64_t most; /* of the part's probes */
    uint64_t number;
    int64_t least_ns; /* the shortest round trip of which little was taken off */
    char partial[NM_PROBE_BYTES]; /* the beginning of the next answer by TCP */
    size_t partial_bytes;
    int waits; /* a descriptor: how long this thread has waited for a CPU; -1: unknown */
} nm_probe;

/* Returns how long the calling thread has been ready to run without a CPU, from an open schedstat; -1
 * where the kernel does not say. */
static inline int64_t nm_probe_waited(int fd) {
    char text[64];
    long long ran, waited;
    ssize_t n = fd < 0 ? -1 : pread(fd, text, sizeof text - 1, 0);
    if (n <= 0) return -1;
    text[n] = 0;
    return sscanf(text, "%lld %lld", &ran, &waited) == 2 ? waited : -1;
}

static inline int nm_probe_open_waits(void) {
    return open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
}

/* Lets the kernel note when it receives something for a socket, or no more. It then notes that of all packets
 * that come to this host, which takes about 0.1 us of each: too much beside a load. */
static inline int nm_probe_stamps(int fd, int on) {
    return setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on);
}

/* Reads like recv(), and tells when it has read, and how long that had been in the socket; -1: unknown. */
static inline ssize_t nm_probe_read(int fd, void *bytes, size_t size, int flags, int64_t *now,
                                    int64_t *lain_ns) {
    union {
        struct cmsghdr head;
        char bytes[CMSG_SPACE(sizeof(struct timespec))];
    } control;
    struct iovec place = {bytes, size};
    struct msghdr message = {.msg_iov = &place, .msg_iovlen = 1, .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t n = recvmsg(fd, &message, flags);
    struct cmsghdr *head = n < 0 ? NULL : CMSG_FIRSTHDR(&message);
    *now = nm_now();
    *lain_ns = -1;
    if (head && head->cmsg_level == SOL_SOCKET && head->cmsg_type == SCM_TIMESTAMPNS) {
        struct timespec came, read;
        memcpy(&came, CMSG_DATA(head), sizeof came);
        clock_gettime(CLOCK_REALTIME, &read);
        *lain_ns = (read.tv_sec - came.tv_sec) * NM_SECOND_NS + (read.tv_nsec - came.tv_nsec);
        if (*lain_ns < 0) *lain_ns = 0; /* the clock was set */
    }
    return n;
}

/* Returns the difference of two such times, 0 where one is unknown. */
static inline int64_t nm_probe_between(int64_t before, int64_t after) {
    return before < 0 || after < before ? 0 : after - before;
}

/* Returns whether the error is of one datagram: the network or a firewall did not take it. */
static inline int nm_probe_refused(int code) {
    return code == ECONNREFUSED || code == EHOSTUNREACH || code == ENETUNREACH || code == ENETDOWN ||
           code == EHOSTDOWN || code == EPERM || code == ENOBUFS || code == ENOPROTOOPT ||
           code == EAGAIN || code == EWOULDBLOCK;
}

/* Orders a part's probes to be sent, one each period, `most` of them (0: any number); NM_PROBE_PAUSED:
 * none. One thread gives orders. An order for the part that is being sent changes its period. */
static inline void nm_probe_order(nm_probe *p, uint32_t part, int64_t period_ns, int64_t most) {
    uint32_t seen = NM_LOAD(&p->order);
    const uint64_t one = 1;
    NM_RELEASE(&p->order, seen + 1); /* odd: being written */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    NM_STORE(&p->order_part, part < NM_PROBE_PARTS ? part : NM_PROBE_PAUSED);
    NM_STORE(&p->order_period_ns, period_ns > 0 ? period_ns : NM_SECOND_NS);
    NM_STORE(&p->order_most, most);
    NM_RELEASE(&p->order, seen + 2);
    if (p->wake >= 0) (void)!write(p->wake, &one, sizeof one); /* full: then it is awake */
}

static inline void nm_probe_obey(nm_probe *p, int64_t now) {
    uint32_t order = NM_ACQUIRE(&p->order), part;
    int64_t period_ns, most;
    if (order == p->obeyed || (order & 1)) return;
    part = NM_LOAD(&p->order_part);
    period_ns = NM_LOAD(&p->order_period_ns);
    most = NM_LOAD(&p->order_most);
    __atomic_thread_fence(__ATOMIC_ACQUIRE);
    if (NM_LOAD(&p->order) != order) return; /* look again in the next round */
    p->obeyed = order;
    p->due_ns = part != p->active ? now : nm_add_ns(p->due_ns - p->period_ns, period_ns);
    if (p->due_ns < now) p->due_ns = now;
    p->period_ns = period_ns;
    p->most = most > 0 ? (uint64_t)most : UINT64_MAX;
    if (part < NM_PROBE_PARTS && p->part[part].sent >= p->most) part = NM_PROBE_PAUSED;
    (void)nm_probe_stamps(p->fd, part == NM_PROBE_IDLE);
    NM_STORE(&p->active, part);
}

/* Sends the probe that is due. Probes that this thread has missed are not sent late in a bunch. */
static inline void nm_probe_send(nm_probe *p, int64_t now) {
    nm_probe_part *part;
    nm_probe_slot *slot;
    uint64_t word[2] = {0, 0};
    int64_t missed;
    ssize_t n;
    if (p->active >= NM_PROBE_PARTS || now < p->due_ns) return;
    part = &p->part[p->active];
    missed = (now - p->due_ns) / p->period_ns;
    if (missed > 0) NM_ADD(&part->skipped, (uint64_t)missed);
    p->due_ns = nm_add_ns(p->due_ns, (missed + 1) * p->period_ns);
    slot = &p->slot[++p->number % NM_PROBE_SLOTS];
    if (slot->waiting) NM_STORE(&p->open, p->open - 1); /* forgotten: it stays without an answer */
    slot->number = p->number, slot->part = p->active, slot->waiting = 1;
    word[0] = htobe64(p->number);
    NM_ADD(&p->open, 1);
    NM_ADD(&part->sent, 1);
    slot->sent_ns = nm_now();
    n = send(p->fd, word, sizeof word, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (n < 0 && nm_probe_refused(errno))
        NM_ADD(&part->refused, 1);
    else if (n != sizeof word)
        nm_stream_broken(p->own, p->group, n < 0 ? errno : EPROTO);
    NM_ADD(&p->own->calls, 1);
    NM_ADD(&p->own->bytes, sizeof word);
    if (part->sent >= p->most) NM_STORE(&p->active, NM_PROBE_PAUSED);
}

/* Returns how much of the time `took` is the hosts' own, by what they have told. An answer may have come
 * during a wait for a CPU, not before it: no round trip is made shorter than the path is known to be. */
static inline int64_t nm_probe_host(nm_probe *p, int64_t took, int64_t told) {
    int64_t least;
    if (told <= took / 4 && (p->least_ns == 0 || took - told < p->least_ns))
        p->least_ns = took - told;
    least = p->least_ns ? p->least_ns : NM_PROBE_LEAST_NS;
    if (took - told >= least) return told;
    return took > least ? took - least : 0;
}

/* Books how much longer than the shortest each way of a probe took, of a round trip of `took`. The hosts were
 * `told` to have a part in it, and `host` of that is left out; the reflector, which sent the answer at `at_ns`
 * by its own clock, kept the probe for `kept`. */
static inline void nm_probe_ways(nm_probe *p, nm_probe_slot *slot, int64_t took, int64_t told, int64_t host,
                                 uint64_t at_ns, uint64_t kept) {
    nm_probe_part *part = &p->part[slot->part];
    double share = told > 0 ? (double)host / (double)told : 0;
    int64_t latency = took - host, there, back, slack;
    if (at_ns == 0 || at_ns > INT64_MAX / 2) {
        NM_STORE(&p->uneven, 1);
        return;
    }
    there = (int64_t)at_ns - (int64_t)((double)kept * share) - slot->sent_ns;
    back = latency - there;
    if (p->apart_ns == 0) p->first_ns = slot->sent_ns, p->least_there_ns = there, p->least_back_ns = back;
    NM_STORE(&p->apart_ns, slot->sent_ns - p->first_ns + took + 1);
    /* beside a load, what is left out of one way may have been in the other one: that is no shorter way */
    if (slot->part == NM_PROBE_IDLE || told <= took / 4) {
        if (there < p->least_there_ns) p->least_there_ns = there;
        if (back < p->least_back_ns) p->least_back_ns = back;
    }
    there -= p->least_there_ns;
    back -= p->least_back_ns;
    /* a way takes no longer than both */
    slack = NM_PROBE_SLACK_NS + p->apart_ns / NM_PROBE_DRIFT + host;
    if (there - slack > latency || back - slack > latency) NM_STORE(&p->uneven, 1);
    there = there < 0 ? 0 : there < latency ? there : latency;
    back = back < 0 ? 0 : back < latency ? back : latency;
    nm_histogram_add(part->there, there);
    nm_histogram_add(part->back, back);
}

/* Books a datagram of `size` bytes that was read at a moment, after a wait of `waited_ns` for a CPU. */
static inline void nm_probe_take(nm_probe *p, const uint64_t *word, size_t size, int64_t now,
                                 int64_t waited_ns) {
    nm_probe_slot *slot;
    nm_probe_part *part;
    uint64_t number, kept, at_ns = 0;
    int64_t took, host, told;
    if (size < NM_PROBE_BYTES / 2) return; /* the answer to a hello that was sent twice */
    number = be64toh(word[0]);
    kept = be64toh(word[1]);
    if (p->stamped) {
        at_ns = kept;
        kept = number >> 32;
        number &= UINT32_MAX;
    }
    if (size != NM_PROBE_BYTES || number == 0 || number > p->number) {
        NM_ADD(&p->invalid, 1);
        return;
    }
    slot = &p->slot[number % NM_PROBE_SLOTS];
    if (slot->number != number || !slot->waiting) {
        NM_ADD(&p->late, 1);
        return;
    }
    slot->waiting = 0;
    NM_STORE(&p->open, p->open - 1);
    part = &p->part[slot->part];
    took = now - slot->sent_ns;
    if (kept > (uint64_t)took) kept = (uint64_t)took;
    told = waited_ns > took - (int64_t)kept ? took : (int64_t)kept + waited_ns;
    host = nm_probe_host(p, took, told);
    NM_ADD(&part->answered, 1);
    NM_ADD(&part->host_sum_ns, (uint64_t)host);
    if (host > part->host_max_ns) NM_STORE(&part->host_max_ns, host);
    if (took > p->longest_ns) NM_STORE(&p->longest_ns, took);
    nm_histogram_add(part->latency, took - host);
    if (p->stamped) nm_probe_ways(p, slot, took, told, host, at_ns, kept);
    if (part->count.origin_ns == 0) {
        nm_series_start(&part->count, now);
        nm_series_start(&part->sum_ns, now);
    }
    nm_series_add(&part->count, now, 1);
    nm_series_add(&part->sum_ns, now, (uint64_t)(took - host));
}

/* Books the answers in what a TCP connection has given at a moment, and keeps the beginning of the next. */
static inline void nm_probe_take_stream(nm_probe *p, const char *bytes, size_t size, int64_t now,
                                        int64_t waited_ns) {
    uint64_t word[2];
    while (size > 0) {
        size_t piece = NM_PROBE_BYTES - p->partial_bytes;
        if (piece > size) piece = size;
        memcpy(p->partial + p->partial_bytes, bytes, piece);
        p->partial_bytes += piece, bytes += piece, size -= piece;
        if (p->partial_bytes < NM_PROBE_BYTES) return;
        memcpy(word, p->partial, sizeof word);
        p->partial_bytes = 0;
        nm_probe_take(p, word, sizeof word, now, waited_ns);
    }
}

/* Waits for answers until a moment, and reads those that have come. */
static inline void nm_probe_receive(nm_probe *p, int64_t now, int64_t until) {
    struct pollfd poll[2] = {{p->fd, POLLIN, 0}, {p->wake, POLLIN, 0}};
    struct timespec t;
    int64_t left = until > now ? until - now : 0, before = nm_probe_waited(p->waits), waited, lain;
    uint64_t word[32];
    int i;
    t.tv_sec = left / NM_SECOND_NS;
    t.tv_nsec = left % NM_SECOND_NS;
    if (ppoll(poll, 2, &t, NULL) <= 0) return;
    if (poll[1].revents) (void)!read(p->wake, word, sizeof *word);
    if (!poll[0].revents) return;
    for (i = 0; i < 64; i++) {
        int flags = MSG_DONTWAIT | (p->stream ? 0 : MSG_TRUNC);
        ssize_t n = nm_probe_read(p->fd, word, sizeof word, flags, &now, &lain);
        int code = n < 0 ? errno : 0;
        if (n < 0 && (code == EAGAIN || code == EWOULDBLOCK)) return;
        waited = lain >= 0 ? lain : i ? 0 : nm_probe_between(before, nm_probe_waited(p->waits));
        if (n == 0 && p->stream) {
            nm_stream_reason(p->own, NM_EOF);
            return;
        } else if (n >= 0 && p->stream) {
            nm_probe_take_stream(p, (const char *)word, (size_t)n, now, waited);
        } else if (n >= 0) {
            nm_probe_take(p, word, (size_t)n, now, waited);
            if (n == 0 && (poll[0].revents & (POLLHUP | POLLERR))) return;
        } else if (!p->stream && nm_probe_refused(code)) {
            if (p->active < NM_PROBE_PARTS) NM_ADD(&p->part[p->active].refused, 1);
        } else if (code != EINTR) {
            nm_stream_broken(p->own, p->group, code);
            return;
        }
    }
}

/* Sends probes as ordered and times their answers, until it is told to leave. */
static inline void nm_probe_all(nm_probe *p) {
    nm_stream *own = p->own;
    int64_t now = nm_now(), until;
    p->waits = nm_probe_open_waits();
    (void)nm_probe_stamps(p->fd, 1); /* it takes the kernel a while to begin */
    NM_STORE(&p->active, NM_PROBE_PAUSED);
    (void)nm_timer_slack(1);
    NM_STORE(&own->first_ns, now);
    nm_stream_reason(own, NM_RUNNING);
    while (own->reason == NM_RUNNING) {
        if (nm_aborting(p->group) || nm_stopping(p->group)) {
            nm_stream_reason(own, nm_aborting(p->group) ? NM_ABORTED : NM_STOPPED);
            break;
        }
        nm_probe_obey(p, now);
        nm_probe_send(p, now);
        until = nm_add_ns(now, NM_PROBE_POLL_NS);
        if (p->active < NM_PROBE_PARTS && p->due_ns < until) until = p->due_ns;
        nm_probe_receive(p, now, until);
        now = nm_now();
        nm_stream_sample(own, -1, now);
    }
    NM_STORE(&own->ended_ns, now);
    nm_sample_take(&own->sampling, own->sample, -1, now);
    if (p->waits >= 0) close(p->waits);
}

/* ---- the reflector ------------------------------------------------------------------------------ */

typedef struct {
    nm_stream *own; /* `bytes`: of the probes that were answered */
    nm_group *group;
    int fd;
    int stream; /* whether the socket is a TCP connection: it has no hello */
    int stamped; /* whether the answers are to be */
    const char *hello; /* what answers a datagram of `hello_bytes` that begins like this one */
    const char *hello_reply;
    size_t hello_bytes, hello_start_bytes, hello_reply_bytes;
    uint64_t invalid; /* published: datagrams that are no probe */
} nm_reflector;

/* Answers `size` bytes that were read after a wait of `waited_ns` for a CPU: a datagram, or a probe by TCP.
 * Returns 0 or the errno that ends it. */
static inline int nm_reflect_one(nm_reflector *r, char *buffer, size_t size, int64_t now,
                                 int64_t waited_ns) {
    ssize_t n = 0;
    if (size == NM_PROBE_BYTES) {
        int64_t sent = nm_now();
        uint64_t kept = (uint64_t)(waited_ns + (sent - now)), stamp = htobe64(r->stamped ? (uint64_t)sent : kept);
        uint32_t briefly = htobe32(kept < UINT32_MAX ? (uint32_t)kept : UINT32_MAX);
        if (r->stamped) memcpy(buffer, &briefly, sizeof briefly);
        memcpy(buffer + 8, &stamp, sizeof stamp);
        n = send(r->fd, buffer, NM_PROBE_BYTES, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (r->own->first_ns == 0) NM_STORE(&r->own->first_ns, now);
        NM_ADD(&r->own->calls, 1);
        nm_stream_count(r->own, now, size, 0);
        if (r->stream && n >= 0 && n < NM_PROBE_BYTES) return EPROTO;
    } else if (size > 0 && size == r->hello_bytes &&
               memcmp(buffer, r->hello, r->hello_start_bytes) == 0) {
        n = send(r->fd, r->hello_reply, r->hello_reply_bytes, MSG_NOSIGNAL | MSG_DONTWAIT);
    } else {
        NM_ADD(&r->invalid, 1);
    }
    return n < 0 && !nm_probe_refused(errno) && errno != EINTR ? errno : 0;
}

/* Answers each probe until it is told to leave, at a bounded rate: what comes faster waits in the
 * socket's buffer, or is dropped there. */
static inline void nm_reflect_all(nm_reflector *r) {
    nm_stream *own = r->own;
    int64_t began = nm_now(), now = began, before, lain;
    char buffer[NM_REFLECT_BYTES];
    size_t kept = 0;
    int waits = nm_probe_open_waits(), room = NM_REFLECT_BURST;
    int code = nm_timeout(r->fd, SO_RCVTIMEO, NM_REFLECT_BURST_NS);
    (void)nm_probe_stamps(r->fd, 1);
    if (code)
        nm_stream_broken(own, r->group, code);
    else
        nm_stream_reason(own, NM_RUNNING);
    while (own->reason == NM_RUNNING) {
        size_t most = r->stream ? NM_PROBE_BYTES : sizeof buffer;
        ssize_t n;
        before = nm_probe_waited(waits);
        n = nm_probe_read(r->fd, buffer + kept, most - kept, r->stream ? 0 : MSG_TRUNC, &now, &lain);
        code = n < 0 ? errno : 0;
        if (nm_aborting(r->group) || nm_stopping(r->group)) {
            nm_stream_reason(own, nm_aborting(r->group) ? NM_ABORTED : NM_STOPPED);
            break;
        }
        if (n > 0 && r->stream) {
            kept += (size_t)n;
            if (kept < NM_PROBE_BYTES) continue;
            n = NM_PROBE_BYTES, kept = 0;
        } else if (n == 0 && r->stream) {
            nm_stream_reason(own, NM_EOF);
            break;
        }
        if (n >= 0) {
            int64_t waited = lain >= 0 ? lain : nm_probe_between(before, nm_probe_waited(waits));
            code = nm_reflect_one(r, buffer, (size_t)n, now, waited);
            if (--room == 0) {
                nm_sleep(began + NM_REFLECT_BURST_NS - now);
                began = nm_now();
                room = NM_REFLECT_BURST;
            }
        }
        if (code && !nm_probe_refused(code) && code != EINTR) nm_stream_broken(own, r->group, code);
        nm_stream_sample(own, -1, now);
    }
    NM_STORE(&own->ended_ns, now);
    nm_sample_take(&own->sampling, own->sample, -1, now);
    if (waits >= 0) close(waits);
}

#endif
