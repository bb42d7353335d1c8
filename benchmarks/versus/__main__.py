"""Run the comparisons; the package's docstring describes them."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from pathlib import Path

import msgspec
import psutil

import benchmarks.versus
from benchmarks.common import rounds_option
from benchmarks.versus.cases import cases
from benchmarks.versus.page import document, page
from benchmarks.versus.places import place
from benchmarks.versus.rounds import REPEATS, CaseRuns, run_case, wait_for_calm


def main() -> None:
    """Measure the selected cases, and write the figures."""
    chosen = _options().parse_args()
    rounds, seconds = (1, 0.5) if chosen.quick else (chosen.rounds, chosen.time)

    def say(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    if not chosen.quick:
        wait_for_calm(chosen.load, chosen.patience, say)
    load = psutil.getloadavg()[0]
    found: list[CaseRuns] = []
    with place(chosen.place) as here:
        wanted = [
            case
            for case in cases(here.name, chosen.baseline)
            if all(word.lower() in case.name.lower() for word in chosen.only)
        ]
        if not wanted:
            raise SystemExit(f"no case has these words: {' '.join(chosen.only)}")
        try:
            for case in wanted:
                repeats = 0 if chosen.quick else REPEATS
                found.append(run_case(case, here, rounds, seconds, say, repeats=repeats))
        except KeyboardInterrupt:
            say(f"ended by the user: {len(found)} of {len(wanted)} cases were measured")
        except SystemExit as exc:  # a contender does not work, but the others have been measured
            say(f"{exc}: {len(found)} of {len(wanted)} cases were measured")
    text = page(here.name, _command(), found, load=load, rounds=rounds, seconds=seconds)
    if chosen.page and len(found) == len(wanted):
        chosen.page.write_text(text)
    elif found:
        print(text)
    if chosen.json and found:
        chosen.json.write_bytes(msgspec.json.format(msgspec.json.encode(document(found, seconds))))
    if len(found) < len(wanted):
        raise SystemExit(1)


def _command() -> str:
    """Return the command without the folders of its files, which are nobody else's."""
    newer = f"IPERF3={Path(os.environ['IPERF3']).name} " if "IPERF3" in os.environ else ""
    words = [Path(word).name if word.startswith("/") else word for word in sys.argv[1:]]
    return f"{newer}python -m benchmarks.versus {shlex.join(words)}".strip()


def _options() -> argparse.ArgumentParser:
    options = argparse.ArgumentParser(
        prog="python -m benchmarks.versus",
        description=benchmarks.versus.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    options.add_argument("--rounds", type=rounds_option, default=7, metavar="N")
    options.add_argument("--time", type=float, default=2.0, metavar="S", help="each window")
    options.add_argument("--only", nargs="*", default=[], metavar="WORD", help="of a case's name")
    options.add_argument("--place", choices=("loopback", "veth"), default="loopback")
    options.add_argument("--baseline", metavar="PYTHON", help="with another netmeasure")
    options.add_argument("--load", type=float, default=2.0, help="the load average to stay below")
    options.add_argument(
        "--patience", type=float, default=300.0, metavar="S", help="to wait for it"
    )
    options.add_argument("--quick", action="store_true", help="one short round: does it work?")
    options.add_argument("--page", type=Path, metavar="FILE", help="write Markdown here")
    options.add_argument("--json", type=Path, metavar="FILE", help="write every sample here")
    return options


if __name__ == "__main__":
    main()
