/* No moment, however wild, loses a count or leaves the buckets: the buckets hold the sum of all counts,
 * and the count up to a moment never shrinks from one moment to a later one. */
#include "input.h"

#include "nm_series.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint32_t capacity = 2 + 2 * (take8(&in) % 16);
    nm_series s = {.capacity = capacity, .width_ns = 1};
    uint64_t *copy = malloc(capacity * sizeof *copy), total = 0, sum, before;
    int64_t origin, width, moment, edge;
    s.bucket = calloc(capacity, sizeof *s.bucket); /* the sanitizer detects reads beyond its end */
    CHECK(s.bucket != NULL && copy != NULL);
    s.width_ns = (int64_t)(take_any(&in) >> 2) + 1;
    if (take8(&in) & 1) nm_series_start(&s, (int64_t)take_any(&in));
    edge = (int64_t)take_any(&in);
    while (in.left > 0) {
        uint32_t n = take16(&in), used, i;
        moment = (int64_t)take_any(&in);
        nm_series_add(&s, nm_series_beside(&s, moment, edge), n);
        total += n;
        used = nm_series_read(&s, copy, &origin, &width);
        for (sum = 0, i = 0; i < used; i++) sum += copy[i];
        CHECK(sum == total && used <= capacity && origin > 0 && width > 0);
        CHECK(nm_series_middle(&s, i ? i - 1 : 0) >= origin);
        moment = (int64_t)take_any(&in);
        before = nm_series_until(&s, moment);
        CHECK(before <= total);
        CHECK(nm_series_until(&s, nm_add_ns(moment, (int64_t)(take_any(&in) >> 1))) >= before);
        CHECK(nm_series_until(&s, origin) == 0 && nm_series_until(&s, INT64_MIN) == 0);
    }
    free(s.bucket);
    free(copy);
    return 0;
}
