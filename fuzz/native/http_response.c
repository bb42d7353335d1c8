/* Whatever a server sends, the reader of responses stays within its bounds, and finds the same end, status
 * and body however the bytes are cut into pieces. */
#include "input.h"

#include "nm_http_response.h"

static size_t read_in_pieces(nm_http_response *r, const char *data, size_t size, size_t step) {
    size_t at = 0;
    while (at < size && !nm_http_over(r)) {
        size_t piece = size - at < step ? size - at : step, taken;
        char *alone = malloc(piece); /* so that reading beyond it ends the run */
        CHECK(alone != NULL);
        memcpy(alone, data + at, piece);
        taken = nm_http_feed(r, alone, piece);
        free(alone);
        CHECK(taken <= piece && (taken == piece || nm_http_over(r)));
        at += taken;
    }
    return at;
}

static void compare(const char *data, size_t size, size_t step, int no_body) {
    nm_http_response whole, cut;
    size_t end, other;
    nm_http_begin(&whole, no_body), nm_http_begin(&cut, no_body);
    end = read_in_pieces(&whole, data, size, size ? size : 1);
    other = read_in_pieces(&cut, data, size, step);
    CHECK(nm_http_closed(&whole) == nm_http_closed(&cut));
    CHECK(whole.state == cut.state && whole.body_bytes <= size);
    CHECK(whole.head_bytes <= NM_HTTP_HEAD_BYTES && cut.head_bytes <= NM_HTTP_HEAD_BYTES);
    if (whole.state == NM_HTTP_DONE) {
        CHECK(end == other && whole.status == cut.status && whole.body_bytes == cut.body_bytes);
        CHECK(whole.status >= 200 && whole.status < 600 && whole.keep == cut.keep);
        CHECK(!no_body || whole.body_bytes == 0);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* random bytes hardly ever form a head, so some inputs begin with one */
    static const char *const heads[] = {
        "", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n",
        "HTTP/1.0 404\nTransfer-Encoding: chunked\n\n", "HTTP/1.1 100 C\r\n\r\nHTTP/1.1 200 O\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n5\r\nabcde\r\n0\r\nt: 1\r\n"};
    input in = {data, size};
    uint8_t choice = take8(&in), step = take8(&in);
    const char *head = heads[choice / 2 % (sizeof heads / sizeof *heads)];
    size_t before = strlen(head);
    char *all = malloc(before + in.left + 1);
    CHECK(all != NULL);
    memcpy(all, head, before);
    memcpy(all + before, in.at, in.left);
    compare(all, before + in.left, step % 40 + 1u, choice & 1);
    free(all);
    return 0;
}
