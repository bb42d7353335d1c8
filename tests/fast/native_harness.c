/* Hammers nm_native.h from several threads. `native_harness SCENARIO [ROUNDS]`: exit status 0 when
 * every check held, else a line on stderr that says which did not.
 *
 * Everything that threads share here is read and written with __atomic operations or under a mutex,
 * so that whatever a race detector reports is a fault of nm_native.h, not of the harness.
 */
#define _GNU_SOURCE /* RUSAGE_THREAD; Python.h defines it for the real modules */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "nm_native.h"

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);           \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

#define ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static pthread_t start(void *(*work)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, argument) == 0);
    return thread;
}

/* ---- series: one writer, two readers ---------------------------------------------------------
 * Each round has a series of its own, which the writer fills while the readers read it. Before an
 * add the writer says what the total will be, after it what it was: what a reader sees must lie
 * between the two, and never shrink. */

enum { BUCKETS = 8 };
#define WIDTH INT64_C(1000)
#define FAR (INT64_MAX / 2)

typedef struct {
    nm_series series;
    uint64_t bucket[BUCKETS];
    uint64_t promised, kept; /* upper and lower bound of what a reader may see */
} round_t;

static round_t *rounds;
static uint32_t current, reading, finished;

static int64_t origin_of(uint32_t number) { return INT64_C(1000000000000) + number; }

static uint64_t sum_of(const uint64_t *values, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += values[i];
    return sum;
}

static void *read_series(void *unused) {
    uint64_t copy[BUCKETS], low, high, sum, seen = 0;
    int64_t origin, width, seen_width = 0;
    uint32_t number, used, last = UINT32_MAX;
    (void)unused;
    while (!ACQUIRE(&finished)) {
        number = ACQUIRE(&current);
        round_t *round = &rounds[number];
        if (number != last) seen = 0, seen_width = WIDTH, last = number;
        RELEASE(&reading, number);
        low = ACQUIRE(&round->kept);
        used = nm_series_read(&round->series, copy, &origin, &width);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        high = ACQUIRE(&round->promised);
        sum = sum_of(copy, used);
        CHECK(used <= BUCKETS);
        CHECK(origin == 0 || origin == origin_of(number));
        CHECK(used == 0 || origin != 0);
        CHECK(width >= seen_width && width % WIDTH == 0);
        CHECK(((width / WIDTH) & (width / WIDTH - 1)) == 0);
        CHECK(sum >= low && sum <= high);
        CHECK(sum >= seen);
        seen = sum;
        seen_width = width;
    }
    return NULL;
}

static void *read_until(void *unused) {
    uint64_t low, high, sum, seen = 0;
    uint32_t number, last = UINT32_MAX;
    (void)unused;
    while (!ACQUIRE(&finished)) {
        number = ACQUIRE(&current);
        round_t *round = &rounds[number];
        if (number != last) seen = 0, last = number;
        low = ACQUIRE(&round->kept);
        sum = nm_series_until(&round->series, FAR);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        high = ACQUIRE(&round->promised);
        CHECK(sum >= low && sum <= high);
        CHECK(sum >= seen);
        seen = sum;
        CHECK(nm_series_until(&round->series, origin_of(number)) == 0);
        sum = nm_series_until(&round->series, origin_of(number) + 3 * WIDTH / 2);
        CHECK(sum <= ACQUIRE(&round->promised));
    }
    return NULL;
}

/* Returns the number of merges. */
static uint32_t write_round(uint32_t number, uint32_t steps) {
    round_t *round = &rounds[number];
    nm_series *s = &round->series;
    int64_t since = 0;
    uint64_t total = 0;
    uint32_t merges = 0;
    nm_series_start(s, origin_of(number));
    for (uint32_t step = 0; step < steps; step++) {
        uint64_t n = step % 7 * 1000 + 1;
        total += n;
        RELEASE(&round->promised, total);
        __atomic_thread_fence(__ATOMIC_RELEASE);
        nm_series_add(s, origin_of(number) + since, n);
        RELEASE(&round->kept, total);
        since += 100 + since / 16; /* doubles every 11 steps: a merge each time */
    }
    for (int64_t width = s->width_ns; width > WIDTH; width /= 2) merges++;
    return merges;
}

