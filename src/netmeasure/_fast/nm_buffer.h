/* Memory that the kernel copies into in bulk. */
#ifndef NM_BUFFER_H
#define NM_BUFFER_H

#include <stdlib.h>

#define NM_PAGE_BYTES 4096

/* Returns memory for free(), or NULL where memory is short. Its content is undefined.
 *
 * It begins at a page. malloc() puts a large block 16 bytes after one, and there the copy instruction
 * of an AMD EPYC (rep movsb from a page of the kernel) takes two to three times as long:
 * `python -m benchmarks.bench_alignment`. */
static inline void *nm_buffer_allocate(size_t size) {
    void *made = NULL;
    return posix_memalign(&made, NM_PAGE_BYTES, size) == 0 ? made : NULL;
}

#endif
