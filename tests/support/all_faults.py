"""Run the whole fault matrix, or a part of it, as a program (`make faults`).

    cd tests && python -m support.all_faults [--part] [--at-a-time N] [--patience S] [WORD...]

runs the cells whose names contain each WORD, or all cells without a WORD. It prints the number of
cells and every failure. `--part` selects the cells that the tests run: in three conversations, some
of the faults of each state.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from support import census
from support.fault_matrix import processes, run_cells
from support.fault_table import FAULTS, TALKS, Cell, Talk, a_part, cells

#: How long each end waits for the next step of the other end.
PATIENT_ENOUGH_S = 3.0
#: How many of the ten faults are tried in each state at each end, in the part for the tests.
PART = {"tcp": 1, "secret-queue": 1, "to-iperf3": 1}


def part(*talks: Talk) -> list[Cell]:
    """Return the cells of these conversations that belong to the part for the tests."""
    return [cell for talk in talks for cell in a_part(talk, PART[talk.name])]


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--at-a-time", type=int, default=48)
    parser.add_argument("--part", action="store_true")
    parser.add_argument("--patience", type=float, default=PATIENT_ENOUGH_S)
    parser.add_argument("words", nargs="*")
    args = parser.parse_args()
    some = part(*(talk for talk in TALKS if talk.name in PART)) if args.part else cells()
    wanted = [cell for cell in some if all(word in cell.name for word in args.words)]
    tell(f"{len(wanted)} cells: {len(TALKS)} kinds of conversation, {len(FAULTS)} faults, 2 ends")
    since = time.monotonic()
    with processes():
        before = census.take()
        wrong, hung = asyncio.run(run_cells(wanted, args.at_a_time, args.patience, report=tell))
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
