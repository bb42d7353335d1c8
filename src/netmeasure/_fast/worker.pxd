from netmeasure._fast.native cimport nm_group, nm_series, nm_stream


cdef tuple copy_series(nm_series *series)


cdef class Group:
    cdef nm_group shared


cdef class Stream:
    cdef nm_stream own
    cdef readonly Group group
    cdef readonly int fd
