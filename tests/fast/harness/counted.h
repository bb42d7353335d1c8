/* A stream with room for its series and samples, as the scenarios of probes and round trips need two. */
#ifndef COUNTED_H
#define COUNTED_H

#include "harness.h"

#include "nm_stream.h"

enum { BUCKETS = 64 };

typedef struct {
    nm_stream stream;
    uint64_t bucket[BUCKETS];
    nm_sample sample[NM_SAMPLES];
} counted_t;

static inline void prepare(counted_t *c) {
    memset(c, 0, sizeof *c);
    c->stream.series.bucket = c->bucket;
    c->stream.series.capacity = BUCKETS;
    c->stream.series.width_ns = 1000000;
    c->stream.sample = c->sample;
    c->stream.sampling.every_ns = 1000000;
    CHECK(nm_stream_enter(&c->stream));
}

#endif
