/* The largest burst of a paced sender, as a policer sees it.
 *
 * A policer is a token bucket that fills at the target rate. The burst is the depth that the bucket
 * must have to let every datagram pass: the most that was sent in any stretch of time, less what the
 * rate allows in that stretch. A late wake-up whose backlog is made up for in several portions is one
 * burst, however small each portion is.
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

/* Notes that n datagrams left at a moment; moments before the last one are taken as that one. */
static inline void nm_burst_add(nm_burst *b, const nm_rate *r, uint64_t datagram_bytes, int64_t at,
                                uint64_t n) {
    int64_t full_ns = nm_add_ns(b->since_ns, nm_rate_span(r, b->datagrams));
    unsigned __int128 refilled;
    uint64_t sent, back;
    if (n == 0) return;
    if (b->datagrams == 0 || at >= full_ns) {
        b->since_ns = at;
        b->datagrams = 0;
    }
    if (at < b->since_ns) at = b->since_ns;
    b->datagrams += n;
    refilled = (unsigned __int128)(uint64_t)(at - b->since_ns) * r->denominator;
    back = (uint64_t)(refilled / r->numerator) * datagram_bytes +
           (uint64_t)(refilled % r->numerator * datagram_bytes / r->numerator);
    sent = b->datagrams * datagram_bytes;
    if (sent > back && sent - back > b->largest_bytes) NM_STORE(&b->largest_bytes, sent - back);
}

#endif
