/* A stream: its samples are bounded and evenly spread, and one thread has it. */
#include "harness.h"

#include "nm_socket.h"
#include "nm_stream.h"

static nm_sample room[NM_SAMPLES];

void scenario_samples(uint32_t count) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    nm_sampling s = {.every_ns = 10};
    int64_t now = 1000000, user_ns, system_ns;
    CHECK(fd >= 0);
    nm_sample_take(&s, room, -1, now); /* no socket: of the thread alone */
    CHECK(s.used == 1 && s.due_ns == now + 10 && room[0].length == 0);
    CHECK(room[0].cpu_ns > 0 && room[0].wait_ns >= -1);
    s.used = 0;
    for (uint32_t i = 0; i < count; i++) {
        now = s.due_ns;
        nm_sample_take(&s, room, fd, now);
        CHECK(s.used >= 1 && s.used <= NM_SAMPLES);
        CHECK(room[0].at_ns == 1000010 && room[s.used - 1].at_ns == now);
    }
    CHECK(count <= NM_SAMPLES || s.every_ns > 10);
    CHECK(count <= NM_SAMPLES || s.used > NM_SAMPLES / 2);
    for (uint32_t i = 0; i < s.used; i++) {
        CHECK(room[i].length > 0 && room[i].length <= NM_TCP_INFO_BYTES);
        CHECK(i == 0 || room[i].at_ns - room[i - 1].at_ns == s.every_ns);
        CHECK(i == 0 || room[i].cpu_ns >= room[i - 1].cpu_ns);
        CHECK(i == 0 || room[i].wait_ns >= room[i - 1].wait_ns);
    }
    CHECK(nm_unacknowledged(fd) <= 0);
    CHECK(nm_unacknowledged(-1) == -1);
    CHECK(nm_timeout(-1, SO_SNDTIMEO, 1) == EBADF && nm_set_nonblocking(-1) == EBADF);
    CHECK(nm_thread_cpu(&user_ns, &system_ns) == 0 && user_ns >= 0 && system_ns >= 0);
    close(fd);
}

/* ---- four threads want one stream: one gets it, and others may read once it has left -------------- */

enum { RUNNERS = 4 };
static nm_stream stream;
static uint32_t winners;

static void *run(void *unused) {
    (void)unused;
    if (!nm_stream_enter(&stream)) return NULL;
    __atomic_fetch_add(&winners, 1, __ATOMIC_RELAXED);
    nm_stream_reason(&stream, NM_RUNNING);
    for (int i = 0; i < 400; i++) {
        nm_stream_count(&stream, 1000 + i, 3, 0);
        nm_stream_sample(&stream, -1, 1000 + i);
    }
    nm_stream_reason(&stream, NM_EOF);
    nm_stream_leave(&stream);
    return NULL;
}

static void *look(void *unused) {
    uint64_t before = 0, now;
    (void)unused;
    for (;;) {
        int over = ACQUIRE(&winners) != 0 && nm_stream_quiet(&stream);
        now = NM_LOAD(&stream.bytes);
        CHECK(now >= before && now <= 1200);
        before = now;
        if (over && NM_LOAD(&stream.reason) == NM_EOF) break;
    }
    CHECK(before == 1200 && NM_LOAD(&stream.last_ns) == 1399);
    CHECK(stream.sampling.used > 1 && stream.sampling.used <= NM_SAMPLES);
    for (uint32_t i = 1; i < stream.sampling.used; i++) CHECK(room[i].at_ns > room[i - 1].at_ns);
    return NULL;
}

void scenario_stream(uint32_t count) {
    static uint64_t bucket[8];
    for (uint32_t i = 0; i < count; i++) {
        pthread_t threads[RUNNERS + 1];
        memset(&stream, 0, sizeof stream);
        memset(bucket, 0, sizeof bucket);
        stream.series = (nm_series){.bucket = bucket, .capacity = 8, .width_ns = 1};
        stream.sampling.every_ns = 1;
        stream.sample = room;
        RELEASE(&winners, 0);
        threads[RUNNERS] = start(look, NULL);
        for (int r = 0; r < RUNNERS; r++) threads[r] = start(run, NULL);
        for (int r = 0; r <= RUNNERS; r++) pthread_join(threads[r], NULL);
        CHECK(winners == 1 && sum_of(bucket, 8) == 1200);
    }
}
