/* A probe and its reflector over socket pairs, each in a thread, while another one orders and reads. */
#include "counted.h"

#include <sys/eventfd.h>

#include "nm_probe.h"

enum { MOST = 40 };

static void *send_probes(void *argument) {
    nm_probe *p = argument;
    nm_probe_all(p);
    nm_stream_leave(p->own);
    return NULL;
}

static void *reflect(void *argument) {
    nm_reflector *r = argument;
    nm_reflect_all(r);
    nm_stream_leave(r->own);
    return NULL;
}

static void one_round(int stream) {
    static counted_t near, far;
    static nm_probe p;
    static uint64_t count[NM_PROBE_PARTS][BUCKETS], sum[NM_PROBE_PARTS][BUCKETS];
    static uint64_t copy[BUCKETS];
    nm_histogram *latency = calloc(NM_PROBE_PARTS, sizeof *latency);
    nm_probe_slot *slot = calloc(NM_PROBE_SLOTS, sizeof *slot);
    nm_group probing, reflecting;
    int64_t origin, width;
    int ends[2];
    CHECK(latency && slot);
    prepare(&near), prepare(&far);
    memset(&p, 0, sizeof p), memset(count, 0, sizeof count), memset(sum, 0, sizeof sum);
    CHECK(socketpair(AF_UNIX, stream ? SOCK_STREAM : SOCK_DGRAM, 0, ends) == 0);
    nm_group_init(&probing, 0), nm_group_init(&reflecting, 0);
    p.wake = eventfd(0, EFD_NONBLOCK);
    CHECK(p.wake >= 0);
    p.own = &near.stream, p.group = &probing, p.fd = ends[0], p.stream = stream, p.slot = slot;
    for (int i = 0; i < NM_PROBE_PARTS; i++) {
        p.part[i].latency = &latency[i];
        p.part[i].count = (nm_series){count[i], BUCKETS, 0, 0, 0, 1000000};
        p.part[i].sum_ns = (nm_series){sum[i], BUCKETS, 0, 0, 0, 1000000};
    }
    nm_reflector r = {.own = &far.stream, .group = &reflecting, .fd = ends[1], .stream = stream,
                      .hello = "", .hello_reply = ""};
    pthread_t probes = start(send_probes, &p), reflects = start(reflect, &r);
    for (uint32_t part = 0; part < NM_PROBE_PARTS; part++) {
        nm_probe_order(&p, part, 1000000, MOST);
        for (uint64_t done = 0; done < MOST; done = NM_LOAD(&p.part[part].answered)) {
            CHECK(done <= NM_LOAD(&p.part[part].sent));
            CHECK(nm_series_read(&p.part[part].count, copy, &origin, &width) <= BUCKETS);
            nm_probe_order(&p, part, 500000, MOST); /* the same part, faster */
            sched_yield();
        }
    }
    nm_probe_order(&p, NM_PROBE_PAUSED, 0, 0);
    nm_stop(&probing), nm_stop(&reflecting);
    pthread_join(probes, NULL);
    pthread_join(reflects, NULL);
    CHECK(near.stream.reason == NM_STOPPED && far.stream.reason == NM_STOPPED);
    CHECK(p.open == 0 && p.late == 0 && p.invalid == 0 && r.invalid == 0);
    for (int i = 0; i < NM_PROBE_PARTS; i++) {
        CHECK(p.part[i].sent == MOST && latency[i].count == MOST);
        CHECK(sum_of(count[i], BUCKETS) == MOST);
        CHECK(sum_of(sum[i], BUCKETS) == latency[i].sum_ns);
    }
    CHECK(far.stream.bytes == NM_PROBE_PARTS * MOST * NM_PROBE_BYTES);
    close(ends[0]), close(ends[1]), close(p.wake);
    free(latency), free(slot);
}

/* Answers to probes on a path with a queue of known delay, at made-up moments: what the hosts took of each
 * is left out to the nanosecond. */
