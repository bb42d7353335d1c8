/* Sending datagrams: batches of messages for sendmmsg(), trains for UDP_SEGMENT. */
#ifndef NM_UDP_SEND_H
#define NM_UDP_SEND_H

#include <errno.h>
#include <netinet/in.h>
#include <netinet/udp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "nm_assert.h"
#include "nm_atomic.h"
#include "nm_burst.h"
#include "nm_pace.h"
#include "nm_series.h"
#include "nm_udp_header.h"

#ifndef UDP_SEGMENT
#define UDP_SEGMENT 103
#endif
#ifndef SOL_UDP
#define SOL_UDP 17
#endif

#define NM_UDP_MESSAGES 64       /* per sendmmsg() */
#define NM_UDP_TRAIN 128         /* the most segments that a kernel takes (UDP_MAX_SEGMENTS)... */
#define NM_UDP_OLD_TRAIN 64      /* ...and older ones, which refuse more with EINVAL */
#define NM_UDP_SEND_BYTES 262144 /* of one batch: it stays in the cache, and a stop is noticed soon */

typedef struct {
    uint32_t datagram_bytes; /* 16 to NM_UDP_LARGEST */
    int counters_64bit;
    uint32_t segments; /* most datagrams per super-datagram, 1 to NM_UDP_TRAIN; 1: no offload */
} nm_udp_send_options;

typedef struct {
    /* published */
    uint64_t packets;
    uint64_t refused;       /* datagrams that the kernel did not take; they got no sequence number */
    uint64_t icmp_errors;   /* errors that the network reported on this socket */
    uint32_t segments;      /* datagrams in the longest super-datagram; 1: no segmentation offload */
    int32_t fallback_errno; /* why it became 1; 0: it did not, or was never asked for */
    nm_series packet_series;
    nm_pace pace;
    nm_burst burst;
    /* from here on only the thread looks */
    uint64_t sequence; /* of the next datagram */
    uint32_t datagram_bytes;
    uint32_t slots; /* datagrams that the buffer holds */
    int counters_64bit;
    unsigned char *buffer;
    struct mmsghdr *message;
    struct iovec *vector;
    unsigned char *control; /* one for all messages: they all say the same segment size */
} nm_udp_sender;

/* Fills in the control message that tells the kernel how to cut a train. */
static inline void nm_udp_segment_control(unsigned char *control, uint16_t size) {
    struct msghdr m = {0};
    struct cmsghdr *c;
    m.msg_control = control;
    m.msg_controllen = CMSG_SPACE(sizeof size);
    c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_UDP;
    c->cmsg_type = UDP_SEGMENT;
    c->cmsg_len = CMSG_LEN(sizeof size);
    memcpy(CMSG_DATA(c), &size, sizeof size);
}

/* Returns 0, or -1 where memory is short; nm_udp_sender_free() is due in both cases. */
static inline int nm_udp_sender_init(nm_udp_sender *u, const nm_udp_send_options *o) {
    uint32_t i;
    u->datagram_bytes = o->datagram_bytes;
    u->counters_64bit = o->counters_64bit;
    u->segments = o->segments;
    u->sequence = 1;
    u->slots = NM_UDP_SEND_BYTES / u->datagram_bytes;
    if (u->slots > NM_UDP_MESSAGES * u->segments) u->slots = NM_UDP_MESSAGES * u->segments;
    u->slots = u->slots < u->segments ? u->segments : u->slots / u->segments * u->segments;
    u->buffer = malloc((size_t)u->slots * u->datagram_bytes);
    u->message = calloc(NM_UDP_MESSAGES, sizeof *u->message);
    u->vector = calloc(NM_UDP_MESSAGES, sizeof *u->vector);
    u->control = calloc(1, CMSG_SPACE(sizeof(uint16_t)));
    if (!u->buffer || !u->message || !u->vector || !u->control) return -1;
    for (i = 0; i < NM_UDP_MESSAGES; i++) {
        u->message[i].msg_hdr.msg_iov = &u->vector[i];
        u->message[i].msg_hdr.msg_iovlen = 1;
    }
    nm_udp_segment_control(u->control, (uint16_t)u->datagram_bytes);
    return 0;
}

