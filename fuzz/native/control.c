/* Control messages, however malformed, are read within their buffer only, and a time stamp that is
 * read from them is one that a clock can have. */
#include "input.h"

#include "nm_udp_control.h"

/* Makes a message that is well formed except for its length, which the input sets. */
static size_t message(unsigned char *into, size_t room, input *in) {
    static const int kinds[4][2] = {{SOL_SOCKET, SO_TIMESTAMPNS}, {SOL_SOCKET, SO_RXQ_OVFL},
                                    {SOL_UDP, UDP_GRO}, {SOL_SOCKET, SCM_RIGHTS}};
    struct cmsghdr c;
    uint8_t kind = take8(in), length = take8(in);
    size_t n = sizeof c < room ? sizeof c : room, more;
    memset(&c, 0, sizeof c);
    c.cmsg_level = kinds[kind & 3][0];
    c.cmsg_type = kinds[kind & 3][1];
    c.cmsg_len = kind & 64 ? (size_t)take64(in) : length;
    memcpy(into, &c, n);
    more = CMSG_ALIGN(length) > n ? CMSG_ALIGN(length) - n : 0;
    if (more > room - n) more = room - n;
    take(in, into + n, more);
    return n + more;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    input in = {data, size};
    size_t length = take8(&in) % 129, done = 0;
    unsigned char *control = malloc(length ? length : 1);
    struct msghdr m = {.msg_control = control, .msg_controllen = length};
    nm_udp_notes notes;
    CHECK(control != NULL);
    if (take8(&in) & 1)
        take(&in, control, length);
    else
        while (done < length) done += message(control + done, length - done, &in);
    notes = nm_udp_read_control(&m);
    CHECK(!notes.stamped || notes.arrival_ns >= 0);
    CHECK(notes.segment_bytes <= INT32_MAX);
    free(control);
    return 0;
}
