/* What only UDP needs: the datagram header, the pacing schedule, batches of messages to send, and
 * the receiver's accounting. The rules of nm_native.h hold here too: one writer, relaxed loads.
 *
 * Header, big-endian, as iperf3 writes it: seconds, microseconds (the sender's CLOCK_MONOTONIC when
 * it hands the datagram over), sequence number of 32 or 64 bits; the first datagram is 1.
 */
#ifndef NM_UDP_H
#define NM_UDP_H

#include "nm_native.h"

#include <endian.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/uio.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define NM_UDP_MESSAGES 64       /* per sendmmsg() or recvmmsg() */
#define NM_UDP_TRAIN 64          /* segments that every kernel with UDP_SEGMENT takes */
#define NM_UDP_LARGEST 65507     /* payload of the largest datagram over IPv4 */
#define NM_UDP_CONTROL 128       /* room for a time stamp, the drop counter and the segment size */
#define NM_UDP_SEND_BYTES 262144 /* of one batch: it stays in the cache, and a stop is noticed soon */
#define NM_UDP_RECEIVE_BYTES 1048576

/* ---- the header ------------------------------------------------------------------------------ */

static inline uint32_t nm_udp_header_bytes(int counters_64bit) { return counters_64bit ? 16 : 12; }

static inline void nm_udp_write_header(unsigned char *p, int64_t now, uint64_t sequence,
                                       int counters_64bit) {
    uint32_t word[3] = {htobe32((uint32_t)(now / 1000000000)),
                        htobe32((uint32_t)(now % 1000000000 / 1000)), htobe32((uint32_t)sequence)};
    if (counters_64bit) {
        uint64_t wide = htobe64(sequence);
        memcpy(p, word, 8);
        memcpy(p + 8, &wide, 8);
    } else {
        memcpy(p, word, 12);
    }
}

/* ---- pacing: an absolute schedule ------------------------------------------------------------
 * Datagram k is due at zero + k * numerator / denominator ns. It is computed from k each time, so
 * no rounding adds up however long the run. 128 bits, for k * numerator outgrows 64 in a minute. */

typedef struct {
    int64_t zero; /* moved forward where time is given up, see nm_pace_decide() */
    uint64_t numerator, denominator; /* of the ns from one datagram to the next; denominator 0:
                                        not paced at all */
    uint64_t scheduled;              /* k of the next datagram to send */
    uint64_t quantum;                /* datagrams that leave together by design */
    uint64_t most;                   /* datagrams that leave together after a late wake-up */
    int64_t catch_up_ns;             /* what is further behind than this is given up */
    int64_t late_after_ns;
    int64_t not_before;              /* the next decision, after one that made up for lost time */
    int64_t pause_ns;                /* the same, counted from when everything has been sent */
    int repaying;                    /* the last decision left a backlog */
} nm_pace;

enum {
    NM_PACE_QUANTUM_NS = 100000, /* at most 10 000 wake-ups per second */
    NM_PACE_MOST_NS = 500000,    /* of rate in one go after a late wake-up */
    NM_PACE_LATE_NS = 100000
};

/* ns that n datagrams take at the target rate. */
static inline int64_t nm_pace_span(const nm_pace *p, uint64_t n) {
    return (int64_t)((unsigned __int128)n * p->numerator / p->denominator);
}

static inline int64_t nm_pace_due(const nm_pace *p, uint64_t k) {
    return p->zero + nm_pace_span(p, k);
}

/* How many datagrams are due before a moment, from the schedule's zero on. */
static inline uint64_t nm_pace_before(const nm_pace *p, int64_t moment) {
    unsigned __int128 scaled;
    if (moment <= p->zero) return 0;
    scaled = (unsigned __int128)(uint64_t)(moment - p->zero) * p->denominator;
    return (uint64_t)((scaled + p->numerator - 1) / p->numerator);
}

static inline void nm_pace_init(nm_pace *p, uint64_t datagram_bytes, uint64_t bps, uint64_t pps,
                                uint64_t burst, int64_t catch_up_ns) {
    memset(p, 0, sizeof *p);
    if (bps == 0 && pps == 0) return;
    p->numerator = bps ? datagram_bytes * 8 * 1000000000 : 1000000000;
    p->denominator = bps ? bps : pps;
    p->quantum = burst ? burst : nm_pace_before(p, NM_PACE_QUANTUM_NS);
    p->most = nm_pace_before(p, NM_PACE_MOST_NS) / p->quantum * p->quantum;
    if (p->most < p->quantum) p->most = p->quantum;
    p->late_after_ns = nm_pace_span(p, p->quantum);
    p->catch_up_ns = catch_up_ns > p->late_after_ns ? catch_up_ns : p->late_after_ns;
    if (p->late_after_ns < NM_PACE_LATE_NS) p->late_after_ns = NM_PACE_LATE_NS;
}

