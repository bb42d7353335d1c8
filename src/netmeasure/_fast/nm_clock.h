/* The clock of all moments: CLOCK_MONOTONIC, in nanoseconds. */
#ifndef NM_CLOCK_H
#define NM_CLOCK_H

#include <stdint.h>
#include <time.h>

#define NM_SECOND_NS INT64_C(1000000000)

static inline int64_t nm_now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t); /* can't fail: the clock is known and `t` is ours */
    return (int64_t)t.tv_sec * NM_SECOND_NS + t.tv_nsec;
}

/* Returns a + b, held within the range of the type: moments may come from a caller. */
static inline int64_t nm_add_ns(int64_t a, int64_t b) {
    int64_t sum;
    if (!__builtin_add_overflow(a, b, &sum)) return sum;
    return b > 0 ? INT64_MAX : INT64_MIN;
}

/* Sleeps for about `duration_ns`. A signal may end the sleep early: callers look at the clock. */
static inline void nm_sleep(int64_t duration_ns) {
    struct timespec t = {duration_ns / NM_SECOND_NS, duration_ns % NM_SECOND_NS};
    if (duration_ns > 0) (void)nanosleep(&t, NULL);
}

/* Sleeps until `moment`, the last `spin_ns` of it awake. Returns the time at the end. */
static inline int64_t nm_sleep_until(int64_t moment, int64_t spin_ns) {
    int64_t until = nm_add_ns(moment, -spin_ns), now = nm_now();
    if (until > now) {
        struct timespec t = {until / NM_SECOND_NS, until % NM_SECOND_NS};
        (void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL);
        now = nm_now();
    }
    if (spin_ns > 0)
        while (now < moment) now = nm_now();
    return now;
}

#endif
