/* The kernel's figures of the calling thread: CPU time, waits for a CPU, timer slack. */
#ifndef NM_THREAD_H
#define NM_THREAD_H

#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

/* Returns the time (ns) for which this thread was ready to run and had no CPU; -1 where the kernel
 * does not say. It is the second field of schedstat (Linux, Documentation/scheduler/sched-stats.rst)
 * and includes the waits that the group's CPU quota causes. */
static inline int64_t nm_thread_waited(void) {
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

/* Returns the CPU time (ns) of this thread so far; 0 where the kernel does not say. */
static inline int64_t nm_thread_ran(void) {
    struct timespec t;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t) != 0) return 0;
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Stores the user and the system CPU time (ns) of this thread. Returns -1, and stores nothing, where
 * the kernel does not say. */
static inline int nm_thread_cpu(int64_t *user_ns, int64_t *system_ns) {
    struct rusage r;
    if (getrusage(RUSAGE_THREAD, &r) != 0) return -1;
    *user_ns = (int64_t)r.ru_utime.tv_sec * 1000000000 + (int64_t)r.ru_utime.tv_usec * 1000;
    *system_ns = (int64_t)r.ru_stime.tv_sec * 1000000000 + (int64_t)r.ru_stime.tv_usec * 1000;
    return 0;
}

/* Sets the timer slack of this thread: how late the kernel may wake it to save wake-ups, 50 us by
 * default. Returns the slack before, or -1 where it could not be read and stays as it is. */
static inline long nm_timer_slack(long slack_ns) {
    long before = prctl(PR_GET_TIMERSLACK, 0, 0, 0, 0);
    if (before <= 0 || slack_ns <= 0) return -1;
    return prctl(PR_SET_TIMERSLACK, slack_ns, 0, 0, 0) == 0 ? before : -1;
}

#endif
