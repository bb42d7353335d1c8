"""Declares nm_small_files.h and nm_file_request.h."""

from libc.stdint cimport int64_t, uint32_t, uint64_t


cdef extern from "nm_file_request.h" nogil:
    ctypedef struct nm_file_request:
        uint32_t head_bytes
        uint32_t size
        int no_body

    int64_t nm_file_size(const char *path, size_t length)
    int nm_file_parse(const char *data, size_t size, uint32_t most, nm_file_request *r)


cdef extern from "nm_small_files.h" nogil:
    const size_t NM_FILES_HEAD_BYTES

    ctypedef struct nm_file_client:
        int fd

    ctypedef struct nm_small_files:
        const char *content
        uint32_t most
        const char *before
        const char *between
        const char *after
        uint32_t before_bytes
        uint32_t between_bytes
        uint32_t after_bytes
        int64_t idle_ns
        int64_t stall_ns
        int news
        uint32_t open
        uint64_t answered

    int nm_files_init(nm_small_files *s)
    int nm_files_add(nm_small_files *s, int fd)
    nm_file_client *nm_files_handed(nm_small_files *s)
    nm_file_client *nm_file_release(nm_small_files *s, nm_file_client *c)
    void nm_files_run(nm_small_files *s)
    void nm_files_stop(nm_small_files *s)
    void nm_files_close(nm_small_files *s)
    void nm_files_destroy(nm_small_files *s)
