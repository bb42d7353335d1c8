/* Receiving datagrams: batches of messages from recvmmsg(), the kernel's time stamps and drops, and
 * the published counts. */
#ifndef NM_UDP_RECEIVE_H
#define NM_UDP_RECEIVE_H

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <time.h>

#include "nm_atomic.h"
#include "nm_buffer.h"
#include "nm_clock.h"
#include "nm_samples.h"
#include "nm_series.h"
#include "nm_udp_account.h"
#include "nm_udp_control.h"
#include "nm_udp_counts.h"

#ifndef SO_MEMINFO
#define SO_MEMINFO 55
#endif

#define NM_UDP_BATCH 64    /* messages per recvmmsg() */
#define NM_UDP_CONTROL 128 /* room for a time stamp, the drop counter and the segment size */
#define NM_UDP_RECEIVE_BYTES 1048576

typedef struct {
    uint32_t datagram_bytes; /* largest that is expected, 16 to NM_UDP_LARGEST */
    int counters_64bit;
    int coalesce;    /* let the kernel hand over trains in one piece (UDP_GRO) */
    uint64_t window; /* of nm_udp_account */
    uint32_t batch_bytes; /* room for one recvmmsg(); 0: NM_UDP_RECEIVE_BYTES */
} nm_udp_receive_options;

typedef struct {
    nm_udp_board board; /* published: readers use nm_udp_look() */
    nm_series packet_series;
    int coalescing; /* UDP_GRO took */
    int stamping;   /* SO_TIMESTAMPNS took */
    /* from here on only the thread looks */
    nm_udp_account account;
    uint32_t last_drops;
    int64_t clock_offset, clock_read; /* CLOCK_REALTIME - CLOCK_MONOTONIC, and when that was */
    uint32_t batch, buffer_bytes;
    unsigned char *buffer, *control;
    struct mmsghdr *message;
    struct iovec *vector;
    nm_sampling sampling;
    nm_udp_sample *sample; /* read after the end */
} nm_udp_receiver;

/* ---- drops of our own socket ----------------------------------------------------------------- */

/* Asks the kernel how many datagrams the socket has dropped. Returns -1 where it does not say. */
static inline int nm_udp_drops(int fd, uint32_t *drops) {
    uint32_t info[16] = {0};
    socklen_t length = sizeof info;
    if (getsockopt(fd, SOL_SOCKET, SO_MEMINFO, info, &length) != 0 || length < 9 * 4) return -1;
    *drops = info[8]; /* SK_MEMINFO_DROPS */
    return 0;
}

/* Notes the kernel's drop counter, which is 32 bits wide and may have counted before the test. */
static inline void nm_udp_dropped(nm_udp_receiver *r, uint32_t drops) {
    uint32_t more = drops - r->last_drops;
    if (more == 0 || more >= UINT32_C(1) << 31) return;
    r->account.now.host_dropped += more;
    r->last_drops = drops;
}

/* Asks for drops: with SO_RXQ_OVFL alone, those after the last datagram that got through would never
 * be seen. */
static inline void nm_udp_ask_drops(nm_udp_receiver *r, int fd) {
    uint32_t drops;
    if (nm_udp_drops(fd, &drops) == 0) nm_udp_dropped(r, drops);
}

/* ---- memory ---------------------------------------------------------------------------------- */

/* Makes the header of one message ready for the next recvmmsg(). */
static inline void nm_udp_reuse(struct msghdr *m) {
    m->msg_controllen = NM_UDP_CONTROL;
    m->msg_flags = 0;
}

/* Returns 0, or -1 where memory is short; nm_udp_receiver_free() is due in both cases. Asks nothing of
 * the kernel. */
static inline int nm_udp_receiver_allocate(nm_udp_receiver *r, const nm_udp_receive_options *o) {
    uint32_t i;
    /* a coalesced train that does not fit is lost without notice, so there is room for the longest */
    r->buffer_bytes = r->coalescing ? 65536 : (o->datagram_bytes + 63) / 64 * 64;
    r->batch = (o->batch_bytes ? o->batch_bytes : NM_UDP_RECEIVE_BYTES) / r->buffer_bytes;
    if (r->batch < 1) r->batch = 1;
    if (r->batch > NM_UDP_BATCH) r->batch = NM_UDP_BATCH;
    r->buffer = nm_buffer_allocate((size_t)r->batch * r->buffer_bytes);
    r->control = calloc(r->batch, NM_UDP_CONTROL);
    r->message = calloc(r->batch, sizeof *r->message);
    r->vector = calloc(r->batch, sizeof *r->vector);
    r->sample = calloc(NM_SAMPLES, sizeof *r->sample);
    if (nm_udp_account_init(&r->account, o->counters_64bit, o->window) != 0) return -1;
    if (!r->buffer || !r->control || !r->message || !r->vector || !r->sample) return -1;
    memset(r->buffer, 1, (size_t)r->batch * r->buffer_bytes); /* touched before the run */
    for (i = 0; i < r->batch; i++) {
        struct msghdr *m = &r->message[i].msg_hdr;
        r->vector[i].iov_base = r->buffer + (size_t)i * r->buffer_bytes;
        r->vector[i].iov_len = r->buffer_bytes;
        m->msg_iov = &r->vector[i];
        m->msg_iovlen = 1;
        m->msg_control = r->control + (size_t)i * NM_UDP_CONTROL;
        nm_udp_reuse(m);
    }
    return 0;
}

/* As nm_udp_receiver_allocate(), after asking the socket for what the kernel can tell. Each of these
 * options is dispensable: what is not to be had is not counted, or is read in another way. */
