/* Sends datagrams of random bytes to 127.0.0.1 at a rate, from many loopback addresses.
 *
 *     flood PORT PER_SECOND SOURCES
 *
 * The lengths go from 0 to 99 bytes, and every tenth datagram looks like the hello of a test. It ends with
 * SIGTERM, and then prints how many were sent and in how many seconds. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define BATCH 64
#define HELLO_BYTES 45
#define MOST_SOURCES 64

static volatile sig_atomic_t ended;

static void end(int number) { ended = number; }

static double now_s(void) {
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    return (double)at.tv_sec + (double)at.tv_nsec / 1e9;
}

static uint64_t next_random(uint64_t *state) {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

int main(int argc, char **argv) {
    static unsigned char data[BATCH][100];
    struct mmsghdr message[BATCH];
    struct iovec piece[BATCH];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sigaction action = {.sa_handler = end};
    int sock[MOST_SOURCES], sources, i, j, turn = 0;
    uint64_t state = 88172645463325252ull, sent = 0;
    double per_s, since;
    if (argc != 4) return 2;
    to.sin_port = htons((uint16_t)atoi(argv[1]));
    per_s = atof(argv[2]);
    sources = atoi(argv[3]);
    if (sources < 1 || sources > MOST_SOURCES) return 2;
    sigaction(SIGTERM, &action, NULL);
    for (i = 0; i < sources; i++) {
        struct sockaddr_in from = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(0x7f030000u + (uint32_t)i + 1)};
        sock[i] = socket(AF_INET, SOCK_DGRAM, 0);
        if (sock[i] < 0 || bind(sock[i], (struct sockaddr *)&from, sizeof from) != 0) return 1;
    }
    memset(message, 0, sizeof message);
    for (i = 0; i < BATCH; i++) {
        for (j = 0; j < 100; j++) data[i][j] = (unsigned char)next_random(&state);
        piece[i].iov_base = data[i];
        piece[i].iov_len = next_random(&state) % 100;
        if (i % 10 == 0) {
            memset(data[i], 'a', HELLO_BYTES);
            memcpy(data[i], "9876", 4);
            data[i][40] = 0;
            piece[i].iov_len = HELLO_BYTES;
        }
        message[i].msg_hdr.msg_name = &to;
        message[i].msg_hdr.msg_namelen = sizeof to;
        message[i].msg_hdr.msg_iov = &piece[i];
        message[i].msg_hdr.msg_iovlen = 1;
    }
    since = now_s();
    while (!ended) {
        double late_s = now_s() - since - (double)sent / per_s;
        int done;
        if (late_s < 0) {
            struct timespec pause = {0, (long)(-late_s * 1e9)};
            nanosleep(&pause, NULL);
            continue;
        }
        done = sendmmsg(sock[turn++ % sources], message, BATCH, 0);
        if (done > 0) sent += (uint64_t)done;
    }
    printf("%llu %.6f\n", (unsigned long long)sent, now_s() - since);
    return 0;
}
