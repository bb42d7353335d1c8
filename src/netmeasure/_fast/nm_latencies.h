/* The latencies of requests: a histogram, and a time series with the buckets of the stream's series
 * of bytes. The measuring thread writes both. */
#ifndef NM_LATENCIES_H
#define NM_LATENCIES_H

#include "nm_histogram.h"
#include "nm_stream.h"

typedef struct {
    nm_histogram *histogram; /* without the omitted ones */
    nm_series *sum;          /* ns, with the same edges as the stream's series */
    int64_t omit_until_ns;   /* the thread's own */
} nm_latencies;

/* Books a request of so many bytes as answered at a moment. What is omitted counts from the first one. */
static inline void nm_latencies_book(nm_latencies *l, nm_stream *own, nm_group *g, int64_t omit_ns,
                                     uint32_t request_bytes, int64_t now, int64_t latency) {
    int64_t at;
    if (own->series.origin_ns == 0) {
        nm_series_start(&own->series, now);
        nm_series_start(l->sum, now);
        l->omit_until_ns = nm_add_ns(nm_group_count_from(g, now), omit_ns);
    }
    at = nm_series_beside(&own->series, now, omit_ns > 0 ? l->omit_until_ns : 0);
    nm_series_add(&own->series, at, request_bytes);
    nm_series_add(l->sum, at, latency > 0 ? (uint64_t)latency : 0);
    NM_ADD(&own->acked, request_bytes);
    NM_STORE(&own->last_ns, now);
    if (now >= l->omit_until_ns) nm_histogram_add(l->histogram, latency);
}

#endif