/* ---- the sender ------------------------------------------------------------------------------ */

typedef struct {
    uint64_t packets;
    uint64_t refused;     /* datagrams that the kernel did not take; they got no sequence number */
    uint64_t icmp_errors; /* errors that the network reported on this socket */
    uint64_t wakeups;     /* pacing decisions */
    uint64_t late_wakeups;
    uint64_t largest_burst_bytes;
    int64_t skipped_ns;    /* of the schedule, given up after stalls */
    uint32_t segments;     /* datagrams in the longest super-datagram; 1: no segmentation offload */
    int32_t fallback_errno; /* why it became 1; 0: it did not, or was never asked for */
    nm_series packet_series;
    nm_pace pace;
    /* from here on only the thread looks */
    uint64_t sequence; /* of the next datagram */
    uint64_t burst_bytes;
    uint32_t datagram_bytes;
    uint32_t slots; /* datagrams that the buffer holds */
    int counters_64bit;
    unsigned char *buffer;
    struct mmsghdr *message;
    struct iovec *vector;
    unsigned char *control; /* one for all messages: they all say the same segment size */
} nm_udp_sender;

/* At a wake-up: how many datagrams leave now. What is more than catch_up_ns behind is given up by
 * moving the schedule; the rest of a backlog is repaid in portions of at most `most`, at no more
 * than twice the rate, so a stall never turns into a burst at line rate. */
static inline uint64_t nm_pace_decide(nm_udp_sender *u, int64_t now, int64_t deadline) {
    nm_pace *p = &u->pace;
    int64_t behind = now - nm_pace_due(p, p->scheduled);
    uint64_t ready, left;
    nm_assert(behind >= 0 && now < deadline);
    NM_STORE(&u->wakeups, u->wakeups + 1);
    if (behind > p->late_after_ns && !p->repaying)
        NM_STORE(&u->late_wakeups, u->late_wakeups + 1);
    if (behind > p->catch_up_ns) {
        p->zero += behind - p->catch_up_ns;
        NM_STORE(&u->skipped_ns, u->skipped_ns + behind - p->catch_up_ns);
    }
    ready = nm_pace_before(p, now + 1) - p->scheduled;
    ready = (ready + p->quantum - 1) / p->quantum * p->quantum;
    p->repaying = ready > p->most;
    if (p->repaying) ready = p->most;
    p->not_before = p->repaying ? now + nm_pace_span(p, ready) / 2 : 0;
    /* Sending may have taken long, so that the next is due at once: not two portions in one go. */
    p->pause_ns = ready > p->quantum ? nm_pace_span(p, p->quantum) / 2 : 0;
    left = nm_pace_before(p, deadline) - p->scheduled;
    u->burst_bytes = 0;
    return ready < left ? ready : left;
}

/* Books `n` sent datagrams of a decision, `left` of which are still to come. */
static inline void nm_pace_sent(nm_udp_sender *u, uint64_t n, uint64_t left, int64_t now) {
    nm_pace *p = &u->pace;
    p->scheduled += n;
    u->burst_bytes += n * u->datagram_bytes;
    if (u->burst_bytes > u->largest_burst_bytes) NM_STORE(&u->largest_burst_bytes, u->burst_bytes);
    if (left == 0 && p->pause_ns > 0 && p->not_before < now + p->pause_ns)
        p->not_before = now + p->pause_ns;
}

/* Lays `count` datagrams out in messages of up to u->segments, stamps them, and hands them to the
 * kernel in one call. Returns how many it took, or -errno when it took none. */
