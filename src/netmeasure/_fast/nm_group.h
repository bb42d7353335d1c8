/* A group: the shared state of one run's traffic threads. It has a gate that opens once, two orders
 * to end (stop, abort), and a budget of bytes. */
#ifndef NM_GROUP_H
#define NM_GROUP_H

#include <pthread.h>
#include <stdint.h>
#include <string.h>

#include "nm_atomic.h"

typedef struct {
    uint64_t claimed; /* bytes of the budget handed out so far; all threads write it */
    uint64_t budget;  /* set before the threads start; 0: no limit */
    int64_t counted_from_ns; /* when the first of its streams began to count; 0: none has */
    char line[64];    /* keeps the flags on another cache line */
    uint32_t stop;    /* finish cleanly: a sender drains, a receiver empties its socket */
    uint32_t abort;   /* leave at once */
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    int64_t opened_ns; /* written under the mutex; 0: the gate is shut */
} nm_group;

/* Returns 0, or the errno that says why the system has no mutex or condition to give. */
static inline int nm_group_init(nm_group *g, uint64_t budget) {
    int code;
    memset(g, 0, sizeof *g);
    g->budget = budget;
    if ((code = pthread_mutex_init(&g->mutex, NULL)) != 0) return code;
    if ((code = pthread_cond_init(&g->opened, NULL)) != 0) pthread_mutex_destroy(&g->mutex);
    return code;
}

/* Call only for a group whose nm_group_init() returned 0. */
static inline void nm_group_destroy(nm_group *g) {
    pthread_cond_destroy(&g->opened);
    pthread_mutex_destroy(&g->mutex);
}

static inline int nm_stopping(const nm_group *g) { return NM_LOAD(&g->stop) != 0; }
static inline int nm_aborting(const nm_group *g) { return NM_LOAD(&g->abort) != 0; }

/* Waits until the gate opens. Returns the time of opening, or 0 if an order to end came first. */
static inline int64_t nm_gate_wait(nm_group *g) {
    int64_t at;
    pthread_mutex_lock(&g->mutex);
    while (g->opened_ns == 0 && !nm_stopping(g) && !nm_aborting(g))
        pthread_cond_wait(&g->opened, &g->mutex);
    at = g->opened_ns;
    pthread_mutex_unlock(&g->mutex);
    return at;
}

/* Opens the gate; a second call changes nothing. Returns the moment of the first. */
static inline int64_t nm_gate_open(nm_group *g, int64_t now) {
    int64_t at;
    pthread_mutex_lock(&g->mutex);
    if (g->opened_ns == 0) NM_STORE(&g->opened_ns, now);
    at = g->opened_ns;
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->mutex);
    return at;
}

/* Returns when the gate was opened, 0 while it is shut. Any thread may ask. */
static inline int64_t nm_gate_opened(const nm_group *g) { return NM_LOAD(&g->opened_ns); }

static inline void nm_raise(nm_group *g, uint32_t *flag) {
    pthread_mutex_lock(&g->mutex);
    NM_STORE(flag, 1);
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->mutex);
}
static inline void nm_stop(nm_group *g) { nm_raise(g, &g->stop); }
static inline void nm_abort(nm_group *g) { nm_raise(g, &g->abort); }

/* Notes that a stream begins to count. Returns when the first stream of the group did: the omitted time
 * counts from there, for all streams, so that it ends for all at the same moment. */
static inline int64_t nm_group_count_from(nm_group *g, int64_t now) {
    int64_t none = 0;
    if (__atomic_compare_exchange_n(&g->counted_from_ns, &none, now, 0, __ATOMIC_RELAXED,
                                    __ATOMIC_RELAXED))
        return now;
    return none;
}

/* Returns the bytes of the budget that are left; UINT64_MAX where there is no limit. */
static inline uint64_t nm_budget_left(const nm_group *g) {
    uint64_t claimed = NM_LOAD(&g->claimed);
    if (g->budget == 0) return UINT64_MAX;
    return claimed < g->budget ? g->budget - claimed : 0;
}

/* Takes up to `want` bytes from the budget and returns how many it got; 0 when it is spent. The sum
 * of all that is handed out is the budget, exactly, however many threads draw. */
static inline uint64_t nm_claim(nm_group *g, uint64_t want) {
    uint64_t left = nm_budget_left(g), before;
    if (g->budget == 0) return want;
    if (want > left) want = left; /* so `claimed` never grows far beyond the budget */
    if (want == 0) return 0;
    before = __atomic_fetch_add(&g->claimed, want, __ATOMIC_RELAXED);
    if (before >= g->budget) return 0;
    return want <= g->budget - before ? want : g->budget - before;
}

#endif
