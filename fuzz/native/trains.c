/* A train is counted as its datagrams one by one are: whatever numbers and stamps they carry, all counts, the
 * window of numbers and what is remembered of the last datagram are the same in the end. */
#include "input.h"

#include "nm_udp_receive.h"

enum { SEGMENT = 20, MOST = 40 };

/* Writes a datagram that mostly continues the one before it. Returns its length. */
static uint64_t datagram(unsigned char *p, input *in, int wide, uint64_t *number, int64_t *stamp) {
    uint8_t how = take8(in);
    memset(p, 0, SEGMENT);
    *number += 1;
    if ((how & 15) == 1) *number += take8(in);
    if ((how & 15) == 2) *number -= take8(in);
    if ((how & 15) == 3) *number = take_any(in) >> (how >> 4);
    if ((how & 15) == 4) *stamp = (int64_t)(take_any(in) >> 3);
    if ((how & 15) == 5) *stamp += 1000;
    nm_udp_write_header(p, *stamp, *number, wide);
    if ((how & 15) == 6) p[take8(in) % SEGMENT] ^= how;
    return (how & 15) == 7 ? take8(in) % SEGMENT : SEGMENT;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    static nm_udp_receiver together; /* takes trains */
    input in = {data, size};
    uint8_t mode = take8(&in);
    int wide = mode & 1;
    uint64_t window = UINT64_C(64) << (mode >> 4 & 3), number = 0;
    int64_t stamp = 0, now = 1000000000;
    nm_udp_account one;
    memset(&together, 0, sizeof together);
    together.coalescing = 1;
    together.buffer_bytes = 65536;
    CHECK(nm_udp_account_init(&together.account, wide, window) == 0);
    CHECK(nm_udp_account_init(&one, wide, window) == 0);
    while (in.left > 0) {
        /* as long as the train: a read beyond it ends the run */
        uint64_t count = 1 + take8(&in) % MOST, length = 0, done, part, i;
        unsigned char *train = malloc(count * SEGMENT);
        CHECK(train != NULL);
        for (i = 0; i < count && length == i * SEGMENT; i++)
            length += datagram(train + i * SEGMENT, &in, wide, &number, &stamp);
        train = realloc(train, length ? length : 1);
        CHECK(train != NULL);
        now += take16(&in);
        nm_udp_take_message(&together, train, length, SEGMENT, now);
        done = 0;
        do {
            part = length - done < SEGMENT ? length - done : SEGMENT;
            (void)nm_udp_count(&one, train + done, part, now, SEGMENT < length);
            done += part;
        } while (done < length);
        if (mode & 2 && !one.omit_over && in.left < size / 2) {
            nm_udp_omit(&together.account, now);
            nm_udp_omit(&one, now);
        }
        CHECK(memcmp(&together.account.now, &one.now, sizeof one.now) == 0);
        CHECK(memcmp(&together.account.omitted, &one.omitted, sizeof one.omitted) == 0);
        CHECK(memcmp(together.account.seen, one.seen, window / 8) == 0);
        CHECK(together.account.suspect == one.suspect);
        CHECK(together.account.last_sequence == one.last_sequence);
        CHECK(together.account.last_stamp == one.last_stamp);
        CHECK(together.account.last_transit == one.last_transit);
        free(train);
    }
    nm_udp_account_free(&together.account);
    nm_udp_account_free(&one);
    return 0;
}
