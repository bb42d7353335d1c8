/* An incremental parser of HTTP/1.1 responses (RFC 9112): it finds the ends of the head and the
 * body, the status, and whether the connection can be reused.
 *
 * It accepts pieces of any length and stores no more than the beginning of one line, so a
 * connection needs little memory. Names and values of unneeded fields are only counted. A server
 * can make the parser neither wait for ever nor grow: the size of a head, including the heads of
 * interim responses and the trailer, has a limit, and so has each stored line.
 */
#ifndef NM_HTTP_RESPONSE_H
#define NM_HTTP_RESPONSE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <strings.h>

#include "nm_assert.h"

enum {
    NM_HTTP_HEAD_BYTES = 65536, /* of a head, interim ones and trailers included */
    NM_HTTP_LINE_BYTES = 256    /* of a line that is understood; others may be longer */
};

enum nm_http_state {
    NM_HTTP_STATUS_LINE = 0,
    NM_HTTP_FIELDS,
    NM_HTTP_BODY,       /* `left` bytes of it are to come */
    NM_HTTP_UNTIL_CLOSE,
    NM_HTTP_CHUNK_SIZE,
    NM_HTTP_CHUNK,      /* `left` bytes of it are to come */
    NM_HTTP_CHUNK_END,
    NM_HTTP_TRAILER,
    NM_HTTP_DONE,
    NM_HTTP_INVALID
};

typedef struct {
    uint32_t state;
    uint32_t status;      /* 0: not known yet */
    uint32_t head_bytes;  /* so far, all that counts for the bound */
    uint32_t line_length; /* of the line that is being read, and not whole yet */
    uint64_t left;
    uint64_t body_bytes;  /* of the body so far, without what frames it */
    uint8_t keep;         /* the connection can be used for another request */
    uint8_t no_body;      /* the request was HEAD, whose response has none */
    uint8_t has_length, has_coding, chunked;
    uint8_t understood;   /* the last field was one of those below: a folded one would change it */
    char line[NM_HTTP_LINE_BYTES]; /* the beginning of that line */
} nm_http_response;

/* Gets ready for the next response. */
static inline void nm_http_begin(nm_http_response *r, int no_body) {
    memset(r, 0, offsetof(nm_http_response, line));
    r->no_body = no_body != 0;
}

/* Gets ready for a response that is nothing but a body of so many bytes, without any HTTP. */
static inline void nm_http_begin_bare(nm_http_response *r, uint64_t bytes) {
    nm_http_begin(r, 0);
    r->state = NM_HTTP_BODY;
    r->status = 200;
    r->left = bytes;
}

static inline int nm_http_over(const nm_http_response *r) { return r->state >= NM_HTTP_DONE; }

static inline int nm_http_is_digit(char c) { return c >= '0' && c <= '9'; }
static inline int nm_http_is_blank(char c) { return c == ' ' || c == '\t'; }

