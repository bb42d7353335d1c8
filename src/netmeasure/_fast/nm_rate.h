/* A rate of datagrams as a fraction: `numerator / denominator` ns from one datagram to the next.
 *
 * Products are made in 128 bits, since k * numerator outgrows 64 within a minute. Results are held
 * within their types, since a peer may ask for any rate.
 */
#ifndef NM_RATE_H
#define NM_RATE_H

#include <stdint.h>

#include "nm_clock.h"

#define NM_FOREVER_NS (INT64_MAX / 4)

typedef struct {
    uint64_t numerator;
    uint64_t denominator; /* 0: no rate */
} nm_rate;

/* Returns the rate for `bps` payload bits or `pps` datagrams per second; both 0: no rate. */
static inline nm_rate nm_rate_of(uint64_t datagram_bytes, uint64_t bps, uint64_t pps) {
    nm_rate r = {0, 0};
    if (bps)
        r = (nm_rate){datagram_bytes * 8 * NM_SECOND_NS, bps};
    else if (pps)
        r = (nm_rate){NM_SECOND_NS, pps};
    return r;
}

/* Returns the ns that n datagrams take, rounded down. */
static inline int64_t nm_rate_span(const nm_rate *r, uint64_t n) {
    unsigned __int128 ns = (unsigned __int128)n * r->numerator / r->denominator;
    return ns < (unsigned __int128)NM_FOREVER_NS ? (int64_t)ns : NM_FOREVER_NS;
}

/* Returns how many datagrams are due in a span that begins with one, rounded up. */
static inline uint64_t nm_rate_due(const nm_rate *r, int64_t span_ns) {
    unsigned __int128 n;
    if (span_ns <= 0) return 0;
    n = (unsigned __int128)(uint64_t)span_ns * r->denominator;
    n = n / r->numerator + (n % r->numerator != 0);
    return n < UINT64_MAX / 4 ? (uint64_t)n : UINT64_MAX / 4;
}

#endif
