/* A server of small files: clients of all kinds in threads of their own, and a program that takes back what is
 * handed over. */
#include "harness.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <fcntl.h>
#include <poll.h>

#include "nm_small_files.h"

enum { MOST = 200000, KINDS = 6, EACH = 2, CLIENTS = KINDS * EACH, REQUESTS = 40 };
static const char *const others[] = {
    "GET / HTTP/1.1\r\nHost: a\r\n\r\n", "PUT /1K HTTP/1.1\r\nHost: a\r\n\r\n", "GET /1K HT", "\r\n",
    "GET /1K HTTP/1.1\r\nHost: a\r\nRange: bytes=0-1\r\n\r\n", "GET /200001 HTTP/1.1\r\nHost: a\r\n\r\n"};
static char content[MOST];
static nm_small_files server;
static struct sockaddr_in address;
static int listener;

static int descriptors(void) {
    DIR *all = opendir("/proc/self/fd");
    int count = 0;
    CHECK(all != NULL);
    while (readdir(all) != NULL) count++;
    closedir(all);
    return count;
}

/* Sends all, and returns whether the server was there to the end. */
static int say(int fd, const char *text, size_t length) {
    while (length > 0) {
        ssize_t n = send(fd, text, length, MSG_NOSIGNAL);
        if (n < 0) return 0;
        text += n, length -= (size_t)n;
    }
    return 1;
}

/* Reads a response, and checks every byte of it. */
static void check_response(int fd, size_t size, int no_body) {
    static const char begin[] = "HTTP/1.1 200 OK\r\nContent-Length: ";
    char head[NM_FILES_HEAD_BYTES + 1], *body = malloc(size + 1), expected[64];
    size_t length = 0, got = 0;
    CHECK(body != NULL);
    while (length < 4 || memcmp(head + length - 4, "\r\n\r\n", 4) != 0) {
        CHECK(length < sizeof head - 1 && recv(fd, head + length, 1, 0) == 1);
        length++;
    }
    head[length] = 0;
    snprintf(expected, sizeof expected, "%s%zu\r\nDate: ", begin, size);
    CHECK(strncmp(head, expected, strlen(expected)) == 0);
    CHECK(strcmp(head + length - strlen(" GMT\r\nServer: x\r\n\r\n"), " GMT\r\nServer: x\r\n\r\n") == 0);
    while (!no_body && got < size) {
        ssize_t n = recv(fd, body + got, size - got, 0);
        CHECK(n > 0);
        got += (size_t)n;
    }
    CHECK(memcmp(body, content, got) == 0);
    free(body);
}

static size_t ask(char *into, size_t room, size_t size, int no_body) {
    return (size_t)snprintf(into, room, "%s /bytes/%zu HTTP/1.1\r\nHost: a\r\n\r\n",
                            no_body ? "HEAD" : "GET", size);
}

/* One request after the other, and some at once. */
static void be_good(int fd, size_t seed) {
    char text[REQUESTS * 64];
    size_t length = 0, i;
    for (i = 0; i < REQUESTS; i++) {
        size_t size = i % 9 == 0 ? MOST : (seed + i * 997) % 3000;
        length = ask(text, sizeof text, size, i % 7 == 0);
        CHECK(say(fd, text, length));
        check_response(fd, size, i % 7 == 0);
    }
    for (i = length = 0; i < REQUESTS; i++) length += ask(text + length, sizeof text - length, i * 50, 0);
    CHECK(say(fd, text, length));
    for (i = 0; i < REQUESTS; i++) check_response(fd, i * 50, 0);
}

/* A simple request, and then one that the program answers by sending it back. */
static void be_other(int fd, size_t seed) {
    const char *text = others[seed % (sizeof others / sizeof *others)];
    char back[128];
    size_t got = 0;
    be_good(fd, seed);
    CHECK(say(fd, text, strlen(text)));
    while (got < strlen(text)) {
        ssize_t n = recv(fd, back + got, sizeof back - got, 0);
        CHECK(n > 0);
        got += (size_t)n;
    }
    CHECK(got == strlen(text) && memcmp(text, back, got) == 0);
    CHECK(recv(fd, back, 1, 0) == 0);
}