/* What is left when the writer has ended: nothing lost, and a curve that only grows. */
static void check_round(uint32_t number) {
    nm_series *s = &rounds[number].series;
    uint64_t copy[BUCKETS], total = rounds[number].kept, before = 0, now;
    int64_t origin, width;
    uint32_t used = nm_series_read(s, copy, &origin, &width);
    CHECK(origin == origin_of(number));
    CHECK(sum_of(copy, used) == total);
    CHECK(nm_series_until(s, FAR) == total);
    CHECK(nm_series_until(s, origin + width * used) == total);
    CHECK(nm_series_until(s, origin) == 0);
    CHECK(nm_series_until(s, origin - 1) == 0);
    CHECK(nm_series_until(s, 0) == 0);
    for (int64_t i = 0; i <= 1000; i++) {
        now = nm_series_until(s, origin + width * used / 1000 * i);
        CHECK(now >= before && now <= total);
        before = now;
    }
    for (uint32_t i = 0; i < used; i++)
        CHECK(nm_series_until(s, origin + width * i) == sum_of(copy, i));
}

static void prepare_rounds(uint32_t count) {
    CHECK((rounds = calloc(count, sizeof *rounds)) != NULL);
    for (uint32_t i = 0; i < count; i++) {
        rounds[i].series.bucket = rounds[i].bucket;
        rounds[i].series.capacity = BUCKETS;
        rounds[i].series.width_ns = WIDTH;
    }
    CHECK(nm_series_until(&rounds[0].series, FAR) == 0);
}

static void check_rounds(uint32_t count) {
    for (uint32_t i = 0; i < count; i++) check_round(i);
    free(rounds);
}

static void scenario_merges(uint32_t count) {
    uint64_t merges = 0;
    prepare_rounds(count);
    pthread_t readers[] = {start(read_series, NULL), start(read_until, NULL)};
    for (uint32_t i = 0; i < count; i++) {
        RELEASE(&current, i);
        merges += write_round(i, 400);
    }
    RELEASE(&finished, 1);
    for (int i = 0; i < 2; i++) pthread_join(readers[i], NULL);
    check_rounds(count);
    CHECK(merges >= (uint64_t)count * 20);
}

/* Little else than starts, each under the eyes of a reader: does it see bytes without an origin? */
static void scenario_starts(uint32_t count) {
    prepare_rounds(count);
    pthread_t reader = start(read_series, NULL);
    for (uint32_t i = 1; i < count; i++) {
        RELEASE(&current, i);
        while (ACQUIRE(&reading) != i) sched_yield();
        for (uint32_t pause = i % 64; pause > 0; pause--) (void)ACQUIRE(&reading);
        write_round(i, 4);
    }
    RELEASE(&finished, 1);
    pthread_join(reader, NULL);
    write_round(0, 4);
    check_rounds(count);
}

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