static inline int64_t nm_udp_send(nm_udp_sender *u, int fd, uint64_t count, int64_t now, int flags) {
    uint64_t size = u->datagram_bytes, train = u->segments, laid = 0, n, i;
    unsigned messages = 0;
    int sent;
    nm_assert(count > 0);
    if (count > u->slots) count = u->slots;
    while (laid < count && messages < NM_UDP_MESSAGES) {
        struct msghdr *m = &u->message[messages].msg_hdr;
        n = count - laid < train ? count - laid : train;
        u->vector[messages].iov_base = u->buffer + laid * size;
        u->vector[messages].iov_len = n * size;
        m->msg_control = n > 1 ? u->control : NULL;
        m->msg_controllen = n > 1 ? CMSG_SPACE(sizeof(uint16_t)) : 0;
        for (i = laid; i < laid + n; i++)
            nm_udp_write_header(u->buffer + i * size, now, u->sequence + i, u->counters_64bit);
        laid += n;
        messages++;
    }
    sent = sendmmsg(fd, u->message, messages, flags);
    if (sent <= 0) return sent < 0 ? -errno : -EAGAIN;
    n = (uint64_t)sent == messages ? laid : (uint64_t)sent * train;
    u->sequence += n;
    return (int64_t)n;
}

static inline int nm_udp_sender_init(nm_udp_sender *u, uint32_t datagram_bytes, int counters_64bit,
                                     uint32_t segments) {
    struct cmsghdr *c;
    struct msghdr probe = {0};
    uint16_t size = (uint16_t)datagram_bytes;
    uint32_t i;
    u->datagram_bytes = datagram_bytes;
    u->counters_64bit = counters_64bit;
    u->sequence = 1;
    u->segments = segments;
    u->slots = NM_UDP_SEND_BYTES / datagram_bytes;
    if (u->slots > NM_UDP_MESSAGES * segments) u->slots = NM_UDP_MESSAGES * segments;
    u->slots = u->slots < segments ? segments : u->slots / segments * segments;
    u->buffer = malloc((size_t)u->slots * datagram_bytes);
    u->message = calloc(NM_UDP_MESSAGES, sizeof *u->message);
    u->vector = calloc(NM_UDP_MESSAGES, sizeof *u->vector);
    u->control = calloc(1, CMSG_SPACE(sizeof size));
    if (!u->buffer || !u->message || !u->vector || !u->control) return -1;
    for (i = 0; i < NM_UDP_MESSAGES; i++) {
        u->message[i].msg_hdr.msg_iov = &u->vector[i];
        u->message[i].msg_hdr.msg_iovlen = 1;
    }
    probe.msg_control = u->control;
    probe.msg_controllen = CMSG_SPACE(sizeof size);
    c = CMSG_FIRSTHDR(&probe);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(c), &size, sizeof size);
    return 0;
}

static inline void nm_udp_sender_free(nm_udp_sender *u) {
    free(u->buffer);
    free(u->message);
    free(u->vector);
    free(u->control);
}

/* 0, or why the kernel does not know UDP_SEGMENT. One that does not would ignore the control
 * message and send the whole train as a single fragmented datagram. */
static inline int nm_udp_segment_errno(int fd) {
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &value, &length) == 0 ? 0 : errno;
}

/* Sleeps until `moment` (CLOCK_MONOTONIC), the last spin_ns of it awake. */
static inline int64_t nm_sleep_until(int64_t moment, int64_t spin_ns) {
    int64_t until = moment - spin_ns, now = nm_now();
    if (until > now) {
        struct timespec t = {until / 1000000000, until % 1000000000};
        clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        now = nm_now();
    }
    if (spin_ns > 0)
        while (now < moment) now = nm_now();
    return now;
}

/* Sets the calling thread's timer slack (how late the kernel may wake it for its own comfort; 50 us
 * by default) and returns what it was. */
static inline long nm_timer_slack(long slack_ns) {
    long before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    prctl(PR_SET_TIMERSLACK, slack_ns, 0, 0, 0);
    return before;
}

/* ---- the receiver ---------------------------------------------------------------------------- */

