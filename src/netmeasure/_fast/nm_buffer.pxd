"""Declares nm_buffer.h: memory that the kernel copies into in bulk."""


cdef extern from "nm_buffer.h" nogil:
    void *nm_buffer_allocate(size_t size)
