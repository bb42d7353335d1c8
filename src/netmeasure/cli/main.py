"""Choose between the program's two command lines: its own, and iperf3's after the word `iperf3`.

Only the chosen one is imported: scripts run `iperf3 -v` and wait for the answer.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from netmeasure.cli import signals, streams
from netmeasure.cli.collector import without_collector


def main(argv: Sequence[str] | None = None) -> int:
    """Run the whole program; return the exit code."""
    words = sys.argv[1:] if argv is None else argv
    # numpy's threads would be idle, and each uses 40 MiB of address space
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    with signals.handled(words), without_collector():
        streams.open_all()
        if words and words[0] == "iperf3":
            from netmeasure.cli.iperf3 import program

            return program.main(words[1:])
        from netmeasure.cli import commands

        return commands.main(words)
