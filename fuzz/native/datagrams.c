/* Whatever datagrams arrive, in whatever trains, each is counted in exactly one counter, no count shrinks,
 * and the count of received datagrams never exceeds the highest number. */
#include "input.h"

#include "nm_udp_receive.h"

enum { DATAGRAM = 64 };
static nm_udp_receiver receivers[2]; /* without and with coalescing */

static nm_udp_receiver *receiver(int coalesce) {
    nm_udp_receiver *r = &receivers[coalesce];
    nm_udp_receive_options o = {DATAGRAM, 0, coalesce, 64, 0};
    if (r->buffer) return r;
    r->coalescing = coalesce;
    r->stamping = 1;
    CHECK(nm_udp_receiver_allocate(r, &o) == 0);
    return r;
}

/* Puts a message into place `i` and returns how many datagrams are in it. */
static uint64_t arrive(nm_udp_receiver *r, uint32_t i, input *in, int *closed) {
    struct msghdr *m = &r->message[i].msg_hdr;
    unsigned char *p = r->buffer + (size_t)i * r->buffer_bytes;
    uint8_t how = take8(in);
    size_t written = how & 1 ? (take8(in) & 1 ? 12 : 16) : take8(in), length = written;
    uint64_t segment, held;
    if (written > r->buffer_bytes) length = written = r->buffer_bytes;
    if (how & 2) length = take16(in); /* may be longer than the buffer, or than what was written */
    held = length < r->buffer_bytes ? length : r->buffer_bytes;
    if (written > held) written = held;
    UNPOISON(p, r->buffer_bytes);
    take(in, p, written);
    if (how & 1) memset(p + 4, 0, written > 8 ? 1 : 0); /* microseconds that can be, more often */
    POISON(p + held, r->buffer_bytes - held);
    r->message[i].msg_len = (unsigned)length;
    m->msg_flags = how & 4 ? MSG_TRUNC : 0;
    m->msg_controllen = how & 8 ? take8(in) % (NM_UDP_CONTROL + 1) : how & 16 ? 0 : 1;
    UNPOISON(m->msg_control, NM_UDP_CONTROL);
    if (how & 32) {
        struct cmsghdr c = {CMSG_LEN(sizeof(int)), SOL_UDP, UDP_GRO};
        int size = take16(in);
        m->msg_controllen = CMSG_SPACE(sizeof size);
        memcpy(m->msg_control, &c, sizeof c);
        memcpy((unsigned char *)m->msg_control + sizeof c, &size, sizeof size);
    } else {
        take(in, m->msg_control, m->msg_controllen);
    }
    POISON((unsigned char *)m->msg_control + m->msg_controllen, NM_UDP_CONTROL - m->msg_controllen);
    if (length == 0 && m->msg_controllen == 0) *closed = 1;
    if (*closed) return 0;
    segment = nm_udp_read_control(m).segment_bytes;
    if (!r->coalescing || held == 0 || segment == 0 || segment >= held) return 1;
    return (held + segment - 1) / segment;
}

static uint64_t booked(const nm_udp_account *a) {
    const nm_udp_counts *c = &a->now;
    return c->received + c->duplicates + c->late + c->malformed + c->implausible + c->handshakes +
           (a->suspect != 0);
}

static void check(const nm_udp_account *a, const nm_udp_counts *before) {
    const nm_udp_counts *c = &a->now;
    CHECK(c->received <= c->highest && c->reordered <= c->received);
    CHECK(c->highest >= before->highest && c->received >= before->received);
    CHECK(c->bytes >= before->bytes && c->duplicates >= before->duplicates);
    CHECK(c->late >= before->late && c->implausible >= before->implausible);
    CHECK(c->highest < UINT64_C(1) << 62);
    CHECK(c->jitter_16th_ns <= 16 * NM_UDP_MOST_DELAY);
    CHECK(c->ipdv_count == 0 || c->ipdv_min_ns <= c->ipdv_max_ns);
    CHECK(c->transit_count == 0 || c->transit_min_ns <= c->transit_max_ns);
    if (!a->omit_over) return;
    CHECK(a->omitted.received <= c->received && a->omitted.highest <= c->highest);
    CHECK(a->omitted.received <= a->omitted.highest && a->omitted.bytes <= c->bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    uint8_t mode = take8(&in);
    nm_udp_receiver *r = receiver(mode & 1);
    nm_udp_account *a = &r->account;
    uint64_t arrived = 0;
    int64_t now = 1000000000;
    nm_udp_account_free(a);
    CHECK(nm_udp_account_init(a, mode >> 1 & 1, UINT64_C(64) << (mode >> 4 & 3)) == 0);
    memset(&r->board, 0, sizeof r->board);
    r->last_drops = 0;
    r->clock_offset = (int64_t)take_any(&in) / 2;
    while (in.left > 0) {
        uint32_t count = 1 + take8(&in) % 4, i;
        nm_udp_counts before = a->now, shown;
        int closed = 0;
        for (i = 0; i < count; i++) arrived += arrive(r, i, &in, &closed);
        now += (int64_t)(take16(&in)) * 1000;
        CHECK(nm_udp_take(r, count, now, in.left & 1) == closed);
        check(a, &before);
        CHECK(booked(a) == arrived);
        nm_udp_publish(r, now);
        CHECK(nm_udp_look(&r->board, &shown, 0) == 1 && shown.received == a->now.received);
        if (mode & 4 && !a->omit_over && in.left < size / 2) nm_udp_omit(a, now);
    }
    nm_udp_account_close(a);
    CHECK(a->suspect == 0 && booked(a) == arrived);
    return 0;
}
