"""Run one Python target: `python -m fuzz.python TARGET RUNS`, with atheris if it is installed.

Without atheris, hypothesis makes the inputs: mutated seeds and random bytes. The program prints
"Done N runs" if there was no finding; a finding is a traceback.
"""

from __future__ import annotations

import importlib.util
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

#: The maximum length of an input.
LONGEST = 4096


def by_coverage(name: str, runs: int) -> None:
    """Fuzz with atheris; the process ends with it."""
    import atheris

    with atheris.instrument_imports(include=["netmeasure", "aioftp"]):
        from fuzz import targets
    function, seeds = targets.TARGETS[name], targets.seeds(name)
    with tempfile.TemporaryDirectory() as corpus:
        for number, seed in enumerate(seeds):
            Path(corpus, f"seed{number}").write_bytes(seed)
        longest = max(LONGEST, *map(len, seeds))  # a longer one is cut, which spoils it
        options = [
            f"-runs={runs}",
            f"-max_len={longest}",
            "-rss_limit_mb=4096",
            "-artifact_prefix=/tmp/",
        ]
        atheris.Setup([name, *options, corpus], function)
        atheris.Fuzz()


def by_chance(name: str, runs: int) -> None:
    """Fuzz with hypothesis."""
    import hypothesis
    from hypothesis import strategies as st

    from fuzz import targets

    function, seeds = targets.TARGETS[name], targets.seeds(name)
    cuts = st.lists(
        st.tuples(st.integers(0, LONGEST), st.integers(0, 3), st.binary(max_size=4)), max_size=4
    )

    def mutated(seed: bytes, changes: Sequence[tuple[int, int, bytes]]) -> bytes:
        for place, dropped, added in changes:
            at = place % (len(seed) + 1)
            seed = seed[:at] + added + seed[at + dropped :]
        return seed

    inputs = st.binary(max_size=200) | st.builds(mutated, st.sampled_from(seeds), cuts)

    @hypothesis.settings(
        max_examples=runs,
        deadline=None,
        database=None,
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    @hypothesis.given(inputs)
    def check(data: bytes) -> None:
        function(data)

    check()
    print(f"Done {runs} runs")


def main(arguments: Sequence[str]) -> None:
    """Run the target that the command line names."""
    name, runs = arguments[0], int(arguments[1])
    if importlib.util.find_spec("atheris"):
        by_coverage(name, runs)
    else:
        by_chance(name, runs)


if __name__ == "__main__":
    main(sys.argv[1:])