/* Only 64-bit words, so that it can be published word by word. All but the last block only grow. */
typedef struct {
    int64_t at_ns;         /* when the counts held */
    uint64_t highest;      /* sequence number */
    uint64_t received;     /* different datagrams: received + lost == highest, always */
    uint64_t bytes;        /* payload of those */
    uint64_t duplicates;   /* inside the window */
    uint64_t reordered;    /* of `received`: came after a higher number had (RFC 4737) */
    uint64_t late;         /* older than the window: duplicate or late, nobody can tell */
    uint64_t malformed;    /* shorter than a header, or microseconds that are none */
    uint64_t implausible;  /* a sequence number that can't be */
    uint64_t handshakes;   /* hellos and answers that came again */
    uint64_t truncated;    /* longer than the buffer; their header was whole, so they count */
    uint64_t icmp_errors;
    uint64_t host_dropped; /* by our own socket: SO_RXQ_OVFL, SO_MEMINFO; a train counts as one */
    uint64_t coalesced;    /* of `received`: came in one message with others (UDP_GRO) */
    uint64_t same_stamp;   /* of `received`: sent at the same microsecond as the one before */
    uint64_t jitter_count;
    /* these start again when the omitted time is over */
    uint64_t jitter_16th_ns; /* RFC 3550 A.8: 16 times the estimate, to keep its fraction */
    uint64_t ipdv_count, ipdv_sum_ns, ipdv_min_ns, ipdv_max_ns;
    int64_t transit_min_ns, transit_max_ns; /* arrival - sending, of two clocks */
    uint64_t transit_count;
} nm_udp_counts;

typedef struct { /* a receiver's counts at a moment: what changes within a run */
    int64_t at_ns;
    uint64_t highest, received, duplicates, reordered, host_dropped;
    int64_t jitter_ns; /* -1: not known yet */
} nm_udp_sample;

#define NM_UDP_WORDS (sizeof(nm_udp_counts) / sizeof(uint64_t))
#define NM_UDP_JUMP ((int64_t)1 << 20) /* further ahead than this wants a second witness */
#define NM_UDP_FAR ((int64_t)1 << 31)  /* further ahead than this is never true */

typedef struct {
    /* published: readers use nm_udp_read() */
    uint32_t version; /* odd while the words below are written */
    uint32_t omit_over;
    nm_udp_counts shown, shown_omitted;
    nm_series packet_series;
    int coalescing; /* UDP_GRO took */
    int stamping;   /* SO_TIMESTAMPNS took */
    /* from here on only the thread looks */
    nm_udp_counts now, omitted;
    uint64_t *seen; /* a bit per sequence number of the window */
    uint64_t window;
    int counters_64bit;
    uint64_t suspect; /* a number far ahead that nothing has confirmed yet; 0: none */
    uint64_t suspect_bytes;
    uint64_t last_sequence, last_stamp;
    int64_t last_transit;
    uint32_t last_drops;
    int64_t clock_offset, clock_read; /* CLOCK_REALTIME - CLOCK_MONOTONIC, and when that was */
    uint32_t batch, buffer_bytes;
    unsigned char *buffer, *control;
    struct mmsghdr *message;
    struct iovec *vector;
    nm_udp_sample *sample; /* read after the end */
    uint32_t samples;
    int64_t sample_every_ns, sample_due_ns;
} nm_udp_receiver;

static inline int nm_udp_drops(int fd, uint32_t *drops) {
    uint32_t info[16] = {0};
    socklen_t length = sizeof info;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) != 0 || length < 9 * 4) return -1;
    *drops = info[8]; /* SK_MEMINFO_DROPS */
    return 0;
}

/* The kernel's counter is 32 bits wide and may have counted before the test. */
static inline void nm_udp_dropped(nm_udp_receiver *r, uint32_t drops) {
    if ((int32_t)(drops - r->last_drops) > 0) {
        r->now.host_dropped += drops - r->last_drops;
        r->last_drops = drops;
    }
}

/* With SO_RXQ_OVFL alone, drops after the last datagram that got through would never be seen. */
static inline void nm_udp_ask_drops(nm_udp_receiver *r, int fd) {
    uint32_t drops;
    if (nm_udp_drops(fd, &drops) == 0) nm_udp_dropped(r, drops);
}

