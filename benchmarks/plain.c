/* The simplest loops that move bytes between two processes: an upper bound for any tool.
 *
 *   plain tcp ADDRESS SECONDS SEND_BYTES RECEIVE_BYTES copy|discard [LOW_WATER_BYTES]
 *   plain udp ADDRESS SECONDS DATAGRAM_BYTES SEGMENTS     (SEGMENTS 1: no offload)
 *
 * Buffers begin at a page, or as many bytes after it as SEND_OFFSET and RECEIVE_OFFSET in the
 * environment say.
 *
 * The sender is this process on CPU 0, the receiver its child on CPU 1; the connection uses cubic.
 * ADDRESS is one of this host's own. It prints one line of JSON: bytes and datagrams received, what
 * was sent, the seconds from the first byte to the last, and the CPU seconds of both ends. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { RECEIVE_UDP_BYTES = 65535, BATCH = 16 };

typedef struct {
    uint64_t bytes, units;
    double seconds, cpu_s;
} counts;

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

static double cpu_s(void) {
    struct rusage used;
    getrusage(RUSAGE_SELF, &used);
    return used.ru_utime.tv_sec + used.ru_stime.tv_sec +
           (used.ru_utime.tv_usec + used.ru_stime.tv_usec) / 1e6;
}

static void pin(int cpu) {
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    sched_setaffinity(0, sizeof set, &set); /* best effort: a host with one CPU has no second */
}

static char *block(size_t size, int random) {
    const char *offset = getenv(random ? "SEND_OFFSET" : "RECEIVE_OFFSET");
    const size_t after = offset ? (size_t)atol(offset) : 0;
    char *made = aligned_alloc(4096, (after + size + 4095) / 4096 * 4096);
    must(made != NULL, "aligned_alloc");
    made += after;
    for (size_t at = 0; random && at < size;) {
        ssize_t n = getrandom(made + at, size - at, 0);
        must(n > 0, "getrandom");
        at += (size_t)n;
    }
    return made;
}

static counts tcp_send(int fd, double seconds, size_t size) {
    counts sent = {0};
    char *from = block(size, 1);
    double begun = now(), until = begun + seconds;
    while (now() < until) {
        ssize_t n = send(fd, from, size, MSG_NOSIGNAL);
        must(n > 0, "send");
        sent.bytes += (uint64_t)n;
        sent.units++;
    }
    shutdown(fd, SHUT_WR);
    sent.seconds = now() - begun;
    return sent;
}

static counts tcp_receive(int fd, size_t size, int flags, int low_water) {
    counts got = {0};
    char *into = block(size, 0);
    double begun = 0;
    if (low_water) setsockopt(fd, SOL_SOCKET, SO_RCVLOWAT, &low_water, sizeof low_water);
    for (;;) {
        ssize_t n = recv(fd, into, size, flags);
        must(n >= 0, "recv");
        if (n == 0) break;
        if (begun == 0) begun = now();
        got.bytes += (uint64_t)n;
        got.units++;
    }
    got.seconds = now() - begun;
    return got;
}

static counts udp_send(int fd, double seconds, size_t size, int segments) {
    counts sent = {0};
    int segment = (int)size;
    char *from = block(size * (size_t)segments, 1);
    double begun = now(), until = begun + seconds;
    if (segments > 1)
        must(setsockopt(fd, IPPROTO_UDP, UDP_SEGMENT, &segment, sizeof segment) == 0, "UDP_SEGMENT");
    while (now() < until) {
        ssize_t n = send(fd, from, size * (size_t)segments, 0);
        if (n < 0 && (errno == ENOBUFS || errno == ECONNREFUSED)) continue;
        must(n > 0, "send");
        sent.bytes += (uint64_t)n;
        sent.units += (uint64_t)segments;
    }
    sent.seconds = now() - begun;
    return sent;
}

