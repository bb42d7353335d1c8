/* Requests to a server that answers in every way that there is, and breaks off in some; and a reader. */
#include "harness.h"

#include <arpa/inet.h>

#include "nm_requests.h"

enum { BUCKETS = 64, MOST = 4096, LINKS = 8 };

static const char REQUEST[] = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";

/* How the server answers its requests, in turn. A blank answer ends the connection. */
static const struct {
    const char *text;
    int closes;
} ANSWERS[] = {
    {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabcde", 0},
    {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x\r\nde\r\n0\r\n\r\n", 0},
    {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", 0},
    {"HTTP/1.0 200 OK\r\n\r\nto the end", 1},
    {"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n", 0},
    {"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", 1},
    {"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nhalf of", 1},
    {"SSH-2.0-no\r\n", 1},
};
enum { KINDS = sizeof ANSWERS / sizeof *ANSWERS };

typedef struct {
    int listener;
    uint64_t answered[KINDS]; /* the server's own; read when it has ended */
    uint64_t next;
    uint32_t stop;
} server_t;

static void answer(server_t *s, int *fd) {
    char got[MOST];
    ssize_t n = recv(*fd, got, sizeof got, 0);
    int closes = n <= 0;
    if (n > 0) {
        uint32_t kind = s->next++ % KINDS;
        size_t size = strlen(ANSWERS[kind].text), half = size / 2;
        CHECK((size_t)n == sizeof REQUEST - 1); /* no pipelining, and loopback cuts nothing */
        CHECK(send(*fd, ANSWERS[kind].text, half, MSG_NOSIGNAL) == (ssize_t)half);
        sched_yield();
        CHECK(send(*fd, ANSWERS[kind].text + half, size - half, MSG_NOSIGNAL) > 0);
        s->answered[kind]++;
        closes = ANSWERS[kind].closes;
    }
    if (closes) close(*fd), *fd = -1;
}

static void *serve(void *argument) {
    server_t *s = argument;
    int fds[4 * LINKS], i;
    for (i = 0; i < 4 * LINKS; i++) fds[i] = -1;
    while (!ACQUIRE(&s->stop)) {
        struct pollfd p[4 * LINKS + 1] = {{s->listener, POLLIN, 0}};
        for (i = 0; i < 4 * LINKS; i++) p[i + 1] = (struct pollfd){fds[i], POLLIN, 0};
        if (poll(p, 4 * LINKS + 1, 10) <= 0) continue;
        for (i = 0; i < 4 * LINKS; i++)
            if (p[i + 1].revents) answer(s, &fds[i]);
        for (i = 0; i < 4 * LINKS && (p[0].revents & POLLIN); i++)
            if (fds[i] < 0) {
                int on = 1;
                fds[i] = accept(s->listener, NULL, NULL);
                /* else the second half of a response waits for the first one's delayed ACK */
                CHECK(setsockopt(fds[i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on) == 0);
                break;
            }
    }
    for (i = 0; i < 4 * LINKS; i++)
        if (fds[i] >= 0) close(fds[i]);
    return NULL;
}

static void *ask(void *argument) {
    nm_requests *r = argument;
    nm_requests_all(r);
    nm_stream_leave(r->own);
    return NULL;
}

static void one_round(int keep, double period_ns, uint32_t connections) {
    static struct {
        nm_stream stream;
        uint64_t bucket[BUCKETS], sums[BUCKETS];
        nm_sample sample[NM_SAMPLES];
    } near;
    static char buffer[64]; /* small: most responses take several calls */
    static nm_histogram latency, connecting, answering;
    static nm_link links[LINKS];
    static uint32_t items[3][LINKS];
    static int64_t rests[LINKS];
    static struct epoll_event events[NM_REQUESTS_EVENTS];
    const uint64_t wanted = 40 * KINDS, size = sizeof REQUEST - 1;
    nm_series latency_sum = {near.sums, BUCKETS, 0, 0, 0, 1000000};
    server_t server = {.listener = socket(AF_INET, SOCK_STREAM, 0)};
    struct sockaddr_in *to;
    socklen_t length = sizeof *to;
    nm_group group;
    uint64_t good, kind;
    nm_requests_options options = {
        .request = REQUEST, .request_bytes = (uint32_t)size, .keep = keep, .connections = connections,
        .drain_ns = INT64_C(20000000000), .connect_ns = INT64_C(20000000000),
        .answer_ns = INT64_C(20000000000), .period_ns = period_ns, .to_bytes = sizeof *to};
    nm_requests r = {.own = &near.stream, .group = &group, .options = &options, .link = links,
                     .free = {items[0], 0, 0}, .shut = {items[1], 0, 0}, .resting = {items[2], 0, 0},
                     .rest_ns = rests, .event = events, .buffer = buffer,
                     .buffer_bytes = sizeof buffer, .latencies = {&latency, &latency_sum, 0},
                     .connecting = &connecting, .answering = &answering};
    memset(&near, 0, sizeof near), memset(links, 0, sizeof links);
    memset(&latency, 0, sizeof latency), memset(&connecting, 0, sizeof connecting);
    memset(&answering, 0, sizeof answering);
    near.stream.series = (nm_series){near.bucket, BUCKETS, 0, 0, 0, 1000000};
    near.stream.sample = near.sample;
    near.stream.sampling.every_ns = 1000000;
    CHECK(nm_stream_enter(&near.stream));
    to = (struct sockaddr_in *)&options.to;
    to->sin_family = AF_INET;
    to->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(server.listener >= 0 && bind(server.listener, (struct sockaddr *)to, length) == 0);
    CHECK(listen(server.listener, 64) == 0);
    CHECK(getsockname(server.listener, (struct sockaddr *)to, &length) == 0);
    nm_group_init(&group, wanted * size);
    pthread_t serves = start(serve, &server), asks = start(ask, &r);
    nm_gate_open(&group, nm_now());
    while (!nm_stream_quiet(&near.stream)) {
        CHECK(NM_LOAD(&r.answered) <= wanted && NM_LOAD(&r.begun) <= wanted);
        sched_yield();
    }
    pthread_join(asks, NULL);
    RELEASE(&server.stop, 1);
    pthread_join(serves, NULL);
    close(server.listener);
    CHECK(near.stream.reason == NM_BUDGET && r.begun == wanted && nm_requests_open(&r) == 0);
    for (kind = 0, good = 0; kind < KINDS - 2; kind++)
        if (kind != 4) good += server.answered[kind];
    CHECK(r.answered == good && latency.count == good && latency.min_ns > 0);
    CHECK(r.rejected == server.answered[4] && r.status[404] == r.rejected);
    CHECK(r.error[NM_ERROR_INVALID] == server.answered[7]);
    CHECK(r.error[NM_ERROR_RESET] == server.answered[6]); /* the halves; no good one is among them */
    CHECK(r.failed == r.error[NM_ERROR_RESET] + r.error[NM_ERROR_INVALID]);
    CHECK(r.error[NM_ERROR_CONNECT] == 0 && r.error[NM_ERROR_LOCAL] == 0);
    CHECK(r.body_bytes == 5 * (server.answered[0] + server.answered[1]) + 10 * server.answered[3]);
    CHECK(near.stream.bytes == wanted * size && near.stream.acked == good * size);
    CHECK(nm_series_until(&latency_sum, INT64_MAX) == latency.sum_ns);
    CHECK(connecting.count >= (keep ? connections : wanted));
    CHECK(answering.count == (keep ? 0 : good));
}

void scenario_requests(uint32_t rounds) {
    for (uint32_t i = 0; i < rounds; i++)
        one_round(i % 2 == 0, i % 4 < 2 ? 0 : 20000, i % 3 ? LINKS : 1);
}
