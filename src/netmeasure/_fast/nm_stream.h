/* A stream: the counts of one socket's thread, and how its loop ended. */
#ifndef NM_STREAM_H
#define NM_STREAM_H

#include <stdint.h>

#include "nm_atomic.h"
#include "nm_clock.h"
#include "nm_group.h"
#include "nm_samples.h"
#include "nm_series.h"
#include "nm_thread.h"

enum nm_reason { /* why a traffic thread left its loop; the names are in worker.pyx */
    NM_NOT_STARTED = 0,
    NM_RUNNING,
    NM_DEADLINE,
    NM_BUDGET,
    NM_STOPPED,
    NM_ABORTED,
    NM_EOF,
    NM_ERROR
};

enum nm_life { NM_IDLE = 0, NM_ALIVE, NM_ENDED };

typedef struct {
    char line[64];  /* keeps other objects off the cache line of the counters */
    uint64_t bytes; /* sender: taken by the kernel; receiver: read */
    uint64_t acked; /* sender: acknowledged by the peer's kernel */
    uint64_t calls;
    int64_t first_ns; /* sender: before the first call; receiver: after the first bytes; 0: none */
    int64_t last_ns;  /* sender: when the last acknowledgement was seen; receiver: last bytes */
    int64_t ended_ns; /* when the loop stopped moving bytes */
    uint32_t reason;
    int32_t error; /* errno, with NM_ERROR */
    uint32_t life; /* enum nm_life: one thread, once */
    int64_t user_ns, system_ns; /* CPU time of the thread, once it has left */
    nm_series series;
    nm_sampling sampling;
    nm_sample *sample;
} nm_stream;

/* Claims the stream for the calling thread. Returns 0 where another thread has had it: two writers
 * would break every rule of nm_atomic.h. */
static inline int nm_stream_enter(nm_stream *s) {
    uint32_t idle = NM_IDLE;
    return __atomic_compare_exchange_n(&s->life, &idle, NM_ALIVE, 0, __ATOMIC_ACQ_REL,
                                       __ATOMIC_RELAXED);
}

/* Publishes all that the thread has written: a thread that sees nm_stream_quiet() may
 * read the samples. `streams`: how many share the thread; each has an equal part of its CPU time. */
static inline void nm_stream_leave_shared(nm_stream *s, uint32_t streams) {
    int64_t user_ns, system_ns;
    if (nm_thread_cpu(&user_ns, &system_ns) == 0) {
        NM_STORE(&s->user_ns, user_ns / streams);
        NM_STORE(&s->system_ns, system_ns / streams);
    }
    NM_RELEASE(&s->life, NM_ENDED);
}

/* Publishes all that the thread has written for its only stream. */
static inline void nm_stream_leave(nm_stream *s) { nm_stream_leave_shared(s, 1); }

/* Returns whether no thread writes any more: the loop has ended, or never began. */
static inline int nm_stream_quiet(const nm_stream *s) { return NM_ACQUIRE(&s->life) != NM_ALIVE; }

static inline void nm_stream_reason(nm_stream *s, uint32_t reason) { NM_STORE(&s->reason, reason); }

static inline void nm_stream_failed(nm_stream *s, int32_t code) {
    NM_STORE(&s->error, code);
    nm_stream_reason(s, NM_ERROR);
}

/* Notes a call that failed. An error after an order to leave is not an error, but its effect. */
static inline void nm_stream_broken(nm_stream *s, const nm_group *g, int32_t code) {
    if (nm_aborting(g))
        nm_stream_reason(s, NM_ABORTED);
    else
        nm_stream_failed(s, code);
}

/* Counts bytes that were read, or left the socket, at a moment. `edge`: see nm_series_beside(). */
static inline void nm_stream_count(nm_stream *s, int64_t now, uint64_t n, int64_t edge) {
    nm_series_add(&s->series, nm_series_beside(&s->series, now, edge), n);
    NM_ADD(&s->bytes, n);
    if (now > s->last_ns) NM_STORE(&s->last_ns, now);
}

/* Takes a sample when one is due. `fd` < 0: of the thread alone. */
static inline void nm_stream_sample(nm_stream *s, int fd, int64_t now) {
    if (now >= s->sampling.due_ns) nm_sample_take(&s->sampling, s->sample, fd, now);
}

/* Returns count * payload / whole, rounded down, without overflow; `whole` is at least `payload`. */
static inline uint64_t nm_share(uint64_t count, uint64_t payload, uint64_t whole) {
    return (uint64_t)((unsigned __int128)count * payload / whole);
}

#endif
