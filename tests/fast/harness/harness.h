/* What the scenarios of the harness share.
 *
 * Everything that threads share here is read and written with atomic operations or under a mutex, so
 * that whatever a race detector reports is a fault of the headers, not of the harness.
 */
#ifndef HARNESS_H
#define HARNESS_H

#define _GNU_SOURCE /* RUSAGE_THREAD; Python.h defines it for the real modules */
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CHECK(condition)                                                                      \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "%s:%d: failed: %s\n", __FILE__, __LINE__, #condition);           \
            exit(1);                                                                          \
        }                                                                                     \
    } while (0)

#define ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)

static inline pthread_t start(void *(*work)(void *), void *argument) {
    pthread_t thread;
    CHECK(pthread_create(&thread, NULL, work, argument) == 0);
    return thread;
}

static inline uint64_t sum_of(const uint64_t *values, uint32_t count) {
    uint64_t sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += values[i];
    return sum;
}

void scenario_merges(uint32_t rounds);
void scenario_starts(uint32_t rounds);
void scenario_moments(uint32_t rounds);
void scenario_budget(uint32_t rounds);
void scenario_gate(uint32_t rounds);
void scenario_samples(uint32_t rounds);
void scenario_stream(uint32_t rounds);
void scenario_datagrams(uint32_t rounds);
void scenario_pace(uint32_t rounds);
void scenario_histogram(uint32_t rounds);
void scenario_round_trips(uint32_t rounds);
void scenario_shared_trips(uint32_t rounds);
void scenario_datagram_trips(uint32_t rounds);
void scenario_probe(uint32_t rounds);
void scenario_requests(uint32_t rounds);
void scenario_fresh(uint32_t rounds);
void scenario_files(uint32_t rounds);
void scenario_watch(uint32_t rounds);

#endif
