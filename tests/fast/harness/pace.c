/* Pacing under a clock of its own: late wake-ups, long calls, and the burst that follows. */
#include "harness.h"

#include "nm_burst.h"
#include "nm_pace.h"

enum { SIZE = 1000 };

/* The depth that a token bucket must have: every stretch that ends with this send is looked at. */
static uint64_t depth(const int64_t *at, const uint64_t *sent, uint32_t last, uint64_t bps) {
    uint64_t deepest = 0, bytes = 0;
    for (uint32_t i = last + 1; i-- > 0;) {
        uint64_t refilled = (uint64_t)((unsigned __int128)(at[last] - at[i]) * bps / 8 / 1000000000);
        bytes += sent[i] * SIZE;
        if (bytes > refilled && bytes - refilled > deepest) deepest = bytes - refilled;
    }
    return deepest;
}

void scenario_pace(uint32_t count) {
    static int64_t at[400];
    static uint64_t sent[400];
    uint32_t seed = 7;
    for (uint32_t round = 0; round < count; round++) {
        nm_pace_options o = {.bps = UINT64_C(1000000) << round % 11, .catch_up_ns = 10000000};
        nm_pace p;
        nm_burst b = {0};
        int64_t zero = 1000000000, now = zero, deadline = zero + 60 * NM_SECOND_NS;
        uint64_t deepest = 0, total = 0, scheduled;
        nm_pace_init(&p, SIZE, &o);
        nm_pace_start(&p, zero);
        for (uint32_t step = 0; step < 400; step++) {
            int64_t due = nm_pace_due(&p);
            CHECK(due >= zero && due < deadline);
            seed = seed * 1664525 + 1013904223;
            /* mostly in time, sometimes a few milliseconds late, seldom by a stall of 60 ms */
            now = (due > now ? due : now) + (seed >> 20) % 50000;
            if (seed >> 24 < 10) now += 4000000;
            if (seed >> 24 == 255) now += 60000000;
            at[step] = now;
            sent[step] = nm_pace_decide(&p, now, deadline);
            CHECK(sent[step] >= 1 && sent[step] <= p.most);
            nm_burst_add(&b, &p.rate, SIZE, now, sent[step]);
            nm_pace_sent(&p, sent[step], 0, now);
            total += sent[step];
            if (depth(at, sent, step, o.bps) > deepest) deepest = depth(at, sent, step, o.bps);
            CHECK(b.largest_bytes <= deepest + 1 && deepest <= b.largest_bytes + 1 + o.bps / 8000000000);
        }
        scheduled = nm_rate_due(&p.rate, now + 1 - zero);
        CHECK(p.scheduled == total && total <= scheduled + p.quantum);
        /* what is made up for is bounded: never more than 10 ms of the rate and a portion */
        CHECK(b.largest_bytes <= o.bps / 8 / 100 + (p.quantum + 1) * SIZE);
    }
}
