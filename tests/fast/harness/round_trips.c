/* Round trips over socket pairs: a requester and a responder, each in a thread, and a reader. */
#include "counted.h"

#include "nm_datagram_trips.h"
#include "nm_round_trips.h"

enum { MOST = 70000 };

static void *request(void *argument) {
    nm_requester *r = argument;
    nm_request_all(r);
    nm_stream_leave(r->own);
    return NULL;
}

static void *respond(void *argument) {
    nm_responder *r = argument;
    nm_respond_all(r);
    nm_stream_leave(r->own);
    return NULL;
}

static void one_round(uint32_t request_bytes, uint32_t response_bytes, uint32_t in_flight) {
    static counted_t near, far;
    static char payload[2 * MOST], buffers[2][MOST];
    static uint64_t sums[BUCKETS];
    const uint64_t transactions = 200;
    nm_series latency_sum = {sums, BUCKETS, 0, 0, 0, 1000000};
    nm_histogram *latency = calloc(1, sizeof *latency);
    int64_t *began = calloc(in_flight, sizeof *began);
    nm_group asking, answering;
    int ends[2];
    nm_round_trip_options options = {.request_bytes = request_bytes,
                                     .response_bytes = response_bytes,
                                     .in_flight = in_flight,
                                     .drain_ns = INT64_C(20000000000)};
    CHECK(latency && began);
    memset(sums, 0, sizeof sums);
    prepare(&near), prepare(&far);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    nm_group_init(&asking, transactions * request_bytes);
    nm_group_init(&answering, 0);
    nm_requester r = {.own = &near.stream, .group = &asking, .options = &options, .fd = ends[0],
                      .payload = payload, .buffer = buffers[0], .buffer_bytes = MOST,
                      .began_ns = began, .latencies = {latency, &latency_sum, 0}};
    nm_responder a = {.own = &far.stream, .group = &answering, .fd = ends[1],
                      .request_bytes = request_bytes, .response_bytes = response_bytes,
                      .payload = payload, .payload_bytes = MOST / response_bytes * response_bytes,
                      .buffer = buffers[1], .buffer_bytes = MOST};
    pthread_t asks = start(request, &r), answers = start(respond, &a);
    nm_gate_open(&asking, nm_now());
    while (!nm_stream_quiet(&near.stream)) {
        CHECK(NM_LOAD(&r.answered) <= transactions);
        CHECK(nm_series_until(&near.stream.series, INT64_MAX) <= transactions * request_bytes);
        sched_yield();
    }
    pthread_join(asks, NULL);
    pthread_join(answers, NULL);
    CHECK(near.stream.reason == NM_BUDGET && far.stream.reason == NM_EOF);
    CHECK(r.begun == transactions && r.answered == transactions);
    CHECK(latency->count == transactions && latency->min_ns > 0);
    CHECK(near.stream.bytes == transactions * request_bytes);
    CHECK(far.stream.bytes == transactions * request_bytes);
    CHECK(far.stream.acked == transactions * response_bytes);
    CHECK(nm_series_until(&latency_sum, INT64_MAX) == latency->sum_ns);
    close(ends[0]), close(ends[1]);
    free(latency), free(began);
}

void scenario_round_trips(uint32_t rounds) {
    static const uint32_t sizes[] = {1, 100, MOST};
    for (uint32_t i = 0; i < rounds; i++)
        one_round(sizes[i % 3], sizes[i / 3 % 3], i % 2 ? 16 : 1);
}

static void *request_datagrams(void *argument) {
    nm_datagram_requester *d = argument;
    nm_trips_all(d);
    nm_stream_leave(d->base->own);
    return NULL;
}

static void *respond_datagrams(void *argument) {
    nm_datagram_responder *d = argument;
    nm_trips_respond(d);
    nm_stream_leave(d->base->own);
    return NULL;
}

static void one_round_of_datagrams(uint32_t in_flight) {
    static counted_t near, far;
    static char payloads[2][100], buffers[2][MOST];
    static uint64_t sums[BUCKETS];
    const uint64_t transactions = 300;
    nm_series latency_sum = {sums, BUCKETS, 0, 0, 0, 1000000};
    nm_histogram *latency = calloc(1, sizeof *latency);
    nm_trip *trips = calloc(in_flight, sizeof *trips);
    uint32_t *vacant = calloc(in_flight, sizeof *vacant);
    nm_group asking, answering;
    int ends[2];
    nm_round_trip_options options = {.request_bytes = 100, .response_bytes = 50,
                                     .in_flight = in_flight,
                                     .drain_ns = INT64_C(20000000000),
                                     .lost_after_ns = INT64_C(20000000000)};
    CHECK(latency && trips && vacant);
    memset(sums, 0, sizeof sums);
    prepare(&near), prepare(&far);
    CHECK(socketpair(AF_UNIX, SOCK_DGRAM, 0, ends) == 0);
    nm_group_init(&asking, transactions * 100);
    nm_group_init(&answering, 0);
    nm_requester r = {.own = &near.stream, .group = &asking, .options = &options, .fd = ends[0],
                      .payload = payloads[0], .buffer = buffers[0], .buffer_bytes = MOST,
                      .latencies = {latency, &latency_sum, 0}};
    nm_responder a = {.own = &far.stream, .group = &answering, .fd = ends[1],
                      .request_bytes = 100, .response_bytes = 50, .payload = payloads[1],
                      .payload_bytes = 50, .buffer = buffers[1], .buffer_bytes = MOST};
    nm_datagram_requester asks = {.base = &r, .trip = trips, .vacant = vacant};
    nm_datagram_responder answers = {.base = &a, .hello = "9876", .hello_reply = "6789",
                                     .hello_bytes = 45, .hello_start_bytes = 4,
                                     .hello_reply_bytes = 4};
    /* the answers to these are no responses, and a hello is no request */
    char hello[45] = "9876", strange[7] = "";
    CHECK(send(ends[0], hello, sizeof hello, 0) == sizeof hello);
    CHECK(send(ends[0], strange, sizeof strange, 0) == sizeof strange);
    pthread_t one = start(request_datagrams, &asks), other = start(respond_datagrams, &answers);
    nm_gate_open(&asking, nm_now());
    while (!nm_stream_quiet(&near.stream)) {
        CHECK(NM_LOAD(&r.answered) <= transactions);
        sched_yield();
    }
    pthread_join(one, NULL);
    nm_stop(&answering);
    pthread_join(other, NULL);
    CHECK(near.stream.reason == NM_BUDGET && far.stream.reason == NM_STOPPED);
    CHECK(r.begun == transactions && r.answered == transactions && r.lost == 0);
    CHECK(latency->count == transactions && asks.vacancies == in_flight);
    CHECK(asks.invalid_responses == 0 && asks.late_responses == 0 && asks.refused == 0);
    CHECK(answers.invalid_requests == 1);
    CHECK(far.stream.bytes == transactions * 100 && far.stream.acked == transactions * 50);
    close(ends[0]), close(ends[1]);
    free(latency), free(trips), free(vacant);
}

void scenario_datagram_trips(uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; i++) one_round_of_datagrams(i % 2 ? 16 : 1);
}
