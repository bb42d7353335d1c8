/* TLS at the client's end of non-blocking sockets, by the OpenSSL of this host: libssl is loaded when it is
 * needed, as the `ssl` module of most Pythons does at its import. So no header and no version of it is needed
 * to build, and a process without TLS does not load it. What is used is the same in 1.1.1 and 3. The numbers
 * below are those of openssl/ssl.h and openssl/tls1.h; they are a part of its binary interface.
 */
#ifndef NM_TLS_H
#define NM_TLS_H

#include <dlfcn.h>
#include <errno.h>
#include <stddef.h>
#include <sys/types.h>

enum { /* SSL_get_error(3) */
    NM_SSL_ERROR_SSL = 1,
    NM_SSL_ERROR_WANT_READ = 2,
    NM_SSL_ERROR_WANT_WRITE = 3,
    NM_SSL_ERROR_ZERO_RETURN = 6
};
enum {
    NM_SSL_VERIFY_PEER = 1,
    NM_SSL_CTRL_MODE = 33,
    NM_SSL_CTRL_SET_TLSEXT_HOSTNAME = 55,
    NM_SSL_CTRL_SET_MIN_PROTO_VERSION = 123,
    NM_TLS_1_2 = 0x0303,
    NM_SSL_MODES = 1 | 2 | 0x10 /* partial writes, from a buffer that moves; idle ones give memory back */
};

/* F(what it returns, name, parameters) */
#define NM_TLS_FUNCTIONS(F)                                                   \
    F(const void *, TLS_client_method, (void))                                \
    F(void *, SSL_CTX_new, (const void *))                                    \
    F(void, SSL_CTX_free, (void *))                                           \
    F(long, SSL_CTX_ctrl, (void *, int, long, void *))                        \
    F(void, SSL_CTX_set_verify, (void *, int, void *))                        \
    F(int, SSL_CTX_set_default_verify_paths, (void *))                        \
    F(int, SSL_CTX_load_verify_locations, (void *, const char *, const char *)) \
    F(int, SSL_CTX_set_alpn_protos, (void *, const unsigned char *, unsigned)) \
    F(void *, SSL_new, (void *))                                              \
    F(void, SSL_free, (void *))                                               \
    F(int, SSL_set_fd, (void *, int))                                         \
    F(long, SSL_ctrl, (void *, int, long, void *))                            \
    F(int, SSL_set1_host, (void *, const char *))                             \
    F(void *, SSL_get0_param, (void *))                                       \
    F(int, X509_VERIFY_PARAM_set1_ip_asc, (void *, const char *))             \
    F(int, SSL_connect, (void *))                                             \
    F(int, SSL_read, (void *, void *, int))                                   \
    F(int, SSL_write, (void *, const void *, int))                            \
    F(int, SSL_shutdown, (void *))                                            \
    F(int, SSL_get_error, (const void *, int))                                \
    F(long, SSL_get_verify_result, (const void *))                            \
    F(const char *, X509_verify_cert_error_string, (long))                    \
    F(void, ERR_clear_error, (void))                                          \
    F(unsigned long, ERR_peek_last_error, (void))                             \
    F(const char *, ERR_reason_error_string, (unsigned long))

typedef struct {
    void *library;
    void *context;    /* SSL_CTX: the threads of a test share it */
    const char *name; /* of the server, which its certificate must have; a text of the owner's */
    int numeric;      /* the name is an IP address */
    int verifies;
#define NM_TLS_DECLARE(type, function, parameters) type(*function) parameters;
    NM_TLS_FUNCTIONS(NM_TLS_DECLARE)
#undef NM_TLS_DECLARE
} nm_tls;

/* Loads the library. Returns 0, or -1 where this host has none, or one that lacks a function. */
static inline int nm_tls_load(nm_tls *t) {
    static const char *const names[] = {"libssl.so.3", "libssl.so.1.1", "libssl.so"};
    size_t i;
    for (i = 0; i < sizeof names / sizeof *names && !t->library; i++)
        t->library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!t->library) return -1;
#define NM_TLS_FIND(type, function, parameters)                               \
    *(void **)&t->function = dlsym(t->library, #function);                    \
    if (!t->function) return -1;
    NM_TLS_FUNCTIONS(NM_TLS_FIND)
#undef NM_TLS_FIND
    return 0;
}

