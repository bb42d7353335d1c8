/* How a traffic thread shares its data with the rest of the program.
 *
 * Each datum has one writer, the stream's own thread, and any number of readers. A relaxed load and
 * a relaxed store are enough for that; the hot path needs no locked instruction. The byte budget of
 * a group is the only exception: all threads of the group take bytes from it. Counters only grow;
 * the readers compute intervals and omitted periods as differences.
 *
 * The release and acquire forms publish earlier writes: the end of a loop, a new sample.
 */
#ifndef NM_ATOMIC_H
#define NM_ATOMIC_H

#define NM_LOAD(p) __atomic_load_n((p), __ATOMIC_RELAXED)
#define NM_STORE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELAXED)
#define NM_ACQUIRE(p) __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define NM_RELEASE(p, v) __atomic_store_n((p), (v), __ATOMIC_RELEASE)
/* For the single writer of a counter. */
#define NM_ADD(p, n) NM_STORE((p), NM_LOAD(p) + (n))

#endif
