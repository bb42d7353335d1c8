/* Transactions on fresh connections: a requester and the responder, each in a thread, strangers, a reader. */
#include "counted.h"

#include <arpa/inet.h>

#include "nm_fresh_responder.h"
#include "nm_requests.h"

enum { LINKS = 8, PLACES = LINKS + 4, MOST = 70000 };

static void *ask(void *argument) {
    nm_requests *r = argument;
    nm_requests_all(r);
    nm_stream_leave(r->own);
    return NULL;
}

static void *respond(void *argument) {
    nm_fresh_responder *r = argument;
    nm_fresh_respond_all(r);
    nm_stream_leave(r->own);
    return NULL;
}

static int connected(const struct sockaddr_in *to) {
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    CHECK(fd >= 0 && connect(fd, (const struct sockaddr *)to, sizeof *to) == 0);
    return fd;
}

static void one_round(uint32_t request_bytes, uint32_t response_bytes, uint32_t connections) {
    static counted_t near, far;
    static char payload[MOST], buffers[2][4096];
    static nm_histogram latency, connecting, answering;
    static uint64_t sums[BUCKETS];
    static nm_link links[LINKS];
    static nm_guest guests[PLACES];
    static uint32_t items[3][LINKS], vacant[PLACES];
    static int64_t rests[LINKS];
    static struct epoll_event events[2][NM_REQUESTS_EVENTS];
    const uint64_t wanted = 100;
    nm_series latency_sum = {sums, BUCKETS, 0, 0, 0, 1000000};
    nm_group asking, serving;
    int ends[2], silent[PLACES], strange, i;
    const int alone = connections == 1; /* the calls of both ends wait themselves */
    const uint32_t token_bytes = request_bytes < 16 ? 0 : 16;
    nm_requests_options options = {
        .request = payload, .request_bytes = request_bytes, .response_bytes = response_bytes,
        .connections = connections, .drain_ns = INT64_C(20000000000),
        .connect_ns = INT64_C(20000000000), .answer_ns = INT64_C(20000000000),
        .to_bytes = sizeof(struct sockaddr_in)};
    struct sockaddr_in *to = (struct sockaddr_in *)&options.to;
    socklen_t length = sizeof *to;
    nm_requests r = {.own = &near.stream, .group = &asking, .options = &options, .link = links,
                     .free = {items[0], 0, 0}, .shut = {items[1], 0, 0}, .resting = {items[2], 0, 0},
                     .rest_ns = rests, .event = events[0], .buffer = buffers[0],
                     .buffer_bytes = sizeof buffers[0], .latencies = {&latency, &latency_sum, 0},
                     .connecting = &connecting, .answering = &answering};
    nm_fresh_responder a = {.own = &far.stream, .group = &serving, .token = payload,
                            .token_bytes = token_bytes, .request_bytes = request_bytes,
                            .response_bytes = response_bytes, .payload = payload,
                            .buffer = buffers[1], .buffer_bytes = sizeof buffers[1],
                            .patience_ns = INT64_C(20000000000), .guest = guests, .vacant = vacant,
                            .places = PLACES, .event = events[1]};
    memset(sums, 0, sizeof sums), memset(links, 0, sizeof links);
    memset(&latency, 0, sizeof latency), memset(&connecting, 0, sizeof connecting);
    memset(&answering, 0, sizeof answering);
    for (i = 0; i < MOST; i++) payload[i] = (char)('a' + i % 26);
    prepare(&near), prepare(&far);
    a.listener = socket(AF_INET, SOCK_STREAM | (alone ? 0 : SOCK_NONBLOCK), 0);
    to->sin_family = AF_INET;
    to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(a.listener >= 0 && bind(a.listener, (struct sockaddr *)to, length) == 0);
    CHECK(listen(a.listener, 64) == 0);
    CHECK(getsockname(a.listener, (struct sockaddr *)to, &length) == 0);
    memcpy(&a.peer, to, sizeof *to);
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, ends) == 0);
    a.fd = ends[1];
    nm_group_init(&asking, wanted * request_bytes), nm_group_init(&serving, 0);
    for (i = 0; i < PLACES; i++) silent[i] = alone ? -1 : connected(to); /* they take all places */
    strange = connected(to);
    CHECK(send(strange, "?", 1, MSG_NOSIGNAL) == 1);
    pthread_t asks = start(ask, &r), answers = start(respond, &a);
    nm_gate_open(&asking, nm_now());
    while (!nm_stream_quiet(&near.stream)) {
        CHECK(NM_LOAD(&r.answered) <= wanted && NM_LOAD(&a.answered) <= wanted + 1);
        sched_yield();
    }
    pthread_join(asks, NULL);
    CHECK(shutdown(ends[0], SHUT_WR) == 0);
    pthread_join(answers, NULL);
    CHECK(near.stream.reason == NM_BUDGET && far.stream.reason == NM_EOF);
    CHECK(r.begun == wanted && r.answered == wanted && r.failed == 0);
    CHECK(latency.count == wanted && connecting.count == wanted && answering.count == wanted);
    /* where requests are too short for a token, a stranger of the same host can't be told apart */
    CHECK(a.strangers == (token_bytes ? 1 : 0));
    CHECK(a.answered == wanted + (request_bytes == 1));
    CHECK(far.stream.bytes == a.answered * request_bytes);
    CHECK(near.stream.acked == wanted * request_bytes);
    CHECK(a.vacant_count == PLACES);
    for (i = 0; i < PLACES && !alone; i++) close(silent[i]);
    close(strange), close(ends[0]), close(ends[1]), close(a.listener);
}

void scenario_fresh(uint32_t rounds) {
    static const uint32_t sizes[][2] = {{1, 1}, {16, 5000}, {MOST, MOST}};
    for (uint32_t i = 0; i < rounds; i++)
        one_round(sizes[i % 3][0], sizes[i % 3][1], i % 2 ? LINKS : 1);
}
