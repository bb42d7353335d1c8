/* Takes numbers and bytes from a fuzzer's input; after its end all are zero. */
#ifndef FUZZ_INPUT_H
#define FUZZ_INPUT_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* recvmmsg(); Python.h defines it for the real modules */
#endif
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);           \
            abort();                                                                          \
        }                                                                                     \
    } while (0)

/* Bytes beyond what a message holds must not be read; with a sanitizer, reading them ends the run. */
#if defined(__SANITIZE_ADDRESS__)
#define POISONS 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define POISONS 1
#endif
#endif
#ifdef POISONS
#include <sanitizer/asan_interface.h>
#define POISON(p, n) ASAN_POISON_MEMORY_REGION((p), (n))
#define UNPOISON(p, n) ASAN_UNPOISON_MEMORY_REGION((p), (n))
#else
#define POISON(p, n) ((void)(p), (void)(n))
#define UNPOISON(p, n) ((void)(p), (void)(n))
#endif

typedef struct {
    const uint8_t *at;
    size_t left;
} input;

static inline size_t take(input *in, void *into, size_t want) {
    size_t n = want < in->left ? want : in->left;
    memset(into, 0, want);
    memcpy(into, in->at, n);
    in->at += n;
    in->left -= n;
    return n;
}

static inline uint8_t take8(input *in) {
    uint8_t value;
    take(in, &value, sizeof value);
    return value;
}
static inline uint16_t take16(input *in) {
    uint16_t value;
    take(in, &value, sizeof value);
    return value;
}
static inline uint64_t take64(input *in) {
    uint64_t value;
    take(in, &value, sizeof value);
    return value;
}

/* Takes a number whose size the first byte chooses: small, medium and extreme ones are equally likely. */
static inline uint64_t take_any(input *in) {
    uint8_t width = take8(in);
    uint64_t value = 0;
    take(in, &value, width % 9);
    return width & 0x80 ? ~value : value;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#endif