/* Returns the value of a hexadecimal digit, -1 for another character. */
static inline int nm_http_hex(char c) {
    if (nm_http_is_digit(c)) return c - '0';
    c = (char)(c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Reads a status line: HTTP/1.x, a blank, three digits. Returns whether it is one. */
static inline int nm_http_status_line(nm_http_response *r, const char *line, size_t length) {
    if (length < 12 || memcmp(line, "HTTP/1.", 7) != 0 || !nm_http_is_digit(line[7]) ||
        line[8] != ' ' || (length > 12 && line[12] != ' '))
        return 0;
    r->status = 0;
    for (int i = 9; i < 12; i++) {
        if (!nm_http_is_digit(line[i])) return 0;
        r->status = r->status * 10 + (uint32_t)(line[i] - '0');
    }
    r->keep = line[7] != '0'; /* HTTP/1.0 closes, unless it says otherwise */
    return r->status >= 100 && r->status < 600 && r->status != 101; /* nobody asked for that one */
}

/* Takes the next item of a list from a value. Returns its length, without blanks; *value and *length
 * become what is behind it. */
static inline size_t nm_http_item(const char **value, size_t *length, const char **item) {
    const char *comma = memchr(*value, ',', *length);
    size_t whole = comma ? (size_t)(comma - *value) : *length, size = whole;
    *item = *value;
    *value += comma ? whole + 1 : whole;
    *length -= comma ? whole + 1 : whole;
    while (size && nm_http_is_blank(**item)) ++*item, --size;
    while (size && nm_http_is_blank((*item)[size - 1])) --size;
    return size;
}

static inline int nm_http_is(const char *text, size_t length, const char *word) {
    return length == strlen(word) && strncasecmp(text, word, length) == 0;
}

/* Reads a Content-Length. It may be repeated, but not contradict itself (RFC 9110, 8.6). */
static inline int nm_http_length(nm_http_response *r, const char *value, size_t length) {
    do {
        const char *item;
        size_t size = nm_http_item(&value, &length, &item), i;
        uint64_t number = 0;
        if (size == 0 || size > 18) return 0; /* so it can't overflow */
        for (i = 0; i < size; i++) {
            if (!nm_http_is_digit(item[i])) return 0;
            number = number * 10 + (uint64_t)(item[i] - '0');
        }
        if (r->has_length && number != r->left) return 0;
        r->has_length = 1;
        r->left = number;
    } while (length > 0);
    return 1;
}

/* Reads one field that says how the message goes on. Returns whether it makes sense. */
static inline int nm_http_field(nm_http_response *r, const char *line, size_t length) {
    const char *colon = memchr(line, ':', length), *value, *item;
    size_t name = colon ? (size_t)(colon - line) : 0, size;
    if (name == 0 || nm_http_is_blank(line[name - 1])) return 0;
    value = colon + 1;
    length -= name + 1;
    r->understood = 1;
    if (nm_http_is(line, name, "content-length")) return nm_http_length(r, value, length);
    if (nm_http_is(line, name, "transfer-encoding")) {
        r->has_coding = 1;
        while (length > 0) { /* the last one counts */
            size = nm_http_item(&value, &length, &item);
            if (size) r->chunked = (uint8_t)nm_http_is(item, size, "chunked");
        }
        return 1;
    }
    if (nm_http_is(line, name, "connection")) {
        while (length > 0) {
            size = nm_http_item(&value, &length, &item);
            if (nm_http_is(item, size, "close")) r->keep = 0;
            if (nm_http_is(item, size, "keep-alive")) r->keep = 1;
        }
        return 1;
    }
    r->understood = 0;
    return 1;
}

/* Decides how the body is delimited (RFC 9112, 6.3): the head is over. */
static inline void nm_http_head_over(nm_http_response *r) {
    if (r->status < 200) { /* interim: the real one follows, and shares the bound of its head */
        r->has_length = r->has_coding = r->chunked = 0;
        r->left = 0;
        r->state = NM_HTTP_STATUS_LINE;
        return;
    }
    if (r->has_coding && r->has_length) r->keep = 0;
    if (r->no_body || r->status == 204 || r->status == 304) {
        r->state = NM_HTTP_DONE;
    } else if (r->chunked) {
        r->state = NM_HTTP_CHUNK_SIZE;
    } else if (r->has_length && !r->has_coding) {
        r->state = r->left > 0 ? NM_HTTP_BODY : NM_HTTP_DONE;
    } else {
        r->state = NM_HTTP_UNTIL_CLOSE;
        r->keep = 0;
    }
}

/* Reads the size of a chunk; an extension may stand behind it. Returns whether it is one. */
static inline int nm_http_chunk_size(nm_http_response *r, const char *line, size_t length) {
    size_t i;
    r->left = 0;
    for (i = 0; i < length && nm_http_hex(line[i]) >= 0; i++) {
        if (i == 15) return 0; /* so it can't overflow */
        r->left = r->left * 16 + (uint64_t)nm_http_hex(line[i]);
    }
    if (i == 0 || (i < length && line[i] != ';' && !nm_http_is_blank(line[i]))) return 0;
    r->state = r->left > 0 ? NM_HTTP_CHUNK : NM_HTTP_TRAILER;
    return 1;
}

/* Takes a whole line without its end; `whole` is its length, of which `length` bytes were kept. */
static inline int nm_http_line(nm_http_response *r, const char *line, size_t length, size_t whole) {
    int cut = whole > length;
    switch (r->state) {
    case NM_HTTP_STATUS_LINE:
        if (whole == 0 && r->status == 0) return 1; /* what a sloppy server sends before (2.2) */
        r->state = NM_HTTP_FIELDS;
        r->understood = 0;
        return nm_http_status_line(r, line, length);
    case NM_HTTP_FIELDS:
        if (whole == 0) {
            nm_http_head_over(r);
            return 1;
        }
        if (nm_http_is_blank(line[0])) return !r->understood; /* the one before goes on (5.2) */
        return nm_http_field(r, line, length) && !(cut && r->understood);
    case NM_HTTP_CHUNK_SIZE:
        return !cut && nm_http_chunk_size(r, line, length);
    case NM_HTTP_CHUNK_END:
        r->state = NM_HTTP_CHUNK_SIZE;
        return whole == 0;
    default: /* the trailer */
        if (whole == 0) r->state = NM_HTTP_DONE;
        return 1;
    }
}

/* Reads as much of a line as there is. Returns how many bytes that was. */
static inline size_t nm_http_take_line(nm_http_response *r, const char *data, size_t size) {
    const char *end = memchr(data, '\n', size), *line = data;
    size_t taken = end ? (size_t)(end - data) + 1 : size, whole, kept;
    /* what frames chunks is not counted: a body may have any number of them */
    int framing = r->state == NM_HTTP_CHUNK_SIZE || r->state == NM_HTTP_CHUNK_END;
    size_t most = framing ? NM_HTTP_LINE_BYTES : NM_HTTP_HEAD_BYTES;
    if (taken > most - (framing ? r->line_length : r->head_bytes)) {
        r->state = NM_HTTP_INVALID;
        return taken;
    }
    if (!framing) r->head_bytes += (uint32_t)taken;
    whole = kept = taken;
    if (!end || r->line_length > 0) { /* it comes in pieces */
        size_t room = r->line_length < NM_HTTP_LINE_BYTES ? NM_HTTP_LINE_BYTES - r->line_length : 0;
        if (room) memcpy(r->line + r->line_length, data, taken < room ? taken : room);
        r->line_length += (uint32_t)taken;
        if (!end) return taken;
        line = r->line;
        whole = r->line_length;
        kept = whole < NM_HTTP_LINE_BYTES ? whole : NM_HTTP_LINE_BYTES;
        r->line_length = 0;
    } else if (kept > NM_HTTP_LINE_BYTES) { /* the same, however the bytes were cut into pieces */
        kept = NM_HTTP_LINE_BYTES;
    }
    whole--; /* the line feed */
    if (kept > whole) kept = whole;
    if (kept == whole && kept > 0 && line[kept - 1] == '\r') kept--, whole--;
    if (!nm_http_line(r, line, kept, whole)) r->state = NM_HTTP_INVALID;
    return taken;
}

/* Takes bytes that have come. Returns how many of them belong to this response: fewer than `size` only
 * where it is over. */
static inline size_t nm_http_feed(nm_http_response *r, const char *data, size_t size) {
    size_t at = 0, piece;
    while (at < size && !nm_http_over(r)) {
        switch (r->state) {
        case NM_HTTP_BODY:
        case NM_HTTP_CHUNK:
            piece = r->left < size - at ? (size_t)r->left : size - at;
            r->left -= piece;
            r->body_bytes += piece;
            at += piece;
            if (r->left == 0)
                r->state = r->state == NM_HTTP_BODY ? NM_HTTP_DONE : NM_HTTP_CHUNK_END;
            break;
        case NM_HTTP_UNTIL_CLOSE:
            r->body_bytes += size - at;
            at = size;
            break;
        default:
            at += nm_http_take_line(r, data + at, size - at);
        }
    }
    nm_assert(at <= size);
    return at;
}

/* Notes that the server has closed the connection. Returns whether that completes the response. */
static inline int nm_http_closed(nm_http_response *r) {
    r->keep = 0;
    if (r->state == NM_HTTP_UNTIL_CLOSE) r->state = NM_HTTP_DONE;
    return r->state == NM_HTTP_DONE;
}

#endif
