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
    CHECK(nm_group_init(&probing, 0) == 0 && nm_group_init(&reflecting, 0) == 0);
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
    nm_group_destroy(&probing), nm_group_destroy(&reflecting);
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

void scenario_probe(uint32_t rounds) {
    known_delay(5000000), known_delay(50000000), known_delay(200000000);
    for (uint32_t i = 0; i < rounds; i++) one_round((int)(i % 2));
}
