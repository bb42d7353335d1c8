/* A watcher: real connections whose bytes wait for a program that is slow, or are read at once. */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>

#include "nm_watch.h"

enum { CONNECTIONS = 3, MANY = NM_WATCH_STRETCHES + 8, PATIENCE_MS = 20000 };
static nm_watcher watcher;

/* Returns the two ends of a TCP connection over loopback. */
static void connection(int ends[2]) {
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t size = sizeof address;
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    ends[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(listener >= 0 && ends[0] >= 0);
    CHECK(bind(listener, (struct sockaddr *)&address, size) == 0 && listen(listener, 1) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &size) == 0);
    CHECK(connect(ends[0], (struct sockaddr *)&address, size) == 0);
    ends[1] = accept(listener, NULL, NULL);
    CHECK(ends[1] >= 0);
    close(listener);
}

static int descriptors(void) {
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    CHECK(all != NULL);
    while (readdir(all) != NULL) count++;
    closedir(all);
    return count;
}

/* Copies what was seen of a socket, as the real module does. */
static nm_watched seen(nm_watched *one) {
    nm_watched copy;
    nm_watch_lock(&watcher);
    nm_watch_now(one);
    copy = *one;
    nm_watch_unlock(&watcher);
    return copy;
}

/* Stretches that are kept follow each other, and only the last one may be open. */
static void check(const nm_watched *w) {
    uint32_t first = w->count > NM_WATCH_STRETCHES ? w->count - NM_WATCH_STRETCHES : 0;
    int64_t before = 0;
    for (uint32_t i = first; i < w->count; i++) {
        int64_t arrived = w->arrived_ns[i % NM_WATCH_STRETCHES];
        int64_t taken = w->taken_ns[i % NM_WATCH_STRETCHES];
        CHECK(arrived > 0 && (i == first || arrived >= before));
        CHECK(taken >= arrived || (taken == 0 && i == w->count - 1));
        before = arrived;
    }
}

/* Waits until more stretches were begun than `count`. */
static nm_watched more_than(nm_watched *one, uint32_t count) {
    for (int ms = 0;; ms++) {
        nm_watched now = seen(one);
        check(&now);
        CHECK(now.count >= count);
        if (now.count > count) return now;
        CHECK(ms < PATIENCE_MS);
        nm_sleep(1000000);
    }
}

/* Bytes wait until the program reads them: their stretch lasts from the send to the read. */
static void be_slow(nm_watched *one, const int ends[2]) {
    char room[8];
    int64_t sent = nm_now(), waited, read_from;
    uint32_t count = seen(one).count, last;
    nm_watched now;
    CHECK(send(ends[1], "some", 4, 0) == 4);
    now = more_than(one, count);
    last = (now.count - 1) % NM_WATCH_STRETCHES;
    waited = nm_now();
    CHECK(now.waiting && now.taken_ns[last] == 0);
    CHECK(now.arrived_ns[last] >= sent && now.arrived_ns[last] <= waited);
    CHECK(nm_await_bytes(ends[0], PATIENCE_MS) >= sent);
    read_from = nm_now();
    CHECK(recv(ends[0], room, sizeof room, 0) == 4);
    now = seen(one);
    check(&now);
    CHECK(!now.waiting && now.taken_ns[last] >= read_from && now.taken_ns[last] <= nm_now());
    CHECK(nm_arrived(ends[0], nm_now()) == 0 && nm_await_bytes(ends[0], 0) == 0);
}

/* Bytes that the program reads at once and in pieces lose it no stretch, and it no byte. */
static void be_fast(nm_watched *one, const int ends[2]) {
    char room[3];
    size_t left = 0;
    for (int i = 0; i < MANY; i++) {
        CHECK(send(ends[1], "bytes", 5, 0) == 5);
        for (left += 5; left > (size_t)i % 5;) {
            ssize_t n = recv(ends[0], room, sizeof room, 0);
            CHECK(n > 0 && (size_t)n <= left);
            left -= (size_t)n;
        }
        nm_watched now = seen(one);
        check(&now);
    }
    while (left > 0) {
        ssize_t n = recv(ends[0], room, sizeof room, 0);
        CHECK(n > 0);
        left -= (size_t)n;
    }
    CHECK(seen(one).waiting == 0);
}

static void *follow(void *argument) {
    nm_watched *one = argument;
    nm_watched before, after;
    int ends[2];
    char byte;
    connection(ends);
    CHECK(nm_watch_add(&watcher, one, ends[0]) == 0);
    be_slow(one, ends);
    be_fast(one, ends);
    be_slow(one, ends);
    close(ends[0]); /* the watcher's own descriptor keeps the connection open */
    CHECK(recv(ends[1], &byte, 1, MSG_DONTWAIT) < 0 && errno == EAGAIN);
    nm_watch_remove(&watcher, one);
    nm_watch_remove(&watcher, one); /* changes nothing */
    CHECK(recv(ends[1], &byte, 1, 0) == 0);
    before = seen(one);
    (void)send(ends[1], "late", 4, MSG_NOSIGNAL);
    after = seen(one);
    CHECK(after.fd == -1 && after.count == before.count); /* and what was seen stays */
    close(ends[1]);
    return NULL;
}

static void *run_watcher(void *unused) {
    nm_watcher_run(&watcher);
    return unused;
}

void scenario_watch(uint32_t count) {
    static nm_watched watched[CONNECTIONS];
    int ends[2], descriptors_before = descriptors();
    for (uint32_t i = 0; i < count; i++) {
        pthread_t threads[CONNECTIONS], runner;
        CHECK(nm_watcher_init(&watcher) == 0);
        runner = start(run_watcher, NULL);
        for (int c = 0; c < CONNECTIONS; c++) threads[c] = start(follow, &watched[c]);
        for (int c = 0; c < CONNECTIONS; c++) pthread_join(threads[c], NULL);
        nm_watcher_stop(&watcher);
        nm_watcher_stop(&watcher);
        pthread_join(runner, NULL);
        CHECK(nm_watch_add(&watcher, &watched[0], -1) == EBADF);
        nm_watcher_close(&watcher);
        connection(ends);
        CHECK(nm_watch_add(&watcher, &watched[0], ends[0]) == EBADF);
        nm_watch_forget(&watched[0]);
        close(ends[1]);
        CHECK(nm_await_bytes(ends[0], PATIENCE_MS) == -1); /* nothing will come any more */
        close(ends[0]);
        CHECK(nm_arrived(-1, nm_now()) == -1);
        nm_watcher_destroy(&watcher);
        CHECK(descriptors() == descriptors_before);
    }
}
