/* Datagrams over loopback: one thread sends, one receives, two read what is published meanwhile. */
#include "harness.h"

#include <arpa/inet.h>

#include "nm_udp_receive.h"
#include "nm_udp_send.h"

enum { SIZE = 64, BUCKETS = 64 };

typedef struct {
    int near, far;
    nm_udp_sender sender;
    nm_udp_receiver receiver;
    uint64_t wanted;
    uint32_t finished, looks;
} link_t;

static void connect_pair(int *near, int *far) {
    struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)}, b = a;
    socklen_t length = sizeof a;
    struct timeval wait = {0, 20000};
    int room = 4 << 20;
    *near = socket(AF_INET, SOCK_DGRAM, 0), *far = socket(AF_INET, SOCK_DGRAM, 0);
    CHECK(*near >= 0 && *far >= 0);
    CHECK(bind(*near, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK(bind(*far, (struct sockaddr *)&b, sizeof b) == 0);
    CHECK(getsockname(*near, (struct sockaddr *)&a, &length) == 0);
    CHECK(getsockname(*far, (struct sockaddr *)&b, &length) == 0);
    CHECK(connect(*near, (struct sockaddr *)&b, sizeof b) == 0);
    CHECK(connect(*far, (struct sockaddr *)&a, sizeof a) == 0);
    CHECK(setsockopt(*far, SOL_SOCKET, SO_RCVBUF, &room, sizeof room) == 0);
    CHECK(setsockopt(*far, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof wait) == 0);
}

static void *sending(void *argument) {
    link_t *l = argument;
    while (l->sender.sequence <= l->wanted) {
        int64_t before = nm_now(), taken;
        uint64_t left = l->wanted + 1 - l->sender.sequence;
        /* no further ahead than the socket has room for: nothing is lost on loopback */
        while (NM_LOAD(&l->receiver.board.total.highest) + 2000 < l->sender.sequence) sched_yield();
        taken = nm_udp_send(&l->sender, l->near, left < 200 ? left : 200, before, 0);
        if (taken > 0) nm_udp_sent(&l->sender, (uint64_t)taken, before, nm_now());
    }
    return NULL;
}

static void *receiving(void *argument) {
    link_t *l = argument;
    nm_udp_receiver *r = &l->receiver;
    while (r->account.now.highest < l->wanted) {
        int n = recvmmsg(l->far, r->message, r->batch, MSG_WAITFORONE, NULL), aligned;
        int64_t now;
        uint64_t before = r->account.now.received;
        if (n <= 0) continue;
        aligned = nm_udp_align_clocks(r, &now);
        if (!r->account.omit_over && r->account.now.highest > l->wanted / 2)
            nm_udp_omit(&r->account, now);
        CHECK(nm_udp_take(r, (uint32_t)n, now, aligned) == 0);
        nm_series_add(&r->packet_series, now, r->account.now.received - before);
        nm_udp_publish(r, now);
        if (now >= r->sampling.due_ns) nm_udp_sample_take(r, now);
    }
    nm_udp_finish(r, l->far, nm_now());
    RELEASE(&l->finished, 1);
    return NULL;
}

static void *looking(void *argument) {
    link_t *l = argument;
    nm_udp_counts now, omitted, before = {0};
    while (!ACQUIRE(&l->finished)) {
        int over = nm_udp_look(&l->receiver.board, &omitted, 1);
        CHECK(nm_udp_look(&l->receiver.board, &now, 0) == 1);
        CHECK(now.received <= now.highest && now.bytes == now.received * SIZE);
        CHECK(now.received >= before.received && now.highest >= before.highest);
        CHECK(now.at_ns >= before.at_ns);
        CHECK(!over || (omitted.received <= now.received && omitted.highest <= now.highest));
        CHECK(nm_series_until(&l->receiver.packet_series, INT64_MAX) <= l->wanted);
        CHECK(NM_LOAD(&l->sender.packets) <= l->wanted);
        before = now;
        __atomic_fetch_add(&l->looks, 1, __ATOMIC_RELAXED);
    }
    return NULL;
}

static void transfer(link_t *l, int wide, int trains, uint64_t wanted) {
    nm_udp_send_options out = {SIZE, wide, trains ? 16 : 1};
    nm_udp_receive_options in = {SIZE, wide, trains, 4096, 0};
    uint64_t buckets[2][BUCKETS] = {{0}};
    nm_udp_counts end;
    memset(l, 0, sizeof *l);
    l->wanted = wanted;
    connect_pair(&l->near, &l->far);
    CHECK(nm_udp_sender_init(&l->sender, &out) == 0);
    CHECK(nm_udp_receiver_init(&l->receiver, l->far, &in) == 0);
    CHECK((uintptr_t)l->receiver.buffer % NM_PAGE_BYTES == 0);
    nm_udp_fill(&l->sender, "abc", 3);
    l->receiver.sampling.every_ns = 1;
    l->sender.packet_series = (nm_series){.bucket = buckets[0], .capacity = BUCKETS, .width_ns = 1};
    l->receiver.packet_series = (nm_series){.bucket = buckets[1], .capacity = BUCKETS, .width_ns = 1};
    pthread_t threads[] = {start(looking, l), start(looking, l), start(receiving, l),
                           start(sending, l)};
    for (int i = 0; i < 4; i++) pthread_join(threads[i], NULL);
    CHECK(nm_udp_look(&l->receiver.board, &end, 0) == 1);
    CHECK(end.received == wanted && end.highest == wanted && end.bytes == wanted * SIZE);
    CHECK(end.duplicates + end.reordered + end.late + end.malformed + end.implausible == 0);
    CHECK(nm_udp_look(&l->receiver.board, &end, 1) == 1 && end.received < wanted);
    CHECK(sum_of(buckets[0], BUCKETS) == wanted && sum_of(buckets[1], BUCKETS) == wanted);
    CHECK(l->receiver.sampling.used > 0 && l->receiver.sampling.used <= NM_SAMPLES);
    nm_udp_sender_free(&l->sender);
    nm_udp_receiver_free(&l->receiver);
    close(l->near);
    close(l->far);
}

void scenario_datagrams(uint32_t count) {
    static link_t l;
    for (int mode = 0; mode < 4; mode++) transfer(&l, mode & 1, mode & 2, count);
}
