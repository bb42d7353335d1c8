from netmeasure._fast.nm_group cimport nm_group
from netmeasure._fast.nm_series cimport nm_series
from netmeasure._fast.nm_stream cimport nm_stream


cdef tuple copy_series(nm_series *series)


cdef class Group:
    cdef nm_group shared


cdef class Stream:
    cdef nm_stream own
    cdef readonly Group group
    cdef readonly int fd

    cdef void enter(self) except *
    cdef void must_be_quiet(self) except *
