/* A parser of the simplest requests for a file by HTTP/1.1 (RFC 9112): GET or HEAD of a small file, in a head
 * that has come whole, with no field that could change the answer.
 *
 * It decides only whether a request is surely of this kind. Everything else may be just as valid, or
 * malformed: that is for a full parser to say. So the rules are stricter than the standard's. A name
 * is a size up to the limit in the commonest forms (netmeasure.origins.catalog has all of them). Only
 * the fields below may be there, each once, in printable ASCII, and without a fold.
 *
 * It stores nothing and reads each byte of a head at most a few times, up to NM_FILE_HEAD_BYTES.
 */
#ifndef NM_FILE_REQUEST_H
#define NM_FILE_REQUEST_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

enum {
    NM_FILE_HEAD_BYTES = 2048, /* of a whole head; a longer one is not simple */
    NM_FILE_DIGITS = 9         /* of a size, so that it can't overflow */
};

typedef struct {
    uint32_t head_bytes; /* the length of the request */
    uint32_t size;       /* of the file */
    int no_body;         /* the method is HEAD */
} nm_file_request;

static inline int nm_file_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline int nm_file_is_letter(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static inline int nm_file_is_host(char c) {
    return nm_file_is_digit(c) || nm_file_is_letter(c) || (c != 0 && strchr("-._:[]", c) != NULL);
}

/* Returns the factor of a unit; 0 for a unit of larger files, or none. */
static inline uint32_t nm_file_unit(const char *unit, size_t length) {
    if (length == 0) return 1;
    if (length == 1 && (unit[0] | 0x20) == 'b') return 1;
    if (length == 1 && (unit[0] | 0x20) == 'k') return 1024;
    if (length == 2 && strncasecmp(unit, "kb", 2) == 0) return 1000;
    if (length == 3 && strncasecmp(unit, "kib", 3) == 0) return 1024;
    return 0;
}

/* Reads a path: "/bytes/1500", "/1500", "/64K", "/64KiB.dat". Returns the size of the file; -1: not simple. */
static inline int64_t nm_file_size(const char *path, size_t length) {
    int plain = length > 7 && memcmp(path, "/bytes/", 7) == 0;
    size_t at = plain ? 7 : 1, begin = at;
    uint32_t factor;
    int64_t size = 0;
    if (length < 2 || path[0] != '/') return -1;
    for (; at < length && nm_file_is_digit(path[at]); at++) {
        if (at - begin == NM_FILE_DIGITS) return -1;
        size = size * 10 + (path[at] - '0');
    }
    if (at == begin) return -1;
    if (plain) return at == length ? size : -1;
    for (begin = at; at < length && nm_file_is_letter(path[at]);) at++;
    factor = nm_file_unit(path + begin, at - begin);
    if (factor == 0) return -1;
    if (at < length) { /* an extension of 1 to 8 letters */
        if (path[at] != '.') return -1;
        for (begin = ++at; at < length && nm_file_is_letter(path[at]);) at++;
        if (at == begin || at - begin > 8 || at < length) return -1;
    }
    return size * factor;
}

/* Returns the number of a field that does not change the answer; -1 for any other. */
static inline int nm_file_field(const char *name, size_t length) {
    static const char *const known[] = {"host", "connection", "user-agent", "accept", "accept-encoding",
                                        "accept-language", "cache-control", "pragma", "referer"};
    for (int i = 0; i < (int)(sizeof known / sizeof *known); i++)
        if (length == strlen(known[i]) && strncasecmp(name, known[i], length) == 0) return i;
    return -1;
}

/* Returns whether a value, without blanks around it, leaves the answer as it is. */
static inline int nm_file_value(int field, const char *value, size_t length) {
    if (field == 0) { /* Host: a name or an address, and a port */
        size_t i;
        for (i = 0; i < length && nm_file_is_host(value[i]);) i++;
        return length > 0 && i == length;
    }
    if (field == 1) return length == 10 && strncasecmp(value, "keep-alive", 10) == 0;
    return 1;
}

/* Reads one line of the fields, from data[*at] on. Returns 1 for a simple field, 2 for the end of the head,
 * 0 for anything else; *at becomes what is behind it. */
static inline int nm_file_line(const char *data, size_t size, size_t *at, uint32_t *seen) {
    const char *line = data + *at, *colon, *value;
    size_t left = size - *at, length = 0;
    int field;
    while (length < left && line[length] >= 0x20 && line[length] < 0x7f) length++;
    if (left - length < 2 || line[length] != '\r' || line[length + 1] != '\n') return 0;
    *at += length + 2;
    if (length == 0) return 2;
    colon = memchr(line, ':', length);
    if (colon == NULL) return 0;
    field = nm_file_field(line, (size_t)(colon - line));
    if (field < 0 || *seen & UINT32_C(1) << field) return 0;
    *seen |= UINT32_C(1) << field;
    value = colon + 1;
    length -= (size_t)(value - line);
    while (length > 0 && *value == ' ') value++, length--;
    while (length > 0 && value[length - 1] == ' ') length--;
    return nm_file_value(field, value, length);
}

/* Reads the request that `size` bytes begin with. Returns whether it is simple, for a file of up to `most`
 * bytes; only then is *r set. */
static inline int nm_file_parse(const char *data, size_t size, uint32_t most, nm_file_request *r) {
    static const char version[] = " HTTP/1.1\r\n";
    size_t at, begin;
    uint32_t seen = 0;
    int64_t file;
    int no_body, line = 1;
    if (size > NM_FILE_HEAD_BYTES) size = NM_FILE_HEAD_BYTES;
    if (size < 5) return 0;
    no_body = memcmp(data, "HEAD ", 5) == 0;
    if (!no_body && memcmp(data, "GET ", 4) != 0) return 0;
    for (at = begin = no_body ? 5 : 4; at < size && data[at] != ' ';) at++;
    if (size - at < sizeof version - 1 || memcmp(data + at, version, sizeof version - 1) != 0) return 0;
    file = nm_file_size(data + begin, at - begin);
    if (file < 0 || file > most) return 0;
    at += sizeof version - 1;
    while (line == 1) line = nm_file_line(data, size, &at, &seen);
    if (line != 2 || !(seen & 1)) return 0; /* without a Host */
    r->head_bytes = (uint32_t)at;
    r->size = (uint32_t)file;
    r->no_body = no_body;
    return 1;
}

#endif