static inline int nm_udp_receiver_init(nm_udp_receiver *r, int fd, uint32_t datagram_bytes,
                                       int counters_64bit, int coalesce, uint64_t window) {
    int on = 1;
    uint32_t i;
    r->counters_64bit = counters_64bit;
    r->window = window;
    setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on);
    r->stamping = setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0;
    on = coalesce != 0;
    r->coalescing = setsockopt(fd, SOL_UDP, UDP_GRO, &on, sizeof on) == 0 && coalesce;
    nm_udp_drops(fd, &r->last_drops);
    /* a coalesced train that does not fit is lost without a word, so there is room for the longest */
    r->buffer_bytes = r->coalescing ? 65536 : (datagram_bytes + 63) / 64 * 64;
    r->batch = NM_UDP_RECEIVE_BYTES / r->buffer_bytes;
    if (r->batch > NM_UDP_MESSAGES) r->batch = NM_UDP_MESSAGES;
    r->seen = calloc(window / 64, sizeof *r->seen);
    r->buffer = calloc(r->batch, r->buffer_bytes);
    r->control = calloc(r->batch, NM_UDP_CONTROL);
    r->message = calloc(r->batch, sizeof *r->message);
    r->vector = calloc(r->batch, sizeof *r->vector);
    r->sample = calloc(NM_SAMPLES, sizeof *r->sample);
    if (!r->seen || !r->buffer || !r->control || !r->message || !r->vector || !r->sample) return -1;
    memset(r->buffer, 1, (size_t)r->batch * r->buffer_bytes); /* touched before the run */
    for (i = 0; i < r->batch; i++) {
        struct msghdr *m = &r->message[i].msg_hdr;
        r->vector[i].iov_base = r->buffer + (size_t)i * r->buffer_bytes;
        r->vector[i].iov_len = r->buffer_bytes;
        m->msg_iov = &r->vector[i];
        m->msg_iovlen = 1;
        m->msg_control = r->control + (size_t)i * NM_UDP_CONTROL;
        m->msg_controllen = NM_UDP_CONTROL;
    }
    return 0;
}

static inline void nm_udp_receiver_free(nm_udp_receiver *r) {
    free(r->seen);
    free(r->buffer);
    free(r->control);
    free(r->message);
    free(r->vector);
    free(r->sample);
}

static inline void nm_udp_copy(nm_udp_counts *to, nm_udp_counts *from) {
    uint64_t *into = (uint64_t *)to, *out = (uint64_t *)from;
    size_t i;
    for (i = 0; i < NM_UDP_WORDS; i++) NM_STORE(&into[i], NM_LOAD(&out[i]));
}

static inline void nm_udp_publish(nm_udp_receiver *r, int64_t now) {
    r->now.at_ns = now;
    NM_STORE(&r->version, r->version + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    nm_udp_copy(&r->shown, &r->now);
    if (r->omit_over) nm_udp_copy(&r->shown_omitted, &r->omitted);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&r->version, r->version + 1, __ATOMIC_RELEASE);
}

/* All counts of one moment; false: `omitted` was asked for and the omitted time is not over. */
static inline int nm_udp_read(nm_udp_receiver *r, nm_udp_counts *into, int omitted) {
    uint32_t before, over;
    for (;;) {
        before = __atomic_load_n(&r->version, __ATOMIC_ACQUIRE);
        if (before & 1) continue;
        over = NM_LOAD(&r->omit_over);
        nm_udp_copy(into, omitted ? &r->shown_omitted : &r->shown);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&r->version, __ATOMIC_RELAXED) == before) return !omitted || over;
    }
}

/* Everything so far becomes the omitted part. What belongs to it but comes later, by its sequence
 * number, is added to it then: so the loss of the measured part can't be negative, and a datagram
 * under way at this moment is no loss of either part. */
static inline void nm_udp_omit(nm_udp_receiver *r, int64_t now) {
    r->omitted = r->now;
    r->omitted.at_ns = now;
    NM_STORE(&r->omit_over, 1);
    r->now.jitter_16th_ns = 0;
    r->now.ipdv_count = r->now.ipdv_sum_ns = r->now.ipdv_min_ns = r->now.ipdv_max_ns = 0;
    r->now.transit_min_ns = r->now.transit_max_ns = 0;
    r->now.transit_count = 0;
}

/* Delay figures of one datagram that had not been seen before. Only differences of transit mean
 * anything, for the two clocks have different origins. */