static void known_delay(int64_t delay_ns) {
    enum { PROBES = 200, MS = 1000000 };
    static nm_probe p;
    static uint64_t count[BUCKETS], sum[BUCKETS];
    nm_histogram *latency = calloc(1, sizeof *latency);
    nm_probe_slot *slot = calloc(NM_PROBE_SLOTS, sizeof *slot);
    uint64_t hosts = 0;
    uint32_t median = nm_histogram_index(delay_ns);
    CHECK(latency && slot);
    memset(&p, 0, sizeof p), memset(count, 0, sizeof count), memset(sum, 0, sizeof sum);
    p.slot = slot, p.part[1].latency = latency;
    p.part[1].count = (nm_series){count, BUCKETS, 0, 0, 0, 100 * MS};
    p.part[1].sum_ns = (nm_series){sum, BUCKETS, 0, 0, 0, 100 * MS};
    for (int i = 1; i <= PROBES; i++) {
        int64_t waited = i % 3 * MS, kept = i % 7 * MS, sent = (int64_t)i * 10 * MS + NM_SECOND_NS;
        uint64_t word[2] = {htobe64((uint64_t)i), htobe64((uint64_t)kept)};
        p.number = (uint64_t)i, p.open++, p.part[1].sent++;
        slot[i] = (nm_probe_slot){sent, (uint64_t)i, 1, 1};
        if (i > PROBES / 2 && i % 10 == 0) continue; /* this one is lost */
        nm_probe_take(&p, word, sizeof word, sent + delay_ns + kept + waited, waited);
        hosts += (uint64_t)(waited + kept);
    }
    CHECK(p.part[1].answered == PROBES - 10 && p.open == 10 && latency->count == PROBES - 10);
    CHECK(latency->min_ns == delay_ns && latency->max_ns == delay_ns);
    CHECK(latency->bucket[median] == PROBES - 10);
    CHECK(nm_histogram_from(median + 1) - nm_histogram_from(median) <= delay_ns / 1000);
    CHECK(latency->sum_ns == (PROBES - 10) * (uint64_t)delay_ns);
    CHECK(sum_of(count, BUCKETS) == PROBES - 10 && sum_of(sum, BUCKETS) == latency->sum_ns);
    CHECK(p.part[1].host_sum_ns == hosts && p.part[1].host_max_ns == 8 * MS);
    CHECK(p.late == 0 && p.invalid == 0);
    free(latency), free(slot);
}

/* Stamped answers on such a path, of a reflector whose clock is far behind and 50 ppm too fast: the queue is
 * in the way there, and none in the way back. A clock that jumps makes both unknown. */
static void known_ways(int64_t queue_ns, int64_t jump_ns) {
    enum { PROBES = 400, MS = 1000000, WAY = 5 * MS };
    static nm_probe p;
    static uint64_t count[2][BUCKETS], sum[2][BUCKETS];
    nm_histogram *found = calloc(6, sizeof *found);
    nm_probe_slot *slot = calloc(NM_PROBE_SLOTS, sizeof *slot);
    const int64_t drift = PROBES * 10 * (int64_t)MS / 20000; /* at the end */
    CHECK(found && slot);
    memset(&p, 0, sizeof p), memset(count, 0, sizeof count), memset(sum, 0, sizeof sum);
    p.slot = slot, p.stamped = 1;
    for (int i = 0; i < 2; i++) {
        p.part[i].latency = &found[i], p.part[i].there = &found[2 + i], p.part[i].back = &found[4 + i];
        p.part[i].count = (nm_series){count[i], BUCKETS, 0, 0, 0, 100 * MS};
        p.part[i].sum_ns = (nm_series){sum[i], BUCKETS, 0, 0, 0, 100 * MS};
    }
    for (int i = 1; i <= PROBES; i++) {
        int loaded = i > PROBES / 2;
        int64_t waited = i % 3 * MS, kept = i % 7 * MS, sent = (int64_t)i * 10 * MS + 1000 * NM_SECOND_NS;
        int64_t there = WAY + (loaded ? queue_ns : 0), left = sent + there + kept;
        int64_t clock = left - 999 * NM_SECOND_NS + i * 10 * (int64_t)MS / 20000 + (loaded ? jump_ns : 0);
        uint64_t word[2] = {htobe64((uint64_t)kept << 32 | (uint64_t)i), htobe64((uint64_t)clock)};
        p.number = (uint64_t)i, p.open++, p.part[loaded].sent++;
        slot[i] = (nm_probe_slot){sent, (uint64_t)i, (uint32_t)loaded, 1};
        nm_probe_take(&p, word, sizeof word, left + WAY + waited, waited);
    }
    CHECK(found[0].min_ns == 2 * WAY && found[1].max_ns == 2 * WAY + queue_ns);
    CHECK(found[2].count == PROBES / 2 && found[5].count == PROBES / 2);
    CHECK(p.uneven == (jump_ns != 0));
    CHECK(p.apart_ns >= (PROBES - 1) * 10 * (int64_t)MS);
    if (jump_ns == 0) {
        CHECK(found[2].max_ns <= drift && found[4].max_ns <= drift && found[5].max_ns <= drift);
        CHECK(found[3].min_ns >= queue_ns && found[3].max_ns <= queue_ns + drift);
    }
    free(found), free(slot);
}

void scenario_probe(uint32_t rounds) {
    known_delay(5000000), known_delay(50000000), known_delay(200000000);
    known_ways(5000000, 0), known_ways(200000000, 0);
    known_ways(5000000, 1000000000), known_ways(5000000, -1000000000);
    for (uint32_t i = 0; i < rounds; i++) one_round((int)(i % 2));
}
