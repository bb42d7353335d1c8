"""Declares nm_watch.h."""

from libc.stdint cimport int64_t, uint32_t


cdef extern from "nm_watch.h" nogil:
    ctypedef struct nm_watched:
        int fd
        uint32_t count
        int64_t *arrived_ns
        int64_t *taken_ns
    ctypedef struct nm_watcher:
        pass

    const int64_t NM_WATCH_STRETCHES

    void nm_stamp_arrivals(int fd, int on)
    int64_t nm_await_bytes(int fd, int wait_ms)
    int nm_watcher_init(nm_watcher *w)
    void nm_watcher_close(nm_watcher *w)
    void nm_watcher_destroy(nm_watcher *w)
    void nm_watcher_run(nm_watcher *w)
    void nm_watcher_stop(nm_watcher *w)
    int nm_watch_add(nm_watcher *w, nm_watched *one, int fd)
    void nm_watch_forget(nm_watched *one)
    void nm_watch_remove(nm_watcher *w, nm_watched *one)
    void nm_watch_lock(nm_watcher *w)
    void nm_watch_unlock(nm_watcher *w)
    void nm_watch_now(nm_watched *one)
