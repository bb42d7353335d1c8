/* The simplest loops of request and response between two processes: a yardstick for any tool.
 *
 *   plain_rr tcp|udp ADDRESS SECONDS BYTES CONNECTIONS
 *
 * Each connection has a thread at each end, with blocking calls: the client sends a request and waits for a
 * response of the same length. The server is a child of this process. With one connection, the client is on
 * CPU 0 and the server on CPU 1; with more, the kernel places the threads. ADDRESS is one of this host's own.
 * It prints one line of JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MOST_CONNECTIONS = 1024, MOST_BYTES = 65536 };

static size_t size;
static int udp;
static volatile int over;
static unsigned long done[MOST_CONNECTIONS];
static int ends[2][MOST_CONNECTIONS]; /* client, server */

static void must(int good, const char *what) {
    if (good) return;
    perror(what);
    exit(1);
}

static double now(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return at.tv_sec + at.tv_nsec / 1e9;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* best effort: a host with one CPU has no second */
}

static ssize_t receive(int fd, char *into) { return recv(fd, into, size, udp ? 0 : MSG_WAITALL); }

static void *serve(void *argument) {
    int fd = ends[1][(intptr_t)argument];
    char *into = malloc(size);
    must(into != NULL, "malloc");
    while (receive(fd, into) == (ssize_t)size)
        if (send(fd, into, size, MSG_NOSIGNAL) < 0) break;
    return NULL;
}

static void *ask(void *argument) {
    intptr_t i = (intptr_t)argument;
    char *bytes = calloc(1, size);
    must(bytes != NULL, "calloc");
    while (!over) {
        must(send(ends[0][i], bytes, size, MSG_NOSIGNAL) == (ssize_t)size, "send");
        if (receive(ends[0][i], bytes) != (ssize_t)size) break;
        done[i]++;
    }
    return NULL;
}

/* Makes the two ends of connection i. */
static void join_ends(int i, const char *address) {
    struct sockaddr_in at[2] = {{.sin_family = AF_INET}, {.sin_family = AF_INET}};
    socklen_t length = sizeof *at;
    int on = 1, listener, kind = udp ? SOCK_DGRAM : SOCK_STREAM;
    must(inet_pton(AF_INET, address, &at[0].sin_addr) == 1, address);
    at[1].sin_addr = at[0].sin_addr;
    listener = socket(AF_INET, kind, 0);
    ends[0][i] = socket(AF_INET, kind, 0);
    must(listener >= 0 && ends[0][i] >= 0, "socket");
    must(bind(listener, (struct sockaddr *)&at[1], length) == 0, "bind");
    must(getsockname(listener, (struct sockaddr *)&at[1], &length) == 0, "getsockname");
    if (!udp) must(listen(listener, 1) == 0, "listen");
    must(connect(ends[0][i], (struct sockaddr *)&at[1], length) == 0, "connect");
    if (udp) {
        must(getsockname(ends[0][i], (struct sockaddr *)&at[0], &length) == 0, "getsockname");
        must(connect(listener, (struct sockaddr *)&at[0], length) == 0, "connect");
        ends[1][i] = listener;
        return;
    }
    ends[1][i] = accept(listener, NULL, NULL);
    must(ends[1][i] >= 0, "accept");
    close(listener);
    for (int end = 0; end < 2; end++)
        setsockopt(ends[end][i], IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
}

int main(int argc, char **argv) {
    pthread_t thread[MOST_CONNECTIONS];
    unsigned long sum = 0;
    int i, count;
    if (argc != 6) {
        fprintf(stderr, "usage: see the head of plain_rr.c\n");
        return 2;
    }
    udp = strcmp(argv[1], "udp") == 0;
    const double seconds = atof(argv[3]);
    size = (size_t)atol(argv[4]);
    count = atoi(argv[5]);
    if (size < 1 || size > MOST_BYTES || count < 1 || count > MOST_CONNECTIONS) return 2;
    for (i = 0; i < count; i++) join_ends(i, argv[2]);
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (count == 1) pin(child == 0);
    for (i = 0; i < count; i++) close(ends[child == 0 ? 0 : 1][i]);
    if (child == 0) {
        for (i = 0; i < count; i++)
            must(pthread_create(&thread[i], NULL, serve, (void *)(intptr_t)i) == 0, "thread");
        for (i = 0; i < count; i++) pthread_join(thread[i], NULL);
        return 0;
    }
    const double begun = now();
    for (i = 0; i < count; i++)
        must(pthread_create(&thread[i], NULL, ask, (void *)(intptr_t)i) == 0, "thread");
    usleep((useconds_t)(seconds * 1e6));
    for (i = 0; i < count; i++) sum += done[i];
    printf("{\"transactions\": %lu, \"seconds\": %.6f}\n", sum, now() - begun);
    fflush(stdout);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    _exit(0);
}
