"""The whole fault matrix, or a part of it, as a program (`make faults`).

    cd tests && python -m support.all_faults [--at-a-time N] [WORD...]

runs the cells that have each WORD in their names, all without one, and prints how many these are
and what was wrong with them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from support import census
from support.fault_matrix import processes, run_cells
from support.fault_table import FAULTS, TALKS, cells

#: How long each end waits for the next step of the other one.
PATIENT_ENOUGH_S = 3.0


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-a-time", type=int, default=48)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    wanted = [cell for cell in cells() if all(word in cell.name for word in args.words)]
    tell(f"{len(wanted)} cells: {len(TALKS)} kinds of conversation, {len(FAULTS)} faults, 2 ends")
    since = time.monotonic()
    with processes():
        before = census.take()
        wrong, hung = asyncio.run(run_cells(wanted, args.at_a_time, PATIENT_ENOUGH_S, report=tell))
        left = [f"left behind: {line}" for line in census.leftovers(before)]
    for line in left:
        tell(line)
    tell(
        f"{len(wanted)} cells in {time.monotonic() - since:.0f} s, {len(wrong) + len(left)} wrong;"
        f" iperf3 itself waited for ever in {json.dumps(hung)}"
    )
    return 1 if wrong or left else 0


if __name__ == "__main__":
    sys.exit(main())