/* Asks until the server has closed the connection, and reads nothing before. */
static void be_stuck(int fd, size_t seed) {
    char text[64];
    size_t length = ask(text, sizeof text, MOST, 0);
    (void)seed;
    while (say(fd, text, length))
        ;
}

static void be_silent(int fd, size_t seed) {
    char byte;
    (void)seed;
    CHECK(recv(fd, &byte, 1, 0) == 0);
}

/* Closes with a response under way, or resets. */
static void be_gone(int fd, size_t seed) {
    struct linger reset = {1, 0};
    char text[64];
    if (seed % 3 > 0) CHECK(say(fd, text, ask(text, sizeof text, MOST, 0)));
    if (seed % 2 > 0) CHECK(setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof reset) == 0);
}

/* Says that nothing more will come, and still gets the answer. */
static void be_half(int fd, size_t seed) {
    char text[64];
    CHECK(say(fd, text, ask(text, sizeof text, seed, 0)));
    CHECK(shutdown(fd, SHUT_WR) == 0);
    check_response(fd, seed, 0);
    CHECK(recv(fd, text, 1, 0) == 0);
}

typedef struct {
    void (*be)(int fd, size_t seed);
    size_t seed;
} client_t;

static void *run_client(void *argument) {
    const client_t *client = argument;
    struct timeval patience = {60, 0};
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    CHECK(fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0);
    CHECK(setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0);
    client->be(fd, client->seed);
    close(fd);
    return NULL;
}

static void *run_server(void *unused) {
    nm_files_run(&server);
    return unused;
}

/* Takes back what was handed over: sends the bytes back that wait there, and closes. */
static int take_back(void) {
    nm_file_client *c = nm_files_handed(&server);
    char text[256];
    int count = 0;
    for (; c != NULL; count++) {
        ssize_t n = recv(c->fd, text, sizeof text, MSG_DONTWAIT);
        CHECK(n > 0 && send(c->fd, text, (size_t)n, MSG_NOSIGNAL | MSG_DONTWAIT) == n);
        close(c->fd);
        c = nm_file_release(&server, c);
    }
    return count;
}

/* A wait of the thread ends neither before the first connection's, nor a millisecond after it. */
static void check_rests(void) {
    static nm_small_files s;
    nm_file_client a = {0}, b = {0};
    s.now_ns = nm_now();
    CHECK(nm_files_rest(&s) == -1);
    nm_file_append(&s.idle, &a), nm_file_append(&s.sending, &b);
    for (int64_t wait = 0; wait < 5 * NM_SECOND_NS; wait += 123456789) {
        int rest;
        a.until_ns = s.now_ns + wait, b.until_ns = s.now_ns + 2 * NM_SECOND_NS;
        rest = nm_files_rest(&s);
        if (wait > 2 * NM_SECOND_NS) wait = 2 * NM_SECOND_NS;
        CHECK(wait ? rest * INT64_C(1000000) > wait && (rest - 1) * INT64_C(1000000) <= wait : rest == 0);
        if (wait == 2 * NM_SECOND_NS) break;
    }
    a.until_ns = b.until_ns = INT64_MAX - 1;
    CHECK(nm_files_rest(&s) == INT_MAX);
    nm_file_remove(&a), nm_file_remove(&b);
    CHECK(nm_files_rest(&s) == -1 && s.idle.last == NULL && s.sending.last == NULL);
}

