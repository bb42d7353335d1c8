/* Any bytes are data, a handshake or malformed; no byte after the header of data is read, and writing
 * the header that was read gives the same bytes. */
#include "input.h"

#include "nm_udp_header.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    nm_udp_header h = {0, 0};
    uint64_t length, near;
    unsigned char written[16], *bytes;
    int wide;
    if (size < 9) return 0;
    wide = data[0] & 1;
    memcpy(&near, data + 1, 8);
    data += 9, size -= 9;
    length = size < nm_udp_header_bytes(wide) || !(near & 1) ? size : size + 1000;
    bytes = malloc(size ? size : 1); /* the sanitizer detects reads beyond its end */
    CHECK(bytes != NULL);
    memcpy(bytes, data, size);
    switch (nm_udp_read_header(&h, bytes, length, wide)) {
    case NM_UDP_HANDSHAKE: CHECK(length == 4); break;
    case NM_UDP_MALFORMED: break;
    case NM_UDP_DATA:
        CHECK(length >= nm_udp_header_bytes(wide) && h.stamp_ns < UINT64_C(1) << 62);
        nm_udp_write_header(written, (int64_t)h.stamp_ns, h.sequence, wide);
        CHECK(memcmp(written, bytes, nm_udp_header_bytes(wide)) == 0);
        if (!wide) {
            near %= UINT64_C(1) << 62;
            h.sequence = nm_udp_unwrap(h.sequence, near);
            CHECK((uint32_t)h.sequence == be32toh(*(uint32_t *)(written + 8)));
            CHECK((int64_t)(h.sequence - near) >= -(INT64_C(1) << 31));
            CHECK((int64_t)(h.sequence - near) < INT64_C(1) << 31);
        }
    }
    free(bytes);
    return 0;
}
