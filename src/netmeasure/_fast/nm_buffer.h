/* Memory that the kernel copies into in bulk, and memory of which a run uses only the beginning. */
#ifndef NM_BUFFER_H
#define NM_BUFFER_H

#include <stdlib.h>
#include <sys/mman.h>

#define NM_PAGE_BYTES 4096

#ifdef __SANITIZE_ADDRESS__ /* gcc's name, which clang did not have for long */
#define NM_ADDRESS_SANITIZER
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define NM_ADDRESS_SANITIZER
#endif
#endif

/* Returns memory for free(), or NULL where memory is short. Its content is undefined.
 *
 * It begins at a page. malloc() puts a large block 16 bytes after one, and there the copy instruction
 * of an AMD EPYC (rep movsb from a page of the kernel) takes two to three times as long:
 * `python -m benchmarks.bench_alignment`. */
static inline void *nm_buffer_allocate(size_t size) {
    void *made = NULL;
    return posix_memalign(&made, NM_PAGE_BYTES, size) == 0 ? made : NULL;
}

/* Returns zeros for nm_sparse_free(), or NULL where memory is short. Pages that are never written take
 * no memory: calloc() writes to all of them where it has them left from before, which cost each stream
 * of a test 150 KiB. */
static inline void *nm_sparse_allocate(size_t size) {
#ifdef NM_ADDRESS_SANITIZER /* which sees only writes beyond the end of its own blocks */
    return calloc(1, size);
#else
    void *made =
        mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return made == MAP_FAILED ? NULL : made;
#endif
}

static inline void nm_sparse_free(void *made, size_t size) {
#ifdef NM_ADDRESS_SANITIZER
    (void)size;
    free(made);
#else
    if (made != NULL) munmap(made, size);
#endif
}

#endif
