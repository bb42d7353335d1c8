from netmeasure._fast.nm_histogram cimport nm_histogram


cdef class Histogram:
    cdef nm_histogram *own
