/* Whatever a client sends, the reader of simple requests reads nothing beyond it, and takes a request only if
 * its head is whole, has a Host and no field that changes the answer, and is the same whatever follows. */
#include "input.h"

#include "nm_file_request.h"

#define MOST 262144

/* Parses bytes that are alone in memory, so that reading beyond them ends the run. */
static int parse(const char *data, size_t size, nm_file_request *r) {
    char *alone = malloc(size ? size : 1);
    int simple;
    CHECK(alone != NULL);
    memcpy(alone, data, size);
    if (!size) POISON(alone, 1);
    memset(r, 0xff, sizeof *r);
    simple = nm_file_parse(alone, size, MOST, r);
    if (!size) UNPOISON(alone, 1);
    free(alone);
    return simple;
}

/* Returns how many lines of a head begin with a word, in any case. */
static int lines_with(const char *head, size_t size, const char *word) {
    int count = 0;
    for (size_t at = 0; at + strlen(word) <= size; at++)
        count += (at == 0 || head[at - 1] == '\n') && strncasecmp(head + at, word, strlen(word)) == 0;
    return count;
}

/* Checks a head that was taken for a simple one, by rules that are written in another way. */
static void check(const char *head, const nm_file_request *r) {
    static const char *const refused[] = {"range:", "if-range:", "expect:", "content-length:", "upgrade:",
                                          "transfer-encoding:", "content-encoding:", " ", "\t"};
    size_t size = r->head_bytes;
    const char *path = head + (r->no_body ? 5 : 4);
    unsigned long long number;
    CHECK(size <= NM_FILE_HEAD_BYTES && r->size <= MOST);
    CHECK(memcmp(head, r->no_body ? "HEAD /" : "GET /", (size_t)(path - head) + 1) == 0);
    /* it ends at the first empty line */
    CHECK(memmem(head, size, "\r\n\r\n", 4) == head + size - 4);
    for (size_t at = 0; at < size; at++) {
        int end = head[at] == '\r' || head[at] == '\n';
        CHECK(end || (head[at] >= ' ' && head[at] <= '~'));
        CHECK(head[at] != '\r' || head[at + 1] == '\n');
        CHECK(head[at] != '\n' || head[at - 1] == '\r');
    }
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        CHECK(lines_with(head, size, refused[i]) == 0);
    CHECK(lines_with(head, size, "host:") == 1 && lines_with(head, size, "connection:") <= 1);
    CHECK(sscanf(path, "/bytes/%llu", &number) == 1 || sscanf(path, "/%llu", &number) == 1);
    CHECK(r->size == number || r->size == number * 1000 || r->size == number * 1024);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    /* random bytes hardly ever form a head, so some inputs begin and end with parts of one */
    static const char *const begins[] = {
        "", "GET /", "HEAD /bytes/", "GET /1K.dat HTTP/1.1\r\n", "GET /64 HTTP/1.1\r\nHost: a:1\r\n",
        "GET /0kib HTTP/1.1\r\nConnection: keep-alive\r\nhost:a\r\n"};
    static const char *const ends[] = {"", "\r\n", "\r\n\r\n", " HTTP/1.1\r\nHost: x\r\n\r\n"};
    input in = {data, size};
    uint8_t choice = take8(&in), cut = take8(&in);
    const char *begin = begins[choice % (sizeof begins / sizeof *begins)];
    const char *end = ends[choice / 8 % (sizeof ends / sizeof *ends)];
    size_t all = strlen(begin) + in.left + strlen(end);
    char *text = malloc(all + 2);
    nm_file_request whole, part;
    CHECK(text != NULL);
    memcpy(text, begin, strlen(begin));
    memcpy(text + strlen(begin), in.at, in.left);
    memcpy(text + strlen(begin) + in.left, end, strlen(end) + 1);
    if (parse(text, all, &whole)) {
        check(text, &whole);
        /* not before it is whole, and nothing that follows changes it */
        CHECK(!parse(text, cut % whole.head_bytes, &part));
        CHECK(!parse(text, whole.head_bytes - 1, &part));
        CHECK(parse(text, whole.head_bytes, &part));
        CHECK(part.head_bytes == whole.head_bytes && part.size == whole.size);
        CHECK(part.no_body == whole.no_body);
    } else {
        CHECK(!parse(text, cut % (all + 1), &part));
    }
    free(text);
    return 0;
}
