/* A probe and its reflector over socket pairs, each in a thread, while another one orders and reads. */
#include "harness.h"

#include <sys/eventfd.h>

#include "nm_probe.h"

enum { BUCKETS = 64, MOST = 40 };

typedef struct {
    nm_stream stream;
    uint64_t bucket[BUCKETS];
    nm_sample sample[NM_SAMPLES];
} counted_t;

static void prepare(counted_t *c) {
    memset(c, 0, sizeof *c);
    c->stream.series.bucket = c->bucket;
    c->stream.series.capacity = BUCKETS;
    c->stream.series.width_ns = 1000000;
    c->stream.sample = c->sample;
    c->stream.sampling.every_ns = 1000000;
    CHECK(nm_stream_enter(&c->stream));
}

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

void scenario_probe(uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; i++) one_round((int)(i % 2));
}
