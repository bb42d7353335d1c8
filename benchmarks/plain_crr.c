/* The simplest loops of connect, request, response between two processes: a yardstick for any tool.
 *
 *   plain_crr ADDRESS SECONDS REQUEST_BYTES RESPONSE_BYTES
 *
 * One connection at a time, with blocking calls: the client connects, sends a request, reads to the end
 * of the connection, and closes. The server, a child of this process, closes first. The client is
 * on CPU 0, the server on CPU 1. ADDRESS is one of this host's own. It prints one line of JSON. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

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

static void serve(int listener, size_t request, const char *response, size_t size) {
    char *into = malloc(request);
    must(into != NULL, "malloc");
    pin(1);
    for (;;) {
        int fd = accept(listener, NULL, NULL);
        must(fd >= 0, "accept");
        if (recv(fd, into, request, MSG_WAITALL) == (ssize_t)request)
            must(send(fd, response, size, MSG_NOSIGNAL) == (ssize_t)size, "send");
        close(fd);
    }
}

int main(int argc, char **argv) {
    struct sockaddr_in at = {.sin_family = AF_INET};
    socklen_t length = sizeof at;
    unsigned long done = 0;
    if (argc != 5) {
        fprintf(stderr, "usage: see the head of plain_crr.c\n");
        return 2;
    }
    const double seconds = atof(argv[2]);
    const size_t request = (size_t)atol(argv[3]), response = (size_t)atol(argv[4]);
    char *sent = calloc(1, request + response), *got = malloc(response + 1);
    int listener = socket(AF_INET, SOCK_STREAM, 0), on = 1;
    must(sent != NULL && got != NULL && listener >= 0, "set-up");
    must(inet_pton(AF_INET, argv[1], &at.sin_addr) == 1, argv[1]);
    must(bind(listener, (struct sockaddr *)&at, sizeof at) == 0, "bind");
    must(getsockname(listener, (struct sockaddr *)&at, &length) == 0, "getsockname");
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    must(listen(listener, 64) == 0, "listen");
    const pid_t child = fork();
    must(child >= 0, "fork");
    if (child == 0) serve(listener, request, sent, response);
    pin(0);
    const double begun = now();
    while (now() < begun + seconds) {
        int fd = socket(AF_INET, SOCK_STREAM, 0);
        must(fd >= 0, "socket");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
        must(connect(fd, (struct sockaddr *)&at, sizeof at) == 0, "connect");
        must(send(fd, sent, request, MSG_NOSIGNAL) == (ssize_t)request, "send");
        must(recv(fd, got, response, MSG_WAITALL) == (ssize_t)response, "recv");
        must(recv(fd, got, 1, 0) == 0, "the end of the connection");
        close(fd);
        done++;
    }
    printf("{\"transactions\": %lu, \"seconds\": %.6f}\n", done, now() - begun);
    kill(child, SIGKILL);
    wait(NULL);
    return 0;
}
