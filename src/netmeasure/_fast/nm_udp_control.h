/* The kernel's control messages of a received datagram: when it arrived, how many datagrams the
 * socket has dropped, and how long the segments of a coalesced train are.
 *
 * A message is only read where all of it lies within the control buffer. */
#ifndef NM_UDP_CONTROL_H
#define NM_UDP_CONTROL_H

#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>

#ifndef UDP_GRO
#define UDP_GRO 104
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

typedef struct {
    int stamped;        /* `arrival_ns` is known */
    int64_t arrival_ns; /* CLOCK_REALTIME */
    int counted;        /* `drops` is known */
    uint32_t drops;
    uint64_t segment_bytes; /* 0: not a train */
} nm_udp_notes;

/* Copies the `size` bytes that a control message carries. Returns 0 where it carries fewer, or claims
 * more than the buffer holds. */
static inline int nm_udp_carried(const struct msghdr *m, struct cmsghdr *c, void *into, size_t size) {
    const unsigned char *end = (const unsigned char *)m->msg_control + m->msg_controllen;
    if (c->cmsg_len < CMSG_LEN(size) || CMSG_DATA(c) + size > end) return 0;
    memcpy(into, CMSG_DATA(c), size);
    return 1;
}

static inline void nm_udp_note(nm_udp_notes *n, const struct msghdr *m, struct cmsghdr *c) {
    struct timespec t;
    int size;
    if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_TIMESTAMPNS) {
        if (!nm_udp_carried(m, c, &t, sizeof t)) return;
        if (t.tv_sec < 0 || t.tv_sec > INT64_MAX / 1000000000 - 1) return;
        if (t.tv_nsec < 0 || t.tv_nsec >= 1000000000) return;
        n->stamped = 1;
        n->arrival_ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SO_RXQ_OVFL) {
        n->counted = nm_udp_carried(m, c, &n->drops, sizeof n->drops);
    } else if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO) {
        if (nm_udp_carried(m, c, &size, sizeof size) && size > 0) n->segment_bytes = (uint64_t)size;
    }
}

/* Reads all control messages of a received message. */
static inline nm_udp_notes nm_udp_read_control(struct msghdr *m) {
    nm_udp_notes n = {0};
    struct cmsghdr *c;
    for (c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) nm_udp_note(&n, m, c);
    return n;
}

#endif