static inline void nm_udp_delay(nm_udp_receiver *r, uint64_t sequence, uint64_t stamp,
                                int64_t arrival) {
    nm_udp_counts *c = &r->now;
    int64_t transit = arrival - (int64_t)stamp;
    uint64_t d;
    if (c->transit_count++ == 0) {
        c->transit_min_ns = c->transit_max_ns = transit;
    } else if (transit < c->transit_min_ns) {
        c->transit_min_ns = transit;
    } else if (transit > c->transit_max_ns) {
        c->transit_max_ns = transit;
    }
    if (r->last_sequence) {
        d = (uint64_t)(transit > r->last_transit ? transit - r->last_transit
                                                 : r->last_transit - transit);
        c->jitter_16th_ns += d - ((c->jitter_16th_ns + 8) >> 4);
        c->jitter_count++;
        if (sequence == r->last_sequence + 1) { /* RFC 3393: of neighbours only */
            if (c->ipdv_count++ == 0) c->ipdv_min_ns = d;
            if (d < c->ipdv_min_ns) c->ipdv_min_ns = d;
            if (d > c->ipdv_max_ns) c->ipdv_max_ns = d;
            c->ipdv_sum_ns += d;
            c->same_stamp += stamp == r->last_stamp;
        }
    }
    r->last_transit = transit;
    r->last_stamp = stamp;
    r->last_sequence = sequence;
}

/* Books a plausible sequence number; true when it is the first of its kind. */
static inline int nm_udp_book(nm_udp_receiver *r, uint64_t sequence, uint64_t bytes) {
    nm_udp_counts *c = &r->now;
    int omitted = r->omit_over && sequence <= r->omitted.highest;
    uint64_t mask = r->window - 1, bit = (uint64_t)1 << (sequence & 63), s;
    uint64_t *word = &r->seen[(sequence & mask) / 64];
    if (sequence > c->highest) {
        if (sequence - c->highest >= r->window)
            memset(r->seen, 0, r->window / 8);
        else
            for (s = c->highest + 1; s < sequence; s++)
                r->seen[(s & mask) / 64] &= ~((uint64_t)1 << (s & 63));
        c->highest = sequence;
    } else if (c->highest - sequence >= r->window) {
        c->late++;
        r->omitted.late += omitted;
        return 0;
    } else if (*word & bit) {
        c->duplicates++;
        r->omitted.duplicates += omitted;
        return 0;
    } else {
        c->reordered++;
        r->omitted.reordered += omitted;
    }
    *word |= bit;
    c->received++;
    c->bytes += bytes;
    if (omitted) {
        r->omitted.received++;
        r->omitted.bytes += bytes;
    }
    nm_assert(c->received <= c->highest);
    return 1;
}

/* One datagram. A number far ahead of all others (2^20: a second of silence at a million per
 * second) is believed only when a second one comes near it and none has gone on from the old place
 * meanwhile, since damage or malice would otherwise turn one datagram into a million losses; until
 * then it is held back. */
static inline void nm_udp_count(nm_udp_receiver *r, const unsigned char *p, uint64_t length,
                                int64_t arrival, int coalesced) {
    nm_udp_counts *c = &r->now;
    uint32_t word[3];
    uint64_t sequence, stamp;
    int64_t ahead;
    if (length < nm_udp_header_bytes(r->counters_64bit)) {
        if (length == 4 && (memcmp(p, "9876", 4) == 0 || memcmp(p, "6789", 4) == 0))
            c->handshakes++;
        else
            c->malformed++;
        return;
    }
    memcpy(word, p, 12);
    if (be32toh(word[1]) >= 1000000) {
        c->malformed++;
        return;
    }
    stamp = (uint64_t)be32toh(word[0]) * 1000000000 + (uint64_t)be32toh(word[1]) * 1000;
    if (r->counters_64bit) {
        memcpy(&sequence, p + 8, 8);
        sequence = be64toh(sequence);
    } else { /* the number nearest to the highest so far that ends in these 32 bits */
        sequence = c->highest + (uint64_t)(int64_t)(int32_t)(be32toh(word[2]) - (uint32_t)c->highest);
    }
    ahead = (int64_t)(sequence - c->highest);
    if ((int64_t)sequence < 1 || ahead >= NM_UDP_FAR) {
        c->implausible++;
        return;
    }
    if (ahead > NM_UDP_JUMP) {
        int64_t apart = (int64_t)(sequence - r->suspect);
        if (r->suspect == 0 || apart == 0 || apart > NM_UDP_JUMP || -apart >= (int64_t)r->window) {
            if (r->suspect) c->implausible++;
            if (apart != 0) {
                r->suspect = sequence;
                r->suspect_bytes = length;
            }
            return;
        }
        nm_udp_book(r, r->suspect, r->suspect_bytes);
        r->suspect = 0;
    } else if (ahead > 0 && r->suspect) { /* the stream went on where it was: the leap was none */
        c->implausible++;
        r->suspect = 0;
    }
    if (nm_udp_book(r, sequence, length)) {
        c->coalesced += coalesced != 0;
        nm_udp_delay(r, sequence, stamp, arrival);
    }
}

