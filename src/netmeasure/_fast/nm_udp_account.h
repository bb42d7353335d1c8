/* The account of received datagrams: which numbers arrived, how often, in which order, how late. */
#ifndef NM_UDP_ACCOUNT_H
#define NM_UDP_ACCOUNT_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "nm_assert.h"
#include "nm_udp_counts.h"
#include "nm_udp_header.h"

#define NM_UDP_JUMP ((int64_t)1 << 20) /* further ahead than this wants a second witness */
#define NM_UDP_FAR ((int64_t)1 << 31)  /* further ahead than this is never true */
/* Delay differences above this (18 years) count as this: sums must not overflow. */
#define NM_UDP_MOST_DELAY ((uint64_t)1 << 59)

typedef struct {
    nm_udp_counts now, omitted;
    int omit_over;
    int counters_64bit;
    uint64_t *seen;   /* a bit per sequence number of the window */
    uint64_t window;  /* a power of two, at least 64 */
    uint64_t suspect; /* a number far ahead that no other has confirmed yet; 0: none */
    uint64_t suspect_bytes;
    uint64_t last_sequence, last_stamp;
    int64_t last_transit;
} nm_udp_account;

/* Returns 0, or -1 where memory is short. */
static inline int nm_udp_account_init(nm_udp_account *a, int counters_64bit, uint64_t window) {
    memset(a, 0, sizeof *a);
    a->counters_64bit = counters_64bit;
    a->window = window;
    a->seen = calloc(window / 64, sizeof *a->seen);
    return a->seen ? 0 : -1;
}

static inline void nm_udp_account_free(nm_udp_account *a) { free(a->seen); }

/* Makes everything so far the omitted part. A datagram whose number belongs to this part but which
 * arrives later is added to it, so that the loss of the measured part can't be negative, and a
 * datagram in flight at this moment is a loss of neither part. */
static inline void nm_udp_omit(nm_udp_account *a, int64_t now) {
    a->omitted = a->now;
    a->omitted.at_ns = now;
    a->omit_over = 1;
    a->now.jitter_16th_ns = 0;
    a->now.ipdv_count = a->now.ipdv_sum_ns = a->now.ipdv_min_ns = a->now.ipdv_max_ns = 0;
    a->now.transit_min_ns = a->now.transit_max_ns = 0;
    a->now.transit_count = 0;
}

/* Notes the delay difference to the datagram before. */
static inline void nm_udp_variation(nm_udp_account *a, const nm_udp_header *h, int64_t transit) {
    nm_udp_counts *c = &a->now;
    uint64_t d = transit > a->last_transit ? (uint64_t)transit - (uint64_t)a->last_transit
                                           : (uint64_t)a->last_transit - (uint64_t)transit;
    if (d > NM_UDP_MOST_DELAY) d = NM_UDP_MOST_DELAY;
    c->jitter_16th_ns += d - ((c->jitter_16th_ns + 8) >> 4);
    c->jitter_count++;
    if (h->sequence != a->last_sequence + 1) return; /* RFC 3393: of neighbours only */
    if (c->ipdv_count++ == 0) c->ipdv_min_ns = d;
    if (d < c->ipdv_min_ns) c->ipdv_min_ns = d;
    if (d > c->ipdv_max_ns) c->ipdv_max_ns = d;
    if (__builtin_add_overflow(c->ipdv_sum_ns, d, &c->ipdv_sum_ns)) c->ipdv_sum_ns = UINT64_MAX;
    c->same_stamp += h->stamp_ns == a->last_stamp;
}

/* Notes the delay of a datagram that had not been seen before. Only differences of transit mean
 * anything, for the two clocks have different origins. */
static inline void nm_udp_delay(nm_udp_account *a, const nm_udp_header *h, int64_t arrival) {
    nm_udp_counts *c = &a->now;
    int64_t transit = nm_add_ns(arrival, -(int64_t)h->stamp_ns); /* a stamp is below 2^62 */
    if (c->transit_count++ == 0) {
        c->transit_min_ns = c->transit_max_ns = transit;
    } else if (transit < c->transit_min_ns) {
        c->transit_min_ns = transit;
    } else if (transit > c->transit_max_ns) {
        c->transit_max_ns = transit;
    }
    if (a->last_sequence) nm_udp_variation(a, h, transit);
    a->last_transit = transit;
    a->last_stamp = h->stamp_ns;
    a->last_sequence = h->sequence;
}

/* Moves the window up to a new highest number. */
static inline void nm_udp_advance(nm_udp_account *a, uint64_t sequence) {
    uint64_t mask = a->window - 1, s;
    if (sequence - a->now.highest >= a->window)
        memset(a->seen, 0, a->window / 8);
    else
        for (s = a->now.highest + 1; s < sequence; s++)
            a->seen[(s & mask) / 64] &= ~((uint64_t)1 << (s & 63));
    a->now.highest = sequence;
}

/* Books a plausible sequence number. Returns whether it is the first datagram with it. */
static inline int nm_udp_book(nm_udp_account *a, uint64_t sequence, uint64_t bytes) {
    nm_udp_counts *c = &a->now;
    int omitted = a->omit_over && sequence <= a->omitted.highest;
    uint64_t bit = (uint64_t)1 << (sequence & 63);
    uint64_t *word = &a->seen[(sequence & (a->window - 1)) / 64];
    if (sequence > c->highest) {
        nm_udp_advance(a, sequence);
    } else if (c->highest - sequence >= a->window) {
        c->late++;
        a->omitted.late += omitted;
        return 0;
    } else if (*word & bit) {
        c->duplicates++;
        a->omitted.duplicates += omitted;
        return 0;
    } else {
        c->reordered++;
        a->omitted.reordered += omitted;
    }
    *word |= bit;
    c->received++;
    c->bytes += bytes;
    if (omitted) {
        a->omitted.received++;
        a->omitted.bytes += bytes;
    }
    nm_assert(c->received <= c->highest);
    return 1;
}

