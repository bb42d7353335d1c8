"""Declares nm_tls.h."""


cdef extern from "nm_tls.h" nogil:
    ctypedef struct nm_tls:
        const char *name
        int numeric
        int verifies
        const char *(*X509_verify_cert_error_string)(long)
        const char *(*ERR_reason_error_string)(unsigned long)

    int nm_tls_load(nm_tls *t)
    int nm_tls_open(nm_tls *t, const char *file, const char *folder)
    void nm_tls_close(nm_tls *t)