/* Kernel time stamps are CLOCK_REALTIME. They are turned to CLOCK_MONOTONIC with the distance of
 * the two clocks at the moment of reading, so that neither a step nor a slew of the wall clock is
 * taken for jitter. False: the wall clock has just been stepped, and the stamps of this batch may
 * be from before or after it. */
static inline int nm_udp_align_clocks(nm_udp_receiver *r, int64_t *now) {
    struct timespec t;
    int64_t before, after, offset, moved, bound;
    int tries;
    for (tries = 0; tries < 3; tries++) {
        before = nm_now();
        clock_gettime(CLOCK_REALTIME, &t);
        after = nm_now();
        *now = after;
        if (after - before < 5000) break;
    }
    if (tries == 3 && r->clock_read) return 1; /* interrupted each time: use the last distance */
    offset = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - (before + (after - before) / 2);
    moved = offset > r->clock_offset ? offset - r->clock_offset : r->clock_offset - offset;
    bound = 20000 + (after - r->clock_read) / 1000; /* a slew is at most 0.05 % */
    moved = r->clock_read != 0 && moved > bound;
    r->clock_offset = offset;
    r->clock_read = after;
    return !moved;
}

/* Books the messages of one recvmmsg(), and makes their headers ready for the next. True when the
 * socket has been shut down, which looks like empty datagrams without any control message. */
static inline int nm_udp_take(nm_udp_receiver *r, int count, int64_t now, int aligned) {
    int i, closed = 0;
    for (i = 0; i < count; i++) {
        struct msghdr *m = &r->message[i].msg_hdr;
        const unsigned char *p = r->buffer + (size_t)i * r->buffer_bytes;
        uint64_t length = r->message[i].msg_len, segment = length, done, one;
        int64_t arrival = now;
        struct cmsghdr *c;
        for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
            if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
                struct timespec t;
                int64_t stamped;
                memcpy(&t, CMSG_DATA(c), sizeof t);
                stamped = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - r->clock_offset;
                if (aligned && stamped <= now) arrival = stamped;
            } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
                uint32_t drops;
                memcpy(&drops, CMSG_DATA(c), sizeof drops);
                nm_udp_dropped(r, drops);
            } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
                int size;
                memcpy(&size, CMSG_DATA(c), sizeof size);
                if (size > 0 && (uint64_t)size < length) segment = (uint64_t)size;
            }
        }
        if (length == 0 && m->msg_controllen == 0 && r->stamping) closed = 1;
        if (m->msg_flags & MSG_TRUNC) r->now.truncated++;
        if (closed) {
            /* nothing to book */
        } else if (r->coalescing) {
            nm_assert(length <= r->buffer_bytes);
            done = 0;
            do {
                one = length - done < segment ? length - done : segment;
                nm_udp_count(r, p + done, one, arrival, segment < length);
                done += one;
            } while (done < length);
        } else {
            nm_udp_count(r, p, length, arrival, 0);
        }
        m->msg_controllen = NM_UDP_CONTROL;
        m->msg_flags = 0;
    }
    return closed;
}

/* Bounded like the TCP samples: when the room is used up, every second one is kept. */
static inline void nm_udp_sample_take(nm_udp_receiver *r, int64_t now) {
    const nm_udp_counts *c = &r->now;
    uint32_t i, kept;
    if (r->samples == NM_SAMPLES) {
        for (i = 1, kept = 1; i + 1 < NM_SAMPLES; i += 2, kept++) r->sample[kept] = r->sample[i + 1];
        r->samples = kept;
        r->sample_every_ns *= 2;
    }
    r->sample[r->samples++] = (nm_udp_sample){
        now, c->highest, c->received, c->duplicates, c->reordered, c->host_dropped,
        c->jitter_count ? (int64_t)(c->jitter_16th_ns / 16) : -1};
    r->sample_due_ns = now + r->sample_every_ns;
}

static inline void nm_udp_finish(nm_udp_receiver *r, int fd, int64_t now) {
    if (r->suspect) r->now.implausible++;
    r->suspect = 0;
    nm_udp_ask_drops(r, fd);
    nm_udp_sample_take(r, now);
    nm_udp_publish(r, now);
}

#endif
