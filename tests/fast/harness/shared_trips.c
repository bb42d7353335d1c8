/* Round trips on several connections, all requesters in one thread and all responders in another, and a
 * reader. */
#include "counted.h"

#include "nm_shared_trips.h"

enum { CONNECTIONS = 5, LONGEST = 70000, FEW = 4096 };

static void *request(void *argument) {
    nm_requesters *s = argument;
    nm_requesters_all(s);
    for (uint32_t i = 0; i < s->count; i++) nm_stream_leave_shared(s->r[i]->own, s->count);
    return NULL;
}

static void *respond(void *argument) {
    nm_responders *s = argument;
    nm_responders_all(s);
    for (uint32_t i = 0; i < s->count; i++) nm_stream_leave_shared(s->r[i]->own, s->count);
    return NULL;
}

static void one_round(uint32_t request_bytes, uint32_t response_bytes, uint32_t in_flight) {
    static counted_t near[CONNECTIONS], far[CONNECTIONS];
    static char payload[2 * LONGEST], buffers[2][FEW];
    static uint64_t sums[CONNECTIONS][BUCKETS];
    static nm_series sum[CONNECTIONS];
    static nm_requester asking[CONNECTIONS], *ask[CONNECTIONS];
    static nm_responder answering[CONNECTIONS], *answer[CONNECTIONS];
    static struct epoll_event events[2][NM_SHARED_EVENTS];
    const uint64_t transactions = 400;
    uint64_t begun = 0, answered = 0, written = 0;
    nm_group asks, answers;
    int ends[CONNECTIONS][2], i;
    nm_round_trip_options options = {.request_bytes = request_bytes,
                                     .response_bytes = response_bytes,
                                     .in_flight = in_flight,
                                     .drain_ns = INT64_C(20000000000)};
    nm_group_init(&asks, transactions * request_bytes);
    nm_group_init(&answers, 0);
    memset(sums, 0, sizeof sums);
    for (i = 0; i < CONNECTIONS; i++) {
        prepare(&near[i]), prepare(&far[i]);
        CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends[i]) == 0);
        sum[i] = (nm_series){sums[i], BUCKETS, 0, 0, 0, 1000000};
        asking[i] = (nm_requester){
            .own = &near[i].stream, .group = &asks, .options = &options, .fd = ends[i][0],
            .payload = payload, .buffer = buffers[0], .buffer_bytes = FEW,
            .began_ns = calloc(in_flight, sizeof(int64_t)),
            .latencies = {calloc(1, sizeof(nm_histogram)), &sum[i], 0}};
        answering[i] = (nm_responder){
            .own = &far[i].stream, .group = &answers, .fd = ends[i][1],
            .request_bytes = request_bytes, .response_bytes = response_bytes, .payload = payload,
            .payload_bytes = LONGEST / response_bytes * response_bytes, .buffer = buffers[1],
            .buffer_bytes = FEW};
        CHECK(asking[i].began_ns && asking[i].latencies.histogram);
        ask[i] = &asking[i], answer[i] = &answering[i];
    }
    nm_requesters requesters = {.r = ask, .count = CONNECTIONS, .event = events[0]};
    nm_responders responders = {.r = answer, .count = CONNECTIONS, .event = events[1]};
    pthread_t one = start(request, &requesters), other = start(respond, &responders);
    nm_gate_open(&asks, nm_now());
    for (i = 0; i < CONNECTIONS; i++)
        while (!nm_stream_quiet(&near[i].stream)) {
            CHECK(NM_LOAD(&asking[i].answered) <= transactions);
            CHECK(nm_series_until(&near[i].stream.series, INT64_MAX) <= transactions * request_bytes);
            sched_yield();
        }
    pthread_join(one, NULL);
    pthread_join(other, NULL);
    for (i = 0; i < CONNECTIONS; i++) {
        nm_requester *r = &asking[i];
        CHECK(near[i].stream.reason == NM_BUDGET && far[i].stream.reason == NM_EOF);
        CHECK(r->begun > 0 && r->answered == r->begun);
        CHECK(r->latencies.histogram->count == r->answered);
        CHECK(near[i].stream.bytes == r->begun * request_bytes);
        CHECK(far[i].stream.bytes == r->begun * request_bytes);
        CHECK(nm_series_until(&sum[i], INT64_MAX) == r->latencies.histogram->sum_ns);
        CHECK((near[i].sample[0].cpu_ns >= 0) == (i == 0));
        begun += r->begun, answered += r->answered, written += far[i].stream.acked;
        close(ends[i][0]), close(ends[i][1]);
        free(r->began_ns), free(r->latencies.histogram);
    }
    CHECK(begun == transactions && answered == transactions);
    CHECK(written == transactions * response_bytes);
}

void scenario_shared_trips(uint32_t rounds) {
    static const uint32_t sizes[] = {1, 100, LONGEST};
    for (uint32_t i = 0; i < rounds; i++)
        one_round(sizes[i % 3], sizes[i / 3 % 3], i % 2 ? 16 : 1);
}