/* Returns whether a number far ahead of all others is accepted. A single one is not, because one
 * damaged or forged datagram would then count as a million losses. It is held back until a second
 * one arrives near it, and dropped if the numbers continue from where they were. */
static inline int nm_udp_believe(nm_udp_account *a, uint64_t sequence, uint64_t bytes) {
    int64_t ahead = (int64_t)(sequence - a->now.highest);
    int64_t apart = (int64_t)(sequence - a->suspect);
    if (ahead <= NM_UDP_JUMP) {
        if (ahead > 0 && a->suspect) {
            a->now.implausible++;
            a->suspect = 0;
        }
        return 1;
    }
    if (a->suspect && apart != 0 && apart <= NM_UDP_JUMP && -apart < (int64_t)a->window) {
        nm_udp_book(a, a->suspect, a->suspect_bytes);
        a->suspect = 0;
        return 1;
    }
    if (a->suspect) a->now.implausible++;
    if (apart != 0 || a->suspect == 0) {
        a->suspect = sequence;
        a->suspect_bytes = bytes;
    }
    return 0;
}

/* Counts one datagram of `length` bytes at `p`, of which at least a header's length is there to be
 * read. `coalesced`: it came in one message with others. Returns whether its number was new. */
static inline int nm_udp_count(nm_udp_account *a, const unsigned char *p, uint64_t length,
                                int64_t arrival, int coalesced) {
    nm_udp_counts *c = &a->now;
    nm_udp_header h;
    switch (nm_udp_read_header(&h, p, length, a->counters_64bit)) {
    case NM_UDP_HANDSHAKE: c->handshakes++; return 0;
    case NM_UDP_MALFORMED: c->malformed++; return 0;
    case NM_UDP_DATA: break;
    }
    if (!a->counters_64bit) h.sequence = nm_udp_unwrap(h.sequence, c->highest);
    if ((int64_t)h.sequence < 1 || (int64_t)(h.sequence - c->highest) >= NM_UDP_FAR) {
        c->implausible++;
        return 0;
    }
    if (!nm_udp_believe(a, h.sequence, length) || !nm_udp_book(a, h.sequence, length)) return 0;
    c->coalesced += coalesced != 0;
    nm_udp_delay(a, &h, arrival);
    return 1;
}

/* Returns how many of up to `most` datagrams of `segment` bytes at `p` continue the one before them: the
 * next number, and the same stamp. */
static inline uint64_t nm_udp_run(const nm_udp_account *a, const unsigned char *p, uint64_t segment,
                                  uint64_t most) {
    const unsigned char *before = p - segment;
    uint64_t n, number;
    for (n = 0; n < most; n++, p += segment) {
        if (memcmp(p, before, 8) != 0) break;
        number = a->last_sequence + n + 1;
        if (a->counters_64bit) {
            uint64_t wide = htobe64(number);
            if (memcmp(p + 8, &wide, sizeof wide) != 0) break;
        } else {
            uint32_t low = htobe32((uint32_t)number);
            if (memcmp(p + 8, &low, sizeof low) != 0) break;
        }
    }
    return n;
}

/* Books `n` new numbers, the ones after the highest. */
static inline void nm_udp_book_run(nm_udp_account *a, uint64_t n) {
    uint64_t last = a->now.highest + n, s, after;
    for (s = a->now.highest + 1; s <= last; s = after) {
        uint64_t bits = ~(uint64_t)0 << (s & 63);
        after = (s | 63) + 1;
        if (after > last) bits &= ~(uint64_t)0 >> (63 - (last & 63));
        a->seen[(s & (a->window - 1)) / 64] |= bits;
    }
    a->now.highest = last;
}

/* Counts those of up to `most` datagrams of a train that only continue the one before them, which has
 * just been counted as new. It does in one step what nm_udp_count() does for each of them: they have
 * one stamp and, as all of a train, one time of arrival, so their delays are equal. Returns how many. */
static inline uint64_t nm_udp_count_run(nm_udp_account *a, const unsigned char *p, uint64_t segment,
                                        uint64_t most) {
    nm_udp_counts *c = &a->now;
    uint64_t n, i;
    if (a->last_sequence != c->highest) return 0; /* it came late: the next number is not new */
    nm_assert(a->suspect == 0 && (!a->omit_over || c->highest >= a->omitted.highest));
    n = nm_udp_run(a, p, segment, most);
    if (n == 0) return 0;
    nm_udp_book_run(a, n);
    c->received += n;
    c->bytes += n * segment;
    c->coalesced += n;
    c->transit_count += n;
    for (i = 0; i < n && c->jitter_16th_ns >= 8; i++)
        c->jitter_16th_ns -= (c->jitter_16th_ns + 8) >> 4;
    c->jitter_count += n;
    c->ipdv_min_ns = 0;
    c->ipdv_count += n;
    c->same_stamp += n;
    a->last_sequence = c->highest;
    nm_assert(c->received <= c->highest);
    return n;
}

/* Counts as implausible the number that is still unconfirmed at the end. */
static inline void nm_udp_account_close(nm_udp_account *a) {
    if (a->suspect) a->now.implausible++;
    a->suspect = 0;
}

#endif
