/* A group: four threads draw from its budget, or wait at its gate. */
#include "harness.h"

#include "nm_clock.h"
#include "nm_group.h"

/* ---- budget: four threads draw from one ------------------------------------------------------ */

enum { DRAWERS = 4 };
static nm_group group;

static void *draw(void *argument) {
    uint64_t *drawn = argument, want, got, step = (uintptr_t)drawn / sizeof *drawn % 8 + 1;
    for (uint64_t i = 0;; i++) {
        want = 1 + i * step * 7919 % 100000;
        got = nm_claim(&group, want);
        CHECK(got <= want);
        if (got == 0) return NULL;
        *drawn += got;
    }
}

void scenario_budget(uint32_t count) {
    static const uint64_t budgets[] = {1, 65535, 65536, 1048577, (UINT64_C(1) << 30) + 1};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t budget = budgets[i % (sizeof budgets / sizeof *budgets)];
        uint64_t drawn[DRAWERS] = {0};
        pthread_t threads[DRAWERS];
        nm_group_init(&group, budget);
        for (int d = 0; d < DRAWERS; d++) threads[d] = start(draw, &drawn[d]);
        for (int d = 0; d < DRAWERS; d++) pthread_join(threads[d], NULL);
        CHECK(sum_of(drawn, DRAWERS) == budget);
        CHECK(nm_claim(&group, 1) == 0 && nm_budget_left(&group) == 0);
    }
    nm_group_init(&group, 0);
    CHECK(nm_claim(&group, UINT64_MAX) == UINT64_MAX); /* no budget, no limit */
    CHECK(nm_budget_left(&group) == UINT64_MAX);
    CHECK(nm_claim(&group, 5) == 5);
}

/* ---- gate: four threads wait, then it is opened, or they are told to stop ---------------------- */

enum { WAITERS = 4 };
static uint32_t arrived;

static void *wait_at_gate(void *argument) {
    int64_t *moment = argument;
    __atomic_fetch_add(&arrived, 1, __ATOMIC_RELEASE);
    *moment = nm_gate_wait(&group);
    return NULL;
}

void scenario_gate(uint32_t count) {
    enum { OPEN, STOP, ABORT, WAYS };
    for (uint32_t i = 0; i < count; i++) {
        int way = i % WAYS;
        /* every other time the order comes when all are on their way to the gate */
        uint32_t wait_for = i / WAYS % 2 ? WAITERS : 0;
        int64_t moments[WAITERS], now = nm_now();
        pthread_t threads[WAITERS];
        RELEASE(&arrived, 0);
        nm_group_init(&group, 0);
        for (int w = 0; w < WAITERS; w++) threads[w] = start(wait_at_gate, &moments[w]);
        while (ACQUIRE(&arrived) < wait_for) sched_yield();
        if (way == OPEN) CHECK(nm_gate_open(&group, now) == now);
        if (way == OPEN) CHECK(nm_gate_open(&group, now + 1) == now); /* changes nothing */
        if (way == STOP) nm_stop(&group);
        if (way == ABORT) nm_abort(&group);
        for (int w = 0; w < WAITERS; w++) pthread_join(threads[w], NULL);
        for (int w = 0; w < WAITERS; w++) CHECK(moments[w] == (way == OPEN ? now : 0));
        CHECK(nm_stopping(&group) == (way == STOP));
        CHECK(nm_aborting(&group) == (way == ABORT));
        CHECK(nm_gate_wait(&group) == (way == OPEN ? now : 0));
        if (way == OPEN) nm_stop(&group);
        if (way == OPEN) CHECK(nm_gate_wait(&group) == now); /* opened is opened */
    }
}