static inline void nm_udp_sender_free(nm_udp_sender *u) {
    free(u->buffer);
    free(u->message);
    free(u->vector);
    free(u->control);
}

/* Copies `pattern`, again and again, into every datagram of the buffer. `length` is positive. */
static inline void nm_udp_fill(nm_udp_sender *u, const char *pattern, size_t length) {
    size_t size = u->datagram_bytes, done, part;
    uint32_t i;
    for (done = 0; done < size; done += part) {
        part = size - done < length ? size - done : length;
        memcpy(u->buffer + done, pattern, part);
    }
    for (i = 1; i < u->slots; i++) memcpy(u->buffer + i * size, u->buffer, size);
}

/* Returns 0, or the errno of a kernel that does not know UDP_SEGMENT. Such a kernel would ignore the
 * control message and send the whole train as a single fragmented datagram. */
static inline int nm_udp_segment_errno(int fd) {
    int value = 0;
    socklen_t length = sizeof value;
    return getsockopt(fd, SOL_UDP, UDP_SEGMENT, &value, &length) == 0 ? 0 : errno;
}

/* Makes trains shorter after the kernel has refused one with `code`: at first as short as every
 * kernel with UDP_SEGMENT takes them, then there are none any more. */
static inline void nm_udp_shorten(nm_udp_sender *u, int32_t code) {
    uint32_t shorter = u->segments > NM_UDP_OLD_TRAIN && code == EINVAL ? NM_UDP_OLD_TRAIN : 1;
    if (shorter == 1) NM_STORE(&u->fallback_errno, code);
    NM_STORE(&u->segments, shorter);
}

/* Lays up to `count` datagrams out in messages of up to u->segments and stamps them. Returns how many
 * were laid out; `messages` is the number of messages. */
static inline uint64_t nm_udp_lay_out(nm_udp_sender *u, uint64_t count, int64_t now,
                                      unsigned *messages) {
    uint64_t size = u->datagram_bytes, train = u->segments, laid = 0, n, i;
    if (count > u->slots) count = u->slots;
    for (*messages = 0; laid < count && *messages < NM_UDP_MESSAGES; (*messages)++) {
        struct msghdr *m = &u->message[*messages].msg_hdr;
        n = count - laid < train ? count - laid : train;
        u->vector[*messages].iov_base = u->buffer + laid * size;
        u->vector[*messages].iov_len = n * size;
        m->msg_control = n > 1 ? u->control : NULL;
        m->msg_controllen = n > 1 ? CMSG_SPACE(sizeof(uint16_t)) : 0;
        for (i = laid; i < laid + n; i++)
            nm_udp_write_header(u->buffer + i * size, now, u->sequence + i, u->counters_64bit);
        laid += n;
    }
    return laid;
}

/* Hands up to `count` datagrams to the kernel in one call. Returns how many it took, or -errno when
 * it took none. */
static inline int64_t nm_udp_send(nm_udp_sender *u, int fd, uint64_t count, int64_t now, int flags) {
    unsigned messages;
    uint64_t laid = nm_udp_lay_out(u, count, now, &messages), n;
    int sent;
    nm_assert(count > 0);
    sent = sendmmsg(fd, u->message, messages, flags);
    if (sent <= 0) return sent < 0 ? -errno : -EAGAIN;
    n = (uint64_t)sent == messages ? laid : (uint64_t)sent * u->segments;
    u->sequence += n;
    return (int64_t)n;
}

/* Books `n` datagrams that the kernel took in a call between two moments. For the burst they all left at
 * the first moment: a bucket of the depth that follows from it lets them pass in any case, and it is too
 * deep by what the rate allows in one call at the most. */
static inline void nm_udp_sent(nm_udp_sender *u, uint64_t n, int64_t before, int64_t now) {
    nm_series_add(&u->packet_series, now, n);
    NM_ADD(&u->packets, n);
    if (nm_paced(&u->pace)) nm_burst_add(&u->burst, &u->pace.rate, u->datagram_bytes, before, n);
}

#endif