static void one_round(const client_t *client, int count, int64_t patience_ns, int expected) {
    static const char before[] = "HTTP/1.1 200 OK\r\nContent-Length: ", after[] = "\r\nServer: x\r\n\r\n";
    pthread_t threads[CLIENTS + 1], runner;
    socklen_t length = sizeof address;
    int accepted = 0, handed = 0, before_us = descriptors(), i;
    memset(&server, 0, sizeof server);
    server.content = content, server.most = MOST;
    server.before = before, server.before_bytes = sizeof before - 1;
    server.between = "\r\nDate: ", server.between_bytes = 8;
    server.after = after, server.after_bytes = sizeof after - 1;
    server.idle_ns = server.stall_ns = patience_ns;
    CHECK(nm_files_init(&server) == 0);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    address.sin_family = AF_INET;
    address.sin_port = 0;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(bind(listener, (struct sockaddr *)&address, length) == 0 && listen(listener, 64) == 0);
    CHECK(getsockname(listener, (struct sockaddr *)&address, &length) == 0);
    CHECK(nm_files_rest(&server) == -1); /* without connections, nothing but an event wakes it */
    runner = start(run_server, NULL);
    for (i = 0; i < count; i++) threads[i] = start(run_client, (void *)(uintptr_t)&client[i]);
    while (accepted < count || handed < expected || NM_LOAD(&server.open) > 0) {
        struct pollfd both[2] = {{accepted < count ? listener : -1, POLLIN, 0}, {server.news, POLLIN, 0}};
        CHECK(poll(both, 2, 10) >= 0);
        if (both[0].revents) {
            int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
            CHECK(fd >= 0 && nm_files_add(&server, fd) == 0);
            accepted++;
        }
        if (both[1].revents) handed += take_back();
    }
    for (i = 0; i < count; i++) pthread_join(threads[i], NULL);
    CHECK(handed == expected);
    if (patience_ns > NM_SECOND_NS) { /* the end comes at once, whatever is open */
        int ends[4][2], room = 4096;
        char text[64];
        for (i = 0; i < 4; i++) {
            CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, ends[i]) == 0);
            CHECK(setsockopt(ends[i][1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room) == 0);
            CHECK(nm_files_add(&server, ends[i][1]) == 0);
        }
        CHECK(fcntl(ends[3][0], F_SETFL, 0) == 0); /* it waits, and so does the thread for it */
        be_good(ends[3][0], 0);
        while (say(ends[0][0], text, ask(text, sizeof text, MOST, 0))) sched_yield();
        CHECK(say(ends[1][0], "?", 1));
        nm_files_stop(&server);
        pthread_join(runner, NULL);
        CHECK(nm_files_add(&server, ends[2][0]) == 0); /* nobody will serve it */
        CHECK(NM_LOAD(&server.open) == 5);
        for (const nm_file_client *c = server.idle.first; c != NULL; c = c->next)
            CHECK(c->events == EPOLLIN); /* EPOLLOUT would wake the thread all the time */
        nm_files_destroy(&server);
        i = (int)recv(ends[1][0], text, 1, 0); /* closed, with a byte unread or handed over */
        CHECK(i == 0 || (i < 0 && errno == ECONNRESET));
        close(ends[0][0]), close(ends[1][0]), close(ends[3][0]);
    } else {
        nm_files_stop(&server);
        nm_files_stop(&server);
        pthread_join(runner, NULL);
        nm_files_destroy(&server);
    }
    CHECK(server.open == 0);
    close(listener);
    CHECK(descriptors() == before_us);
}

void scenario_files(uint32_t rounds) {
    static void (*const patient[])(int, size_t) = {be_good, be_other, be_gone, be_half};
    static void (*const hasty[])(int, size_t) = {be_stuck, be_silent};
    client_t clients[CLIENTS];
    check_rests();
    for (size_t i = 0; i < MOST; i++) content[i] = (char)(i * 7 + i / 251);
    for (uint32_t i = 0; i < rounds; i++) {
        for (size_t c = 0; c < CLIENTS; c++)
            clients[c] = (client_t){i % 2 ? hasty[c % 2] : patient[c % 4], i + c};
        one_round(clients, CLIENTS, i % 2 ? 20000000 : 60 * NM_SECOND_NS, i % 2 ? 0 : CLIENTS / 4);
    }
}
