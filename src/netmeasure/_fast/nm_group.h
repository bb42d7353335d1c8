/* A group: the shared state of one run's traffic threads. It has a gate that opens once, two orders
 * to end (stop, abort), and a budget of bytes. */
#ifndef NM_GROUP_H
#define NM_GROUP_H

#include <limits.h>
#include <linux/futex.h>
#include <stdint.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "nm_atomic.h"

#ifndef SYS_futex /* on 32-bit machines that are younger than the year 2038 problem */
#define SYS_futex SYS_futex_time64
#endif

typedef struct {
    uint64_t claimed; /* bytes of the budget handed out so far; all threads write it */
    uint64_t budget;  /* set before the threads start; 0: no limit */
    int64_t counted_from_ns; /* when the first of its streams began to count; 0: none has */
    char line[64];    /* keeps the flags on another cache line */
    uint32_t stop;    /* finish cleanly: a sender drains, a receiver empties its socket */
    uint32_t abort;   /* leave at once */
    uint32_t passable; /* 1: the gate is open, or an order to end has come; threads wait for it */
    int64_t opened_ns; /* written once; 0: the gate is shut */
} nm_group;

static inline void nm_group_init(nm_group *g, uint64_t budget) {
    memset(g, 0, sizeof *g);
    g->budget = budget;
}

static inline int nm_stopping(const nm_group *g) { return NM_LOAD(&g->stop) != 0; }
static inline int nm_aborting(const nm_group *g) { return NM_LOAD(&g->abort) != 0; }

/* Waits until the gate opens. Returns the time of opening, or 0 if an order to end came first.
 *
 * The threads wait on the word itself (futex(2)). After pthread_cond_wait() each of them would have
 * to take a mutex: on a host whose CPUs are busy, each gets it only when the one before has had its
 * turn on a CPU, and 128 senders started over three seconds. */
static inline int64_t nm_gate_wait(nm_group *g) {
    while (NM_ACQUIRE(&g->passable) == 0)
        syscall(SYS_futex, &g->passable, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
    return NM_LOAD(&g->opened_ns);
}

/* Lets all waiting threads go on. */
static inline void nm_gate_release(nm_group *g) {
    NM_RELEASE(&g->passable, 1);
    syscall(SYS_futex, &g->passable, FUTEX_WAKE_PRIVATE, INT_MAX, NULL, NULL, 0);
}

/* Opens the gate; a second call changes nothing. Returns the moment of the first. */
static inline int64_t nm_gate_open(nm_group *g, int64_t now) {
    int64_t at = 0;
    if (__atomic_compare_exchange_n(&g->opened_ns, &at, now, 0, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
        at = now;
    nm_gate_release(g);
    return at;
}

/* Returns when the gate was opened, 0 while it is shut. Any thread may ask. */
static inline int64_t nm_gate_opened(const nm_group *g) { return NM_LOAD(&g->opened_ns); }

static inline void nm_raise(nm_group *g, uint32_t *flag) {
    NM_STORE(flag, 1);
    nm_gate_release(g);
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
