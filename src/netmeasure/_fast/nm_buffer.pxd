"""Declares nm_buffer.h: memory for blocks of data, and for figures that grow with a run."""


cdef extern from "nm_buffer.h" nogil:
    void *nm_buffer_allocate(size_t size)
    void *nm_sparse_allocate(size_t size)
    void nm_sparse_free(void *made, size_t size)
