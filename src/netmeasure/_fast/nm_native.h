/* What a traffic thread shares with the rest of the program: its counters, its time series, its
 * kernel samples, and the group (gate, stop, abort, byte budget) it belongs to.
 *
 * Rules. Every datum has one writer, the stream's own thread, and any number of readers, so a plain
 * load + store with relaxed order is enough (no locked instruction on the hot path). The one
 * exception is the byte budget, which all threads of a group draw from. Counters only grow;
 * intervals and omit periods are differences taken by the readers.
 */
#ifndef NM_NATIVE_H
#define NM_NATIVE_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <netinet/tcp.h>

#ifdef NETMEASURE_DEBUG
#include <stdlib.h>
#define nm_assert(condition)                                                                  \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: nm_assert(%s)\n", __FILE__, __LINE__, #condition);        \
            abort();                                                                          \
        }                                                                                     \
    } while (0)
#else
#define nm_assert(condition) ((void)0)
#endif

#define NM_LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define NM_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define NM_TCP_INFO_BYTES 256 /* room for every field we read; newer kernels return more */
#define NM_SAMPLES 256

/* ---- clock -------------------------------------------------------------------------------- */

static inline int64_t nm_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static inline void nm_sleep(int64_t duration_ns) {
    struct timespec t = {duration_ns / 1000000000, duration_ns % 1000000000};
    nanosleep(&t, NULL);
}

/* ---- group: what the threads of one run share ------------------------------------------------ */

typedef struct {
    uint64_t claimed; /* bytes of the budget handed out so far: the one datum of many writers */
    uint64_t budget;                               /* 0: no limit */
    char line[64];                                 /* so the flags are on another cache line */
    uint32_t stop;                                 /* finish cleanly: sender drains, receiver empties */
    uint32_t abort;                                /* leave at once */
    pthread_mutex_t mutex;
    pthread_cond_t opened;
    int64_t opened_ns; /* under the mutex; 0: the gate is shut */
} nm_group;

static inline void nm_group_init(nm_group *g) {
    memset(g, 0, sizeof *g);
    pthread_mutex_init(&g->mutex, NULL);
    pthread_cond_init(&g->opened, NULL);
}

static inline void nm_group_destroy(nm_group *g) {
    pthread_cond_destroy(&g->opened);
    pthread_mutex_destroy(&g->mutex);
}

static inline int nm_stopping(nm_group *g) { return NM_LOAD(&g->stop) != 0; }
static inline int nm_aborting(nm_group *g) { return NM_LOAD(&g->abort) != 0; }

static inline int64_t nm_gate_wait(nm_group *g) {
    pthread_mutex_lock(&g->mutex);
    while (g->opened_ns == 0 && !nm_stopping(g) && !nm_aborting(g))
        pthread_cond_wait(&g->opened, &g->mutex);
    int64_t at = g->opened_ns;
    pthread_mutex_unlock(&g->mutex);
    return at; /* 0: stopped before it opened */
}

static inline void nm_gate_open(nm_group *g, int64_t now) {
    pthread_mutex_lock(&g->mutex);
    if (g->opened_ns == 0) g->opened_ns = now;
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->mutex);
}

static inline void nm_raise(nm_group *g, uint32_t *flag) {
    pthread_mutex_lock(&g->mutex);
    NM_STORE(flag, 1);
    pthread_cond_broadcast(&g->opened);
    pthread_mutex_unlock(&g->mutex);
}
static inline void nm_stop(nm_group *g) { nm_raise(g, &g->stop); }
static inline void nm_abort(nm_group *g) { nm_raise(g, &g->abort); }

/* Takes up to `want` bytes from the budget; 0 when it is spent. */
static inline uint64_t nm_claim(nm_group *g, uint64_t want) {
    uint64_t before;
    if (g->budget == 0) return want;
    before = __atomic_fetch_add(&g->claimed, want, __ATOMIC_RELAXED);
    if (before >= g->budget) return 0;
    return before + want <= g->budget ? want : g->budget - before;
}

/* ---- time series: bytes per bucket, kept by the counting thread itself ------------------------
 * Memory is bounded however long the run: when the buckets are used up, neighbours are merged and
 * the width doubles. Readers copy under a sequence lock, so they never see half a merge. */

typedef struct {
    uint64_t *bucket;
    uint32_t capacity; /* even */
    uint32_t used;
    uint32_t sequence; /* odd while a merge is going on */
    int64_t origin_ns; /* start of bucket 0; 0: nothing counted yet */
    int64_t width_ns;
} nm_series;

