/* A time series with one writer and two readers.
 *
 * Each round has a series of its own, which the writer fills while the readers read it. Before an add
 * the writer says what the total will be, after it what it was: what a reader sees must lie between
 * the two, and never shrink.
 */
#include "harness.h"

#include "nm_series.h"

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

void scenario_merges(uint32_t count) {
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
void scenario_starts(uint32_t count) {
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

/* Moments in any order: no count is lost, none leads outside the buckets, the curve never shrinks. */
void scenario_moments(uint32_t count) {
    static const int64_t wild[] = {INT64_MIN, -1, 0, 1, INT64_MAX - 1, INT64_MAX};
    uint32_t seed = 1;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t *bucket = calloc(2, sizeof *bucket), copy[2], total = 0, before = 0;
        nm_series s = {.bucket = bucket, .capacity = 2, .width_ns = 1 + i % 7};
        int64_t origin, width;
        CHECK(bucket != NULL);
        for (uint32_t step = 0; step < 40; step++) {
            seed = seed * 1664525 + 1013904223;
            nm_series_add(&s, step % 5 ? (int64_t)(seed >> 8) - 4000000 : wild[seed >> 8 & 3],
                          step);
            total += step;
        }
        if (i % 2) nm_series_add(&s, wild[4 + i / 2 % 2], 1), total++;
        CHECK(sum_of(copy, nm_series_read(&s, copy, &origin, &width)) == total);
        CHECK(origin > 0 && width > 0);
        for (int64_t shift = 0; shift < 63; shift++) {
            uint64_t now = nm_series_until(&s, nm_add_ns(origin, INT64_C(1) << shift));
            CHECK(now >= before && now <= total);
            before = now;
        }
        CHECK(nm_series_until(&s, INT64_MIN) == 0);
        CHECK(nm_series_middle(&s, 1) > 0);
        free(bucket);
    }
}
