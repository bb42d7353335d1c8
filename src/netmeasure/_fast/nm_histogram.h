/* A histogram of durations with three significant digits, kept by the thread that measures them.
 *
 * Buckets are log-linear: 1 ns wide below 2048 ns, and in each octave above 1024 of equal width. So
 * a bucket is never wider than 1/1024 of its durations, and its middle differs from them by at most
 * 0.05 %. Two histograms are merged by adding their buckets: all have the same edges.
 */
#ifndef NM_HISTOGRAM_H
#define NM_HISTOGRAM_H

#include <stdint.h>

#include "nm_assert.h"
#include "nm_atomic.h"

#define NM_HISTOGRAM_HALF 1024   /* buckets of an octave; a power of 2 */
#define NM_HISTOGRAM_OCTAVES 26  /* above the linear part: up to 2^37 ns, more than two minutes */
#define NM_HISTOGRAM_BUCKETS ((2 + NM_HISTOGRAM_OCTAVES) * NM_HISTOGRAM_HALF)

typedef struct {
    uint64_t count;
    uint64_t sum_ns;
    int64_t min_ns; /* of no meaning while `count` is 0 */
    int64_t max_ns;
    uint64_t bucket[NM_HISTOGRAM_BUCKETS];
} nm_histogram;

/* Returns the bucket of a duration. Negative ones go to the first, too long ones to the last. */
static inline uint32_t nm_histogram_index(int64_t ns) {
    uint32_t octave;
    if (ns < 2 * NM_HISTOGRAM_HALF) return ns > 0 ? (uint32_t)ns : 0;
    octave = 63u - 11u - (uint32_t)__builtin_clzll((uint64_t)ns); /* 0: from 2048 ns on */
    if (octave >= NM_HISTOGRAM_OCTAVES) return NM_HISTOGRAM_BUCKETS - 1;
    return (1 + octave) * NM_HISTOGRAM_HALF + (uint32_t)(ns >> (octave + 1));
}

/* Returns the shortest duration of a bucket; that of the one behind the last is where it ends. */
static inline int64_t nm_histogram_from(uint32_t index) {
    uint32_t octave;
    if (index < 2 * NM_HISTOGRAM_HALF) return index;
    octave = index / NM_HISTOGRAM_HALF - 2;
    return (int64_t)(NM_HISTOGRAM_HALF + index % NM_HISTOGRAM_HALF) << (octave + 1);
}

/* Counts a duration; one below 0 is taken as 0. */
static inline void nm_histogram_add(nm_histogram *h, int64_t ns) {
    uint32_t index = nm_histogram_index(ns);
    nm_assert(index < NM_HISTOGRAM_BUCKETS);
    if (ns < 0) ns = 0;
    NM_ADD(&h->bucket[index], 1);
    if (h->count == 0 || ns < h->min_ns) NM_STORE(&h->min_ns, ns);
    if (ns > h->max_ns) NM_STORE(&h->max_ns, ns);
    NM_ADD(&h->sum_ns, (uint64_t)ns);
    NM_ADD(&h->count, 1);
}

/* Adds what another histogram has counted. No thread may write to that one. */
static inline void nm_histogram_merge(nm_histogram *h, const nm_histogram *other) {
    uint32_t i;
    if (other->count == 0) return;
    for (i = 0; i < NM_HISTOGRAM_BUCKETS; i++)
        if (other->bucket[i]) NM_ADD(&h->bucket[i], other->bucket[i]);
    if (h->count == 0 || other->min_ns < h->min_ns) NM_STORE(&h->min_ns, other->min_ns);
    if (other->max_ns > h->max_ns) NM_STORE(&h->max_ns, other->max_ns);
    NM_ADD(&h->sum_ns, other->sum_ns);
    NM_ADD(&h->count, other->count);
}

#endif
