"""Declares nm_clock.h and nm_thread.h."""

from libc.stdint cimport int64_t


cdef extern from "nm_clock.h" nogil:
    int64_t nm_now()
    int64_t nm_add_ns(int64_t a, int64_t b)
    void nm_sleep(int64_t duration_ns)
    int64_t nm_sleep_until(int64_t moment, int64_t spin_ns)

cdef extern from "nm_thread.h" nogil:
    long nm_timer_slack(long slack_ns)