static counts udp_receive(int fd, size_t size) {
    counts got = {0};
    struct mmsghdr heads[BATCH];
    struct iovec places[BATCH];
    struct timeval quiet = {0, 500000};
    int on = 1;
    double begun = 0, last = 0;
    memset(heads, 0, sizeof heads);
    for (int i = 0; i < BATCH; i++) {
        places[i] = (struct iovec){block(RECEIVE_UDP_BYTES, 0), RECEIVE_UDP_BYTES};
        heads[i].msg_hdr = (struct msghdr){.msg_iov = &places[i], .msg_iovlen = 1};
    }
    setsockopt(fd, IPPROTO_UDP, UDP_GRO, &on, sizeof on);
    for (;;) {
        int n = recvmmsg(fd, heads, BATCH, MSG_WAITFORONE, NULL);
        if (n < 0 && errno == EAGAIN) {
            if (begun != 0) break;
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof quiet);
            continue;
        }
        must(n > 0, "recvmmsg");
        last = now();
        if (begun == 0) {
            begun = last;
            setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &quiet, sizeof quiet);
        }
        for (int i = 0; i < n; i++) {
            got.bytes += heads[i].msg_len;
            got.units += (heads[i].msg_len + size - 1) / size;
        }
    }
    got.seconds = last - begun;
    return got;
}

static int make_socket(int type, const char *address, int port, struct sockaddr_in *bound) {
    int fd = socket(AF_INET, type, 0);
    socklen_t length = sizeof *bound;
    must(fd >= 0, "socket");
    if (type == SOCK_STREAM) setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, "cubic", 5);
    memset(bound, 0, sizeof *bound);
    bound->sin_family = AF_INET;
    bound->sin_port = htons((uint16_t)port);
    must(inet_pton(AF_INET, address, &bound->sin_addr) == 1, address);
    must(bind(fd, (struct sockaddr *)bound, sizeof *bound) == 0, "bind");
    must(getsockname(fd, (struct sockaddr *)bound, &length) == 0, "getsockname");
    return fd;
}

int main(int argc, char **argv) {
    struct sockaddr_in there, here;
    counts sent, got;
    int pipes[2], tcp, at, fd;
    if (argc < 6) {
        fprintf(stderr, "usage: see the head of plain.c\n");
        return 2;
    }
    tcp = strcmp(argv[1], "tcp") == 0;
    const double seconds = atof(argv[3]);
    const size_t size = (size_t)atol(argv[4]), second = (size_t)atol(argv[5]);
    must(pipe(pipes) == 0, "pipe");
    at = make_socket(tcp ? SOCK_STREAM : SOCK_DGRAM, argv[2], 0, &there);
    if (tcp) must(listen(at, 1) == 0, "listen");
    if (fork() == 0) {
        pin(1);
        if (tcp) {
            const int flags = argc > 6 && strcmp(argv[6], "discard") == 0 ? MSG_TRUNC : 0;
            fd = accept(at, NULL, NULL);
            must(fd >= 0, "accept");
            got = tcp_receive(fd, second, flags, argc > 7 ? atoi(argv[7]) : 0);
        } else {
            got = udp_receive(at, size);
        }
        got.cpu_s = cpu_s();
        must(write(pipes[1], &got, sizeof got) == sizeof got, "write");
        _exit(0);
    }
    close(pipes[1]);
    pin(0);
    fd = make_socket(tcp ? SOCK_STREAM : SOCK_DGRAM, argv[2], 0, &here);
    must(connect(fd, (struct sockaddr *)&there, sizeof there) == 0, "connect");
    sent = tcp ? tcp_send(fd, seconds, size) : udp_send(fd, seconds, size, (int)second);
    sent.cpu_s = cpu_s();
    must(read(pipes[0], &got, sizeof got) == sizeof got, "read");
    wait(NULL);
    printf("{\"bytes\": %llu, \"units\": %llu, \"sent_bytes\": %llu, \"sent_units\": %llu, "
           "\"seconds\": %.6f, \"sender_cpu_s\": %.6f, \"receiver_cpu_s\": %.6f}\n",
           (unsigned long long)got.bytes, (unsigned long long)got.units,
           (unsigned long long)sent.bytes, (unsigned long long)sent.units, got.seconds, sent.cpu_s,
           got.cpu_s);
    return 0;
}
