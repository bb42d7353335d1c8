/* Whatever rate a peer asks for and whenever the thread wakes up, a decision sends no more than it may,
 * nothing overflows, and the burst is the depth of a token bucket that is computed naively. */
#include "input.h"

#include "nm_burst.h"
#include "nm_pace.h"

enum { STEPS = 24 };
typedef unsigned __int128 u128;

/* Returns how many bytes the rate puts back into the bucket in a span. */
static u128 refilled(const nm_rate *r, uint64_t size, int64_t span_ns) {
    u128 scaled = (u128)(uint64_t)span_ns * r->denominator;
    return scaled / r->numerator * size + scaled % r->numerator * size / r->numerator;
}

static void check_burst(const nm_burst *b, const nm_rate *r, uint64_t size, const int64_t *at,
                        const uint64_t *sent, uint32_t count) {
    u128 deepest = 0, bytes, one_ns = refilled(r, size, 1) + 2;
    uint32_t first, last;
    for (last = 0; last < count; last++)
        for (bytes = 0, first = last + 1; first-- > 0;) {
            u128 back = refilled(r, size, at[last] - at[first]);
            bytes += (u128)sent[first] * size;
            if (bytes > back && bytes - back > deepest) deepest = bytes - back;
        }
    CHECK(b->largest_bytes <= deepest + one_ns && deepest <= b->largest_bytes + one_ns);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    int64_t at[STEPS], zero = 1 + (int64_t)(take64(&in) >> 12), now = zero, deadline = INT64_MAX;
    uint64_t sent[STEPS], rate = take_any(&in) >> 1, bytes = 16 + take16(&in) % 65492;
    uint8_t mode = take8(&in);
    nm_pace_options o = {.burst_datagrams = mode & 2 ? (uint32_t)take_any(&in) : 0,
                         .catch_up_ns = (int64_t)(take_any(&in) >> 1)};
    nm_pace p;
    nm_burst b = {0};
    uint32_t step;
    *(mode & 1 ? &o.bps : &o.pps) = rate;
    nm_pace_init(&p, bytes, &o);
    if (!nm_paced(&p)) {
        CHECK(rate == 0);
        return 0;
    }
    nm_pace_start(&p, zero);
    if (mode & 4) deadline = nm_add_ns(zero, (int64_t)(take_any(&in) >> 1));
    for (step = 0; step < STEPS && in.left > 0; step++) {
        uint64_t ready, portion;
        now = nm_add_ns(now, (int64_t)(take_any(&in) >> 24));
        if (mode & 8 && nm_pace_due(&p) > now) now = nm_pace_due(&p);
        if (now >= deadline || now >= NM_FOREVER_NS) break;
        CHECK(nm_pace_due(&p) >= 0);
        if (nm_pace_due(&p) > now) { /* too early: the loops sleep then */
            at[step] = now;
            sent[step] = 0;
            continue;
        }
        ready = nm_pace_decide(&p, now, deadline);
        CHECK(ready <= p.most && p.skipped_ns >= 0);
        portion = ready < 4096 ? ready : 4096; /* no call takes more */
        nm_burst_add(&b, &p.rate, bytes, now, portion);
        nm_pace_sent(&p, portion, 0, now);
        at[step] = now;
        sent[step] = portion;
    }
    check_burst(&b, &p.rate, bytes, at, sent, step);
    return 0;
}
