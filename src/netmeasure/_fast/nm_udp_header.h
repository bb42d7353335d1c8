/* The header of a datagram, big-endian, as iperf3 writes it: seconds and microseconds (the sender's
 * CLOCK_MONOTONIC when it hands the datagram over), then a sequence number of 32 or 64 bits. The
 * first datagram is number 1. */
#ifndef NM_UDP_HEADER_H
#define NM_UDP_HEADER_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

#define NM_UDP_LARGEST 65507 /* payload of the largest datagram over IPv4 */

typedef struct {
    uint64_t sequence; /* all of its 64 bits, or the low 32 */
    uint64_t stamp_ns; /* of the sender's clock */
} nm_udp_header;

enum nm_udp_kind { NM_UDP_DATA, NM_UDP_HANDSHAKE, NM_UDP_MALFORMED };

static inline uint32_t nm_udp_header_bytes(int counters_64bit) { return counters_64bit ? 16 : 12; }

static inline void nm_udp_write_header(unsigned char *p, int64_t now, uint64_t sequence,
                                       int counters_64bit) {
    uint32_t word[3] = {htobe32((uint32_t)(now / 1000000000)),
                        htobe32((uint32_t)(now % 1000000000 / 1000)), htobe32((uint32_t)sequence)};
    if (counters_64bit) {
        uint64_t wide = htobe64(sequence);
        memcpy(p, word, 8);
        memcpy(p + 8, &wide, 8);
    } else {
        memcpy(p, word, 12);
    }
}

/* Reads the header of a datagram of `length` bytes and returns what kind of datagram it is: data, a
 * hello or an answer that came again, or none of the test's. Only for data is `h` filled in. */
static inline enum nm_udp_kind nm_udp_read_header(nm_udp_header *h, const unsigned char *p,
                                                  uint64_t length, int counters_64bit) {
    uint32_t word[3];
    if (length < nm_udp_header_bytes(counters_64bit)) {
        if (length == 4 && (memcmp(p, "9876", 4) == 0 || memcmp(p, "6789", 4) == 0))
            return NM_UDP_HANDSHAKE;
        return NM_UDP_MALFORMED;
    }
    memcpy(word, p, 12);
    if (be32toh(word[1]) >= 1000000) return NM_UDP_MALFORMED;
    h->stamp_ns = (uint64_t)be32toh(word[0]) * 1000000000 + (uint64_t)be32toh(word[1]) * 1000;
    if (counters_64bit) {
        memcpy(&h->sequence, p + 8, 8);
        h->sequence = be64toh(h->sequence);
    } else {
        h->sequence = be32toh(word[2]);
    }
    return NM_UDP_DATA;
}

/* Returns the number nearest to `near` that ends in the low 32 bits of `low`. It may be negative as a
 * signed number: then there is none. */
static inline uint64_t nm_udp_unwrap(uint64_t low, uint64_t near) {
    return near + (uint64_t)(int64_t)(int32_t)((uint32_t)low - (uint32_t)near);
}

#endif
