/* A time series: counts per bucket of time, kept by the counting thread itself.
 *
 * Memory is bounded however long the run: when the buckets are used up, neighbours are merged and
 * the width doubles. Readers copy under a sequence lock, so they never see half a merge.
 *
 * Moments need not be in order. One before the origin counts in the first bucket: a count is never
 * lost, and no moment leads outside the buckets.
 */
#ifndef NM_SERIES_H
#define NM_SERIES_H

#include <stdint.h>

#include "nm_assert.h"
#include "nm_atomic.h"
#include "nm_clock.h"

typedef struct {
    uint64_t *bucket;
    uint32_t capacity; /* even, at least 2 */
    uint32_t used;
    uint32_t sequence; /* odd while a merge is going on */
    int64_t origin_ns; /* start of bucket 0; 0: nothing counted yet */
    int64_t width_ns;  /* at least 1 */
} nm_series;

/* Begins the series at a moment; 0 and less are taken as 1, for 0 means "not begun". */
static inline void nm_series_start(nm_series *s, int64_t origin_ns) {
    NM_RELEASE(&s->origin_ns, origin_ns > 0 ? origin_ns : 1);
}

static inline void nm_series_merge(nm_series *s) {
    uint32_t half = s->capacity / 2, i;
    NM_STORE(&s->sequence, s->sequence + 1);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (i = 0; i < half; i++)
        NM_STORE(&s->bucket[i], NM_LOAD(&s->bucket[2 * i]) + NM_LOAD(&s->bucket[2 * i + 1]));
    for (i = half; i < s->capacity; i++) NM_STORE(&s->bucket[i], 0);
    NM_STORE(&s->used, (s->used + 1) / 2);
    NM_STORE(&s->width_ns, s->width_ns * 2); /* below 2^63: see the loop of nm_series_add() */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    NM_RELEASE(&s->sequence, s->sequence + 1);
}

/* Counts `n` at a moment. A series that has not begun begins there. */
static inline void nm_series_add(nm_series *s, int64_t now, uint64_t n) {
    int64_t since, i;
    if (s->origin_ns == 0) nm_series_start(s, now);
    since = now > s->origin_ns ? now - s->origin_ns : 0;
    while ((i = since / s->width_ns) >= s->capacity) nm_series_merge(s);
    nm_assert(i >= 0 && i < s->capacity);
    NM_ADD(&s->bucket[i], n);
    if (i >= s->used) NM_STORE(&s->used, (uint32_t)(i + 1));
}

/* Returns the moment at which to count what came at `now`, where counts after `edge` are to be told from
 * those before: `now`, but in the bucket before or behind where the edge divides its bucket. 0: there is
 * no edge. */
static inline int64_t nm_series_beside(const nm_series *s, int64_t now, int64_t edge) {
    int64_t into, start;
    if (edge == 0 || s->origin_ns == 0 || edge <= s->origin_ns || now < s->origin_ns) return now;
    into = (edge - s->origin_ns) % s->width_ns;
    start = edge - into; /* of the bucket with the edge in it */
    if (into == 0 || now < start || now - start >= s->width_ns) return now;
    return now < edge ? start - 1 : nm_add_ns(start, s->width_ns);
}

/* Returns the middle of bucket `i`, held within the range of a moment. */
static inline int64_t nm_series_middle(const nm_series *s, uint32_t i) {
    int64_t since;
    if (__builtin_mul_overflow((int64_t)i, s->width_ns, &since)) since = INT64_MAX;
    return nm_add_ns(nm_add_ns(s->origin_ns, since), s->width_ns / 2);
}

/* Copies the series into `into` (room for `capacity`) and returns the number of buckets. */
static inline uint32_t nm_series_read(const nm_series *s, uint64_t *into, int64_t *origin,
                                      int64_t *width) {
    uint32_t before, used, i;
    for (;;) {
        before = NM_ACQUIRE(&s->sequence);
        if (before & 1) continue;
        *origin = NM_ACQUIRE(&s->origin_ns);
        *width = NM_LOAD(&s->width_ns);
        used = NM_LOAD(&s->used);
        if (*origin == 0) used = 0; /* the first bytes came between the two loads */
        for (i = 0; i < used; i++) into[i] = NM_LOAD(&s->bucket[i]);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (NM_LOAD(&s->sequence) == before) return used;
    }
}

/* Returns the count up to a moment. Within the moment's bucket it takes the count as evenly spread. */
static inline uint64_t nm_series_until(const nm_series *s, int64_t moment) {
    uint32_t before, used, i, full;
    uint64_t sum;
    int64_t origin, since, width;
    for (;;) {
        before = NM_ACQUIRE(&s->sequence);
        if (before & 1) continue;
        origin = NM_ACQUIRE(&s->origin_ns);
        width = NM_LOAD(&s->width_ns);
        used = NM_LOAD(&s->used);
        sum = 0;
        if (origin != 0 && moment > origin) {
            since = moment - origin;
            full = since / width < used ? (uint32_t)(since / width) : used;
            for (i = 0; i < full; i++) sum += NM_LOAD(&s->bucket[i]);
            if (full < used) {
                double part = (double)(since % width) / (double)width;
                sum += (uint64_t)((double)NM_LOAD(&s->bucket[full]) * part);
            }
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (NM_LOAD(&s->sequence) == before) return sum;
    }
}

#endif