static inline void nm_series_merge(nm_series *s) {
    uint32_t half = s->capacity / 2, i;
    __atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELAXED);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    for (i = 0; i < half; i++)
        NM_STORE(&s->bucket[i], NM_LOAD(&s->bucket[2 * i]) + NM_LOAD(&s->bucket[2 * i + 1]));
    for (i = half; i < s->capacity; i++) NM_STORE(&s->bucket[i], 0);
    NM_STORE(&s->used, (s->used + 1) / 2);
    NM_STORE(&s->width_ns, s->width_ns * 2);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    __atomic_store_n(&s->sequence, s->sequence + 1, __ATOMIC_RELEASE);
}

static inline void nm_series_start(nm_series *s, int64_t origin_ns) {
    __atomic_store_n(&s->origin_ns, origin_ns, __ATOMIC_RELEASE);
}

static inline void nm_series_add(nm_series *s, int64_t now, uint64_t n) {
    int64_t i = (now - s->origin_ns) / s->width_ns;
    nm_assert(s->origin_ns != 0 && now >= s->origin_ns);
    while (i >= s->capacity) {
        nm_series_merge(s);
        i = (now - s->origin_ns) / s->width_ns;
    }
    NM_STORE(&s->bucket[i], NM_LOAD(&s->bucket[i]) + n);
    if (i >= s->used) NM_STORE(&s->used, (uint32_t)(i + 1));
}

/* Copies the series into `into` (room for `capacity`); returns the number of buckets. */
static inline uint32_t nm_series_read(nm_series *s, uint64_t *into, int64_t *origin, int64_t *width) {
    uint32_t before, used, i;
    for (;;) {
        before = __atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE);
        if (before & 1) continue;
        *origin = __atomic_load_n(&s->origin_ns, __ATOMIC_ACQUIRE);
        *width = NM_LOAD(&s->width_ns);
        used = NM_LOAD(&s->used);
        if (*origin == 0) used = 0; /* the first bytes came between the two loads */
        for (i = 0; i < used; i++) into[i] = NM_LOAD(&s->bucket[i]);
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&s->sequence, __ATOMIC_RELAXED) == before) return used;
    }
}

/* Bytes counted until a moment; within the moment's bucket they are taken as evenly spread. */
static inline uint64_t nm_series_until(nm_series *s, int64_t moment) {
    uint32_t before, used, i, full;
    uint64_t sum;
    int64_t into, width;
    for (;;) {
        before = __atomic_load_n(&s->sequence, __ATOMIC_ACQUIRE);
        if (before & 1) continue;
        into = moment - __atomic_load_n(&s->origin_ns, __ATOMIC_ACQUIRE);
        width = NM_LOAD(&s->width_ns);
        used = NM_LOAD(&s->used);
        sum = 0;
        if (into > 0 && into < moment) { /* into == moment: no origin yet */
            full = into / width < used ? (uint32_t)(into / width) : used;
            for (i = 0; i < full; i++) sum += NM_LOAD(&s->bucket[i]);
            if (full < used)
                sum += (uint64_t)((double)NM_LOAD(&s->bucket[full]) * (into % width) / width);
        }
        __atomic_thread_fence(__ATOMIC_ACQUIRE);
        if (__atomic_load_n(&s->sequence, __ATOMIC_RELAXED) == before) return sum;
    }
}

/* ---- one stream ------------------------------------------------------------------------------ */

enum nm_reason { /* why a traffic thread left its loop; names in worker.pyx */
    NM_NOT_STARTED = 0,
    NM_RUNNING,
    NM_DEADLINE,
    NM_BUDGET,
    NM_STOPPED,
    NM_ABORTED,
    NM_EOF,
    NM_ERROR
};

typedef struct {
    int64_t at_ns;
    int64_t cpu_ns;  /* the thread's, until then */
    int64_t wait_ns; /* it was ready to run and had no CPU; -1: the kernel does not say */
    uint32_t length; /* what the kernel said it filled; fields past it are unknown; 0: no TCP */
    unsigned char raw[NM_TCP_INFO_BYTES];
} nm_sample;