static inline int nm_udp_receiver_init(nm_udp_receiver *r, int fd, const nm_udp_receive_options *o) {
    int on = 1, coalesce = o->coalesce != 0;
    (void)setsockopt(fd, SOL_SOCKET, SO_RXQ_OVFL, &on, sizeof on); /* else nm_udp_ask_drops() */
    r->stamping = setsockopt(fd, SOL_SOCKET, SO_TIMESTAMPNS, &on, sizeof on) == 0;
    r->coalescing =
        setsockopt(fd, SOL_UDP, UDP_GRO, &coalesce, sizeof coalesce) == 0 && coalesce;
    (void)nm_udp_drops(fd, &r->last_drops); /* else none were counted before */
    return nm_udp_receiver_allocate(r, o);
}

static inline void nm_udp_receiver_free(nm_udp_receiver *r) {
    nm_udp_account_free(&r->account);
    free(r->buffer);
    free(r->control);
    free(r->message);
    free(r->vector);
    free(r->sample);
}

/* ---- the run --------------------------------------------------------------------------------- */

/* Measures the distance of the two clocks. Kernel time stamps are CLOCK_REALTIME; they are turned to
 * CLOCK_MONOTONIC with the distance at the moment of reading, so that neither a step nor a slew of
 * the wall clock is taken for jitter. Returns 0 where the wall clock has just been stepped: the stamps
 * of this batch may be from before or after it. */
static inline int nm_udp_align_clocks(nm_udp_receiver *r, int64_t *now) {
    struct timespec t;
    int64_t before, after, offset, moved, bound;
    int tries;
    for (tries = 0; tries < 3; tries++) {
        before = nm_now();
        clock_gettime(CLOCK_REALTIME, &t);
        after = nm_now();
        *now = after;
        if (after - before < 5000) break;
    }
    if (tries == 3 && r->clock_read) return 1; /* interrupted each time: use the last distance */
    offset = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec - (before + (after - before) / 2);
    moved = offset > r->clock_offset ? offset - r->clock_offset : r->clock_offset - offset;
    bound = 20000 + (after - r->clock_read) / 1000; /* a slew is at most 0.05 % */
    moved = r->clock_read != 0 && moved > bound;
    r->clock_offset = offset;
    r->clock_read = after;
    return !moved;
}

/* Books one received message: a datagram, or a train of them. */
static inline void nm_udp_take_message(nm_udp_receiver *r, const unsigned char *p, uint64_t length,
                                       uint64_t segment, int64_t arrival) {
    uint64_t done = 0, one;
    int counted;
    if (!r->coalescing) { /* `length` may be more than the buffer holds: only the header is read */
        (void)nm_udp_count(&r->account, p, length, arrival, 0);
        return;
    }
    if (length > r->buffer_bytes) length = r->buffer_bytes;
    if (segment == 0 || segment > length) segment = length;
    do {
        one = length - done < segment ? length - done : segment;
        counted = nm_udp_count(&r->account, p + done, one, arrival, segment < length);
        done += one;
        if (counted)
            done += segment * nm_udp_count_run(&r->account, p + done, segment, (length - done) / segment);
    } while (done < length);
}

/* Books the messages of one recvmmsg(), and makes their headers ready for the next. `aligned`: the
 * kernel's time stamps can be used. Returns whether the socket has been shut down, which looks like
 * empty datagrams without any control message. */
static inline int nm_udp_take(nm_udp_receiver *r, uint32_t count, int64_t now, int aligned) {
    uint32_t i;
    int closed = 0;
    if (count > r->batch) count = r->batch;
    for (i = 0; i < count; i++) {
        struct msghdr *m = &r->message[i].msg_hdr;
        uint64_t length = r->message[i].msg_len;
        int64_t arrival = now, stamped;
        nm_udp_notes notes = nm_udp_read_control(m);
        if (length == 0 && m->msg_controllen == 0 && r->stamping) closed = 1;
        if (notes.stamped && aligned) {
            stamped = nm_add_ns(notes.arrival_ns, -r->clock_offset);
            if (stamped <= now) arrival = stamped;
        }
        if (notes.counted) nm_udp_dropped(r, notes.drops);
        if (m->msg_flags & MSG_TRUNC) r->account.now.truncated++;
        if (!closed)
            nm_udp_take_message(r, r->buffer + (size_t)i * r->buffer_bytes, length,
                                notes.segment_bytes, arrival);
        nm_udp_reuse(m);
    }
    return closed;
}

/* Publishes what has been counted until now. */
static inline void nm_udp_publish(nm_udp_receiver *r, int64_t now) {
    r->account.now.at_ns = now;
    nm_udp_post(&r->board, &r->account.now, r->account.omit_over ? &r->account.omitted : NULL);
}

static inline void nm_udp_sample_take(nm_udp_receiver *r, int64_t now) {
    const nm_udp_counts *c = &r->account.now;
    nm_udp_sample *one = nm_sampling_next(&r->sampling, r->sample, sizeof *one, now);
    *one = (nm_udp_sample){
        now, c->highest, c->received, c->duplicates, c->reordered, c->host_dropped,
        c->jitter_count ? (int64_t)(c->jitter_16th_ns / 16) : -1};
}

static inline void nm_udp_finish(nm_udp_receiver *r, int fd, int64_t now) {
    nm_udp_account_close(&r->account);
    nm_udp_ask_drops(r, fd);
    nm_udp_sample_take(r, now);
    nm_udp_publish(r, now);
}

#endif
