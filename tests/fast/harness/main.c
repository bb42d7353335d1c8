/* Runs a scenario: `harness SCENARIO [ROUNDS]`. Exit status 0 when every check held, else a line on
 * stderr that says which did not. */
#include "harness.h"

int main(int argc, char **argv) {
    static const struct {
        const char *name;
        void (*run)(uint32_t);
        uint32_t rounds;
    } scenarios[] = {
        {"merges", scenario_merges, 5000}, {"starts", scenario_starts, 5000},
        {"moments", scenario_moments, 5000}, {"budget", scenario_budget, 100},
        {"gate", scenario_gate, 600}, {"samples", scenario_samples, 5000},
        {"stream", scenario_stream, 300}, {"datagrams", scenario_datagrams, 100000},
        {"pace", scenario_pace, 44},           {"histogram", scenario_histogram, 50000},
        {"round_trips", scenario_round_trips, 18},
        {"datagram_trips", scenario_datagram_trips, 12},
        {"shared_trips", scenario_shared_trips, 18},
        {"probe", scenario_probe, 4},
        {"requests", scenario_requests, 12},
        {"fresh", scenario_fresh, 12},
        {"files", scenario_files, 12},
        {"watch", scenario_watch, 20},
    };
    for (size_t i = 0; i < sizeof scenarios / sizeof *scenarios; i++)
        if (argc > 1 && strcmp(argv[1], scenarios[i].name) == 0) {
            scenarios[i].run(argc > 2 ? (uint32_t)atoi(argv[2]) : scenarios[i].rounds);
            return 0;
        }
    fprintf(stderr, "usage: %s SCENARIO [ROUNDS]\n", argv[0]);
    return 2;
}