static void scenario_budget(uint32_t count) {
    static const uint64_t budgets[] = {1, 65535, 65536, 1048577, (UINT64_C(1) << 30) + 1};
    for (uint32_t i = 0; i < count; i++) {
        uint64_t budget = budgets[i % (sizeof budgets / sizeof *budgets)];
        uint64_t drawn[DRAWERS] = {0};
        pthread_t threads[DRAWERS];
        nm_group_init(&group);
        group.budget = budget;
        for (int d = 0; d < DRAWERS; d++) threads[d] = start(draw, &drawn[d]);
        for (int d = 0; d < DRAWERS; d++) pthread_join(threads[d], NULL);
        CHECK(sum_of(drawn, DRAWERS) == budget);
        CHECK(nm_claim(&group, 1) == 0);
        nm_group_destroy(&group);
    }
    nm_group_init(&group);
    CHECK(nm_claim(&group, UINT64_MAX) == UINT64_MAX); /* no budget, no limit */
    CHECK(nm_claim(&group, 5) == 5);
    nm_group_destroy(&group);
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

static void scenario_gate(uint32_t count) {
    enum { OPEN, STOP, ABORT, WAYS };
    for (uint32_t i = 0; i < count; i++) {
        int way = i % WAYS;
        /* every other time the order comes when all are on their way to the gate */
        uint32_t wait_for = i / WAYS % 2 ? WAITERS : 0;
        int64_t moments[WAITERS], now = nm_now();
        pthread_t threads[WAITERS];
        RELEASE(&arrived, 0);
        nm_group_init(&group);
        for (int w = 0; w < WAITERS; w++) threads[w] = start(wait_at_gate, &moments[w]);
        while (ACQUIRE(&arrived) < wait_for) sched_yield();
        if (way == OPEN) nm_gate_open(&group, now);
        if (way == OPEN) nm_gate_open(&group, now + 1); /* changes nothing */
        if (way == STOP) nm_stop(&group);
        if (way == ABORT) nm_abort(&group);
        for (int w = 0; w < WAITERS; w++) pthread_join(threads[w], NULL);
        for (int w = 0; w < WAITERS; w++) CHECK(moments[w] == (way == OPEN ? now : 0));
        CHECK(nm_stopping(&group) == (way == STOP));
        CHECK(nm_aborting(&group) == (way == ABORT));
        CHECK(nm_gate_wait(&group) == (way == OPEN ? now : 0));
        if (way == OPEN) nm_stop(&group);
        if (way == OPEN) CHECK(nm_gate_wait(&group) == now); /* opened is opened */
        nm_group_destroy(&group);
    }
}

/* ---- samples: bounded, evenly spread ----------------------------------------------------------- */

static void scenario_samples(uint32_t count) {
    static nm_sample room[NM_SAMPLES];
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    nm_stream s;
    int64_t now = 1000000;
    CHECK(fd >= 0);
    memset(&s, 0, sizeof s);
    s.sample = room;
    s.sample_every_ns = 10;
    nm_sample_take(&s, -1, now); /* no socket: of the thread alone */
    CHECK(s.samples == 1 && s.sample_due_ns == now + 10 && room[0].length == 0);
    CHECK(room[0].cpu_ns > 0 && room[0].wait_ns >= -1);
    s.samples = 0;
    for (uint32_t i = 0; i < count; i++) {
        now = s.sample_due_ns;
        nm_sample_take(&s, fd, now);
        CHECK(s.samples >= 1 && s.samples <= NM_SAMPLES);
        CHECK(room[0].at_ns == 1000010 && room[s.samples - 1].at_ns == now);
    }
    CHECK(count <= NM_SAMPLES || s.sample_every_ns > 10);
    CHECK(count <= NM_SAMPLES || s.samples > NM_SAMPLES / 2);
    for (uint32_t i = 0; i < s.samples; i++) {
        CHECK(room[i].length > 0 && room[i].length <= NM_TCP_INFO_BYTES);
        CHECK(i == 0 || room[i].at_ns - room[i - 1].at_ns == s.sample_every_ns);
        CHECK(i == 0 || room[i].cpu_ns >= room[i - 1].cpu_ns);
        CHECK(i == 0 || room[i].wait_ns >= room[i - 1].wait_ns);
    }
    CHECK(nm_unacknowledged(fd) <= 0);
    CHECK(nm_unacknowledged(-1) == -1);
    nm_thread_cpu(&s);
    CHECK(s.user_ns >= 0 && s.system_ns >= 0);
    close(fd);
}

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(uint32_t);
        uint32_t rounds;
    } scenarios[] = {
        {"merges", scenario_merges, 5000},
        {"starts", scenario_starts, 5000},
        {"budget", scenario_budget, 100},
        {"gate", scenario_gate, 600},
        {"samples", scenario_samples, 5000},
    };
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (argc > 1 && strcmp(argv[1], scenarios[i].name) == 0) {
            scenarios[i].run(argc > 2 ? (uint32_t)atoi(argv[2]) : scenarios[i].rounds);
            return 0;
        }
    fprintf(stderr, "usage: %s merges|starts|budget|gate|samples [ROUNDS]\n", argv[0]);
    return 2;
}