/* Makes the context of a loaded library. It trusts the certificates of a file, or of a folder, or, without
 * both, those that OpenSSL was built for. Returns 0, or -1 where they can't be used. */
static inline int nm_tls_open(nm_tls *t, const char *file, const char *folder) {
    static const unsigned char http[] = "\x08http/1.1"; /* RFC 7301 */
    int trusted;
    t->ERR_clear_error();
    t->context = t->SSL_CTX_new(t->TLS_client_method());
    if (!t->context) return -1;
    (void)t->SSL_CTX_ctrl(t->context, NM_SSL_CTRL_SET_MIN_PROTO_VERSION, NM_TLS_1_2, NULL);
    (void)t->SSL_CTX_ctrl(t->context, NM_SSL_CTRL_MODE, NM_SSL_MODES, NULL);
    if (t->SSL_CTX_set_alpn_protos(t->context, http, sizeof http - 1) != 0) return -1;
    if (!t->verifies) return 0;
    trusted = file || folder ? t->SSL_CTX_load_verify_locations(t->context, file, folder)
                             : t->SSL_CTX_set_default_verify_paths(t->context);
    t->SSL_CTX_set_verify(t->context, NM_SSL_VERIFY_PEER, NULL);
    return trusted == 1 ? 0 : -1;
}

static inline void nm_tls_close(nm_tls *t) {
    if (t->context) t->SSL_CTX_free(t->context);
    if (t->library) dlclose(t->library);
    t->context = t->library = NULL;
}

/* Returns the state (SSL) of a new connection on a socket; NULL: no memory. */
static inline void *nm_tls_begin(const nm_tls *t, int fd) {
    void *ssl = t->SSL_new(t->context);
    int good;
    if (!ssl) return NULL;
    good = t->SSL_set_fd(ssl, fd);
    if (t->numeric) /* no name is sent then (RFC 6066, 3) */
        good &= t->X509_VERIFY_PARAM_set1_ip_asc(t->SSL_get0_param(ssl), t->name);
    else
        good &= t->SSL_set1_host(ssl, t->name) &
                (int)t->SSL_ctrl(ssl, NM_SSL_CTRL_SET_TLSEXT_HOSTNAME, 0, (void *)t->name);
    if (good == 1) return ssl;
    t->SSL_free(ssl);
    return NULL;
}

/* Ends a connection, and tells the peer so where the socket takes it. The socket stays open. */
static inline void nm_tls_end(const nm_tls *t, void *ssl, int agreed) {
    t->ERR_clear_error();
    if (agreed) (void)t->SSL_shutdown(ssl);
    t->ERR_clear_error();
    t->SSL_free(ssl);
}

/* Returns what a system call would: -1 and EAGAIN where the socket has nothing or takes nothing, 0 where the
 * peer has said that nothing follows, -1 and EPROTO or the socket's own error otherwise. */
static inline ssize_t nm_tls_outcome(const nm_tls *t, void *ssl, int result) {
    int code = errno;
    if (result > 0) return result;
    switch (t->SSL_get_error(ssl, result)) {
    case NM_SSL_ERROR_WANT_READ:
    case NM_SSL_ERROR_WANT_WRITE: errno = EAGAIN; return -1;
    case NM_SSL_ERROR_ZERO_RETURN: return 0;
    case NM_SSL_ERROR_SSL: errno = EPROTO; return -1;
    default: errno = code ? code : ECONNRESET; return -1; /* without the peer's word that nothing follows */
    }
}

static inline ssize_t nm_tls_shake(const nm_tls *t, void *ssl) {
    t->ERR_clear_error();
    errno = 0;
    return nm_tls_outcome(t, ssl, t->SSL_connect(ssl));
}

static inline ssize_t nm_tls_read(const nm_tls *t, void *ssl, void *bytes, size_t size) {
    t->ERR_clear_error();
    errno = 0;
    return nm_tls_outcome(t, ssl, t->SSL_read(ssl, bytes, (int)size));
}

static inline ssize_t nm_tls_write(const nm_tls *t, void *ssl, const void *bytes, size_t size) {
    t->ERR_clear_error();
    errno = 0;
    return nm_tls_outcome(t, ssl, t->SSL_write(ssl, bytes, (int)size));
}

#endif
