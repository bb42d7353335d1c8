/* Samples of a run: a bounded list of times and of the kernel's figures at these times.
 *
 * When the list is full, every second sample is dropped and the interval doubles. The stream's
 * thread writes; other threads read after the loop has ended.
 */
#ifndef NM_SAMPLES_H
#define NM_SAMPLES_H

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>

#include "nm_clock.h"
#include "nm_thread.h"

#define NM_SAMPLES 256        /* room; even */
#define NM_TCP_INFO_BYTES 256 /* room for every field we read; newer kernels return more */

/* When the next sample is due, and where it goes. */
typedef struct {
    uint32_t used;
    int64_t every_ns;
    int64_t due_ns;
} nm_sampling;

typedef struct {
    int64_t at_ns;
    int64_t cpu_ns;  /* CPU time of the thread until then; -1: it is another stream's, too */
    int64_t wait_ns; /* time until then in which it was ready and had no CPU; -1: not known */
    uint32_t length; /* bytes that the kernel filled in; fields past it are unknown; 0: no TCP */
    unsigned char raw[NM_TCP_INFO_BYTES];
} nm_sample;

/* Returns the place of the next sample in `room`, whose items are `size` bytes long, and counts it. */
static inline void *nm_sampling_next(nm_sampling *s, void *room, size_t size, int64_t now) {
    unsigned char *base = room;
    uint32_t kept;
    if (s->used >= NM_SAMPLES) {
        for (kept = 1; kept < NM_SAMPLES / 2; kept++)
            memcpy(base + kept * size, base + 2 * kept * size, size);
        s->used = NM_SAMPLES / 2;
        s->every_ns = nm_add_ns(s->every_ns, s->every_ns);
    }
    s->due_ns = nm_add_ns(now, s->every_ns);
    return base + s->used++ * size;
}

/* Writes down what the kernel says of the connection (fd < 0: none). Returns the sample. */
static inline nm_sample *nm_sample_socket(nm_sampling *s, nm_sample *room, int fd, int64_t now) {
    nm_sample *one = nm_sampling_next(s, room, sizeof *room, now);
    socklen_t length = NM_TCP_INFO_BYTES;
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, one->raw, &length) != 0) length = 0;
    one->length = length < NM_TCP_INFO_BYTES ? length : NM_TCP_INFO_BYTES;
    one->at_ns = now;
    one->cpu_ns = one->wait_ns = -1;
    return one;
}

/* Writes down what the kernel says of the connection (fd < 0: none) and of the calling thread. */
static inline void nm_sample_take(nm_sampling *s, nm_sample *room, int fd, int64_t now) {
    nm_sample *one = nm_sample_socket(s, room, fd, now);
    one->cpu_ns = nm_thread_ran();
    one->wait_ns = nm_thread_waited();
}

#endif
