"""Declares nm_group.h."""

from libc.stdint cimport int64_t, uint64_t


cdef extern from "nm_group.h" nogil:
    ctypedef struct nm_group:
        uint64_t budget

    void nm_group_init(nm_group *g, uint64_t budget)
    bint nm_stopping(const nm_group *g)
    bint nm_aborting(const nm_group *g)
    int64_t nm_gate_wait(nm_group *g)
    int64_t nm_gate_open(nm_group *g, int64_t now)
    int64_t nm_gate_opened(const nm_group *g)
    void nm_stop(nm_group *g)
    void nm_abort(nm_group *g)
    int64_t nm_group_count_from(nm_group *g, int64_t now)
    uint64_t nm_budget_left(const nm_group *g)
    uint64_t nm_claim(nm_group *g, uint64_t want)
