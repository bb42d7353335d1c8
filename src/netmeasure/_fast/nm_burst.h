/* The largest burst of a paced sender, as a policer sees it.
 *
 * A policer is a token bucket that fills at the target rate. The burst is the depth that the bucket
 * must have to let every datagram pass: the most that was sent in any stretch of time, less what the
 * rate allows in that stretch. If the backlog of a late wake-up is sent in several portions, they
 * are one burst, however small each portion is.
 */
#ifndef NM_BURST_H
#define NM_BURST_H

#include <stdint.h>

#include "nm_atomic.h"
#include "nm_rate.h"

typedef struct {
    uint64_t largest_bytes;
    /* the stretch since the bucket was last full */
    int64_t since_ns;
    uint64_t datagrams;
} nm_burst;

/* Returns the bytes that the rate puts back into the bucket in a span, which is not negative. */
static inline unsigned __int128 nm_burst_refill(const nm_rate *r, uint64_t datagram_bytes,
                                                int64_t span_ns) {
    unsigned __int128 scaled = (unsigned __int128)(uint64_t)span_ns * r->denominator;
    return scaled / r->numerator * datagram_bytes +
           scaled % r->numerator * datagram_bytes / r->numerator;
}

/* Notes that n datagrams left at a moment; moments before the last one are taken as that one. */
static inline void nm_burst_add(nm_burst *b, const nm_rate *r, uint64_t datagram_bytes, int64_t at,
                                uint64_t n) {
    int64_t span_ns = at > b->since_ns ? at - b->since_ns : 0;
    unsigned __int128 back = nm_burst_refill(r, datagram_bytes, span_ns), missing;
    if (n == 0) return;
    if (back >= (unsigned __int128)b->datagrams * datagram_bytes) { /* full, or the first */
        b->since_ns = at;
        b->datagrams = 0;
        back = 0;
    }
    b->datagrams += n;
    missing = (unsigned __int128)b->datagrams * datagram_bytes - back;
    if (missing > b->largest_bytes)
        NM_STORE(&b->largest_bytes, missing < UINT64_MAX ? (uint64_t)missing : UINT64_MAX);
}

#endif
