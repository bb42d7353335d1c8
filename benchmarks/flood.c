/* Sends datagrams of random bytes to 127.0.0.1 at a rate, from many loopback addresses.
 *
 *     flood PORT PER_SECOND SOURCES
 *
 * The lengths go from 0 to 99 bytes, and every tenth datagram looks like the hello of a test. It ends with
 * SIGTERM, and then prints how many were sent and in how many seconds. The kernel cuts trains of datagrams of equal
 * length (UDP_SEGMENT, udp(7)), which takes this program a tenth of the time of single ones. */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#define TRAINS 10
#define TRAIN 32
#define HELLO_BYTES 45
#define MOST_BYTES 100
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
    static unsigned char data[TRAINS][TRAIN * MOST_BYTES];
    union {
        char bytes[CMSG_SPACE(sizeof(uint16_t))];
        struct cmsghdr align;
    } control[TRAINS];
    struct mmsghdr message[TRAINS];
    struct iovec piece[TRAINS];
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    struct sigaction action = {.sa_handler = end};
    int sock[MOST_SOURCES], sources, i, j, turn = 0, train = TRAIN;
    uint64_t state = 88172645463325252ull, sent = 0;
    uint16_t length[TRAINS];
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
    memset(control, 0, sizeof control);
    for (i = 0; i < TRAINS; i++) {
        struct msghdr *head = &message[i].msg_hdr;
        struct cmsghdr *segment;
        for (j = 0; j < TRAIN * MOST_BYTES; j++) data[i][j] = (unsigned char)next_random(&state);
        length[i] = (uint16_t)(1 + next_random(&state) % (MOST_BYTES - 1));
        if (i == 0) {
            length[i] = HELLO_BYTES;
            for (j = 0; j < TRAIN; j++) {
                unsigned char *hello = data[i] + j * HELLO_BYTES;
                memset(hello, 'a', HELLO_BYTES);
                memcpy(hello, "9876", 4);
                hello[40] = 0;
            }
        }
        piece[i].iov_base = data[i];
        piece[i].iov_len = (size_t)TRAIN * length[i];
        head->msg_name = &to;
        head->msg_namelen = sizeof to;
        head->msg_iov = &piece[i];
        head->msg_iovlen = 1;
        head->msg_control = &control[i];
        head->msg_controllen = sizeof control[i].bytes;
        segment = CMSG_FIRSTHDR(head);
        segment->cmsg_level = IPPROTO_UDP;
        segment->cmsg_type = UDP_SEGMENT;
        segment->cmsg_len = CMSG_LEN(sizeof length[i]);
        memcpy(CMSG_DATA(segment), &length[i], sizeof length[i]);
    }
    since = now_s();
    while (!ended) {
        double late_s = now_s() - since - (double)sent / per_s;
        int done, from = sock[turn++ % sources];
        if (late_s < 0) {
            struct timespec pause = {0, (long)(-late_s * 1e9)};
            nanosleep(&pause, NULL);
            continue;
        }
        done = sendmmsg(from, message, TRAINS, 0);
        if (done > 0) {
            sent += (uint64_t)(done * train);
            if (sendto(from, "", 0, 0, (struct sockaddr *)&to, sizeof to) == 0) sent++;
        } else if (train > 1 && (errno == EINVAL || errno == EIO)) {
            train = 1; /* a kernel that does not cut trains */
            for (i = 0; i < TRAINS; i++) {
                piece[i].iov_len = length[i];
                message[i].msg_hdr.msg_controllen = 0;
            }
        }
    }
    printf("%llu %.6f\n", (unsigned long long)sent, now_s() - since);
    return 0;
}
