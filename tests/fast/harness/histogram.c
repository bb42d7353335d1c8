/* A histogram: its edges, its merges, and a reader beside the thread that counts. */
#include "harness.h"

#include "nm_histogram.h"

typedef struct {
    nm_histogram *counting;
    uint32_t rounds, finished;
} counted_t;

static int64_t duration_of(uint64_t i) {
    uint64_t mixed = (i + 1) * UINT64_C(0x9E3779B97F4A7C15);
    return (int64_t)(mixed >> (27 + i % 37)); /* of every order of magnitude */
}

static void *count(void *argument) {
    counted_t *c = argument;
    for (uint64_t i = 0; i < c->rounds; i++) nm_histogram_add(c->counting, duration_of(i));
    RELEASE(&c->finished, 1);
    return NULL;
}

static void *look(void *argument) {
    counted_t *c = argument;
    uint64_t seen = 0;
    while (!ACQUIRE(&c->finished)) {
        uint64_t now = NM_LOAD(&c->counting->count);
        CHECK(now >= seen && now <= c->rounds);
        seen = now;
        CHECK(NM_LOAD(&c->counting->max_ns) >= 0);
    }
    return NULL;
}

static void check_edges(void) {
    CHECK(nm_histogram_index(-1) == 0 && nm_histogram_index(INT64_MIN) == 0);
    CHECK(nm_histogram_index(INT64_MAX) == NM_HISTOGRAM_BUCKETS - 1);
    for (uint32_t i = 0; i < NM_HISTOGRAM_BUCKETS; i++) {
        int64_t from = nm_histogram_from(i), to = nm_histogram_from(i + 1);
        CHECK(from < to);
        CHECK(nm_histogram_index(from) == i && nm_histogram_index(to - 1) == i);
        CHECK((to - from) * NM_HISTOGRAM_HALF <= from || to - from == 1);
    }
}

void scenario_histogram(uint32_t rounds) {
    counted_t c = {calloc(1, sizeof *c.counting), rounds, 0};
    nm_histogram *sum = calloc(1, sizeof *sum), *half = calloc(1, sizeof *half);
    pthread_t writer, reader;
    uint64_t total = 0;
    CHECK(c.counting && sum && half);
    check_edges();
    writer = start(count, &c), reader = start(look, &c);
    pthread_join(writer, NULL);
    pthread_join(reader, NULL);
    nm_histogram_merge(sum, half); /* an empty one changes nothing */
    CHECK(sum->count == 0 && sum->max_ns == 0);
    for (uint64_t i = 0; i < rounds; i++) nm_histogram_add(i % 2 ? sum : half, duration_of(i));
    nm_histogram_merge(sum, half);
    CHECK(memcmp(sum, c.counting, sizeof *sum) == 0); /* parts add up to the whole, exactly */
    for (uint32_t i = 0; i < NM_HISTOGRAM_BUCKETS; i++) total += sum->bucket[i];
    CHECK(total == rounds && sum->count == rounds);
    free(c.counting), free(sum), free(half);
}
