/* Runs a target without a fuzzing engine, where there is no clang: `target RUNS` on random inputs, or
 * `target FILE...` on inputs that were kept. It is not guided by coverage. */
#include "input.h"

static void run_file(const char *path) {
    static uint8_t data[1 << 20];
    FILE *file = fopen(path, "rb");
    size_t size;
    CHECK(file != NULL);
    size = fread(data, 1, sizeof data, file);
    fclose(file);
    LLVMFuzzerTestOneInput(data, size);
}

int main(int argc, char **argv) {
    uint64_t state = UINT64_C(0x9e3779b97f4a7c15), runs, i;
    uint8_t data[512];
    char *end = NULL;
    if (argc < 2) return 2;
    runs = strtoull(argv[1], &end, 10);
    if (*end) {
        for (int file = 1; file < argc; file++) run_file(argv[file]);
        return 0;
    }
    for (i = 0; i < runs; i++) {
        size_t size;
        for (size = 0; size < sizeof data; size++) {
            state ^= state << 13, state ^= state >> 7, state ^= state << 17;
            data[size] = state & 0x100 ? (uint8_t)state : (uint8_t)(state % 5);
        }
        LLVMFuzzerTestOneInput(data, (size_t)(state >> 32) % (sizeof data + 1));
    }
    printf("Done %llu runs\n", (unsigned long long)runs);
    return 0;
}