typedef struct {
    char line[64];  /* no other object on the cache line of the counters */
    uint64_t bytes; /* sender: taken by the kernel; receiver: read */
    uint64_t acked;                              /* sender: acknowledged by the peer's kernel */
    uint64_t calls;
    int64_t first_ns; /* sender: before the first call; receiver: after the first bytes; 0: none */
    int64_t last_ns;  /* sender: when the last acknowledgement was seen; receiver: last bytes */
    uint32_t reason;
    int32_t error; /* errno, with NM_ERROR */
    int64_t user_ns, system_ns; /* CPU time of the thread, once it has left */
    int64_t ended_ns;           /* sender: when it stopped writing */
    nm_series series;
    nm_sample *sample;
    uint32_t samples;
    int64_t sample_every_ns, sample_due_ns;
} nm_stream;

/* How long this thread has been kept from a CPU by others, its group's quota included: the second
 * field of schedstat (Linux, Documentation/scheduler/sched-stats.rst). */
static inline int64_t nm_thread_wait(void) {
    char text[64];
    long long ran, waited;
    ssize_t n;
    int fd = open("/proc/thread-self/schedstat", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -1;
    n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return -1;
    text[n] = 0;
    return sscanf(text, "%lld %lld", &ran, &waited) == 2 ? waited : -1;
}

static inline int64_t nm_thread_ran(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* The place of the next sample. When the room is used up, every second one is kept, and half as
 * many are taken from then on. */
static inline nm_sample *nm_sample_next(nm_stream *s) {
    uint32_t i, kept;
    if (s->samples == NM_SAMPLES) {
        for (i = 1, kept = 1; i + 1 < NM_SAMPLES; i += 2, kept++) s->sample[kept] = s->sample[i + 1];
        NM_STORE(&s->samples, kept);
        s->sample_every_ns *= 2;
    }
    return &s->sample[s->samples];
}

/* What the kernel says of the connection and of the calling thread. */
static inline void nm_sample_take(nm_stream *s, int fd, int64_t now) {
    nm_sample *one = nm_sample_next(s);
    socklen_t length = NM_TCP_INFO_BYTES;
    if (fd < 0 || getsockopt(fd, IPPROTO_TCP, TCP_INFO, one->raw, &length) != 0) length = 0;
    one->length = length < NM_TCP_INFO_BYTES ? length : NM_TCP_INFO_BYTES;
    one->at_ns = now;
    one->cpu_ns = nm_thread_ran();
    one->wait_ns = nm_thread_wait();
    __atomic_store_n(&s->samples, s->samples + 1, __ATOMIC_RELEASE);
    s->sample_due_ns = now + s->sample_every_ns;
}

static inline void nm_thread_cpu(nm_stream *s) {
    struct rusage r;
    if (getrusage(RUSAGE_THREAD, &r) != 0) return;
    s->user_ns = (int64_t)r.ru_utime.tv_sec * 1000000000 + (int64_t)r.ru_utime.tv_usec * 1000;
    s->system_ns = (int64_t)r.ru_stime.tv_sec * 1000000000 + (int64_t)r.ru_stime.tv_usec * 1000;
}

static inline void nm_timeout(int fd, int option, int64_t duration_ns) {
    struct timeval t;
    if (duration_ns < 1000000) duration_ns = 1000000;
    t.tv_sec = duration_ns / 1000000000;
    t.tv_usec = (duration_ns % 1000000000) / 1000;
    setsockopt(fd, SOL_SOCKET, option, &t, sizeof t);
}

static inline int64_t nm_unacknowledged(int fd) {
    int n = 0;
    return ioctl(fd, SIOCOUTQ, &n) == 0 ? n : -1;
}

static inline int64_t nm_unread(int fd) {
    int n = 0;
    return ioctl(fd, SIOCINQ, &n) == 0 ? n : 0;
}

/* The errno of a connection that is gone (reset, timed out); 0 while it lives. */
static inline int32_t nm_gone(int fd) {
    unsigned char state = 0; /* tcpi_state, the first byte of TCP_INFO */
    int code = 0;
    socklen_t length = sizeof state;
    if (getsockopt(fd, IPPROTO_TCP, TCP_INFO, &state, &length) != 0 || state != TCP_CLOSE) return 0;
    length = sizeof code;
    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &length);
    return code ? code : ECONNRESET;
}

/* sendfile() applies SO_SNDTIMEO to each 64 KiB anew, so one call could block for seconds: it gets
 * a non-blocking socket, and the wait is ours. */
static inline void nm_set_nonblocking(int fd) {
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}
static inline void nm_wait_writable(int fd, int64_t duration_ns) {
    struct pollfd p = {fd, POLLOUT, 0};
    poll(&p, 1, duration_ns < 1000000 ? 1 : (int)(duration_ns / 1000000));
}

#endif
