/* The counts of a receiver of datagrams, and how others read them while it goes on counting. */
#ifndef NM_UDP_COUNTS_H
#define NM_UDP_COUNTS_H

#include <stddef.h>
#include <stdint.h>

#include "nm_atomic.h"

/* Only 64-bit words, so that it can be published word by word. All but the last block only grow. */
typedef struct {
    int64_t at_ns;         /* when the counts held */
    uint64_t highest;      /* sequence number */
    uint64_t received;     /* different datagrams: received + lost == highest, always */
    uint64_t bytes;        /* payload of those */
    uint64_t duplicates;   /* inside the window */
    uint64_t reordered;    /* of `received`: came after a higher number had (RFC 4737) */
    uint64_t late;         /* older than the window: late or duplicate, which is unknown */
    uint64_t malformed;    /* shorter than a header, or microseconds above 999999 */
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

#define NM_UDP_WORDS (sizeof(nm_udp_counts) / sizeof(uint64_t))

typedef struct { /* a receiver's counts at a moment: what changes within a run */
    int64_t at_ns;
    uint64_t highest, received, duplicates, reordered, host_dropped;
    int64_t jitter_ns; /* -1: not known yet */
} nm_udp_sample;

/* The published copies, under a sequence lock: readers never see half of an update. */
typedef struct {
    uint32_t version;   /* odd while the words below are written */
    uint32_t omit_over; /* `omitted` holds the counts of the omitted time */
    nm_udp_counts total, omitted;
} nm_udp_board;

static inline void nm_udp_copy(nm_udp_counts *to, const nm_udp_counts *from) {
    uint64_t *into = (uint64_t *)to;
    const uint64_t *out = (const uint64_t *)from;
    size_t i;
    for (i = 0; i < NM_UDP_WORDS; i++) NM_STORE(&into[i], NM_LOAD(&out[i]));
}

/* Publishes the totals; `omitted` is NULL as long as the omitted time lasts. */
static inline void nm_udp_post(nm_udp_board *b, const nm_udp_counts *total,
                               const nm_udp_counts *omitted) {
    NM_STORE(&b->version, b->version + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    nm_udp_copy(&b->total, total);
    if (omitted) {
        nm_udp_copy(&b->omitted, omitted);
        NM_STORE(&b->omit_over, 1);
    }
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    NM_RELEASE(&b->version, b->version + 1);
}

/* Copies all counts of one moment. Returns 0 where `omitted` was asked for and the omitted time is
 * not over. */
static inline int nm_udp_look(const nm_udp_board *b, nm_udp_counts *into, int omitted) {
    uint32_t before, over;
    for (;;) {
        before = NM_ACQUIRE(&b->version);
        if (before & 1) continue;
        over = NM_LOAD(&b->omit_over);
        nm_udp_copy(into, omitted ? &b->omitted : &b->total);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (NM_LOAD(&b->version) == before) return !omitted || over;
    }
}

#endif
