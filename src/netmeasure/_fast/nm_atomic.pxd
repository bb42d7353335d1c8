"""Declares nm_atomic.h. The macros take any integer; each name below is one type of it."""

from libc.stdint cimport int32_t, int64_t, uint32_t, uint64_t


cdef extern from "nm_atomic.h" nogil:
    uint64_t nm_load_u64 "NM_LOAD"(const uint64_t *p)
    int64_t nm_load_i64 "NM_LOAD"(const int64_t *p)
    uint32_t nm_load_u32 "NM_LOAD"(const uint32_t *p)
    int32_t nm_load_i32 "NM_LOAD"(const int32_t *p)
    void nm_store_u64 "NM_STORE"(uint64_t *p, uint64_t v)
    void nm_store_i64 "NM_STORE"(int64_t *p, int64_t v)
    void nm_store_u32 "NM_STORE"(uint32_t *p, uint32_t v)
    void nm_store_i32 "NM_STORE"(int32_t *p, int32_t v)
    void nm_add_u64 "NM_ADD"(uint64_t *p, uint64_t n)
