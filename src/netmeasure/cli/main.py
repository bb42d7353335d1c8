"""The program's two command lines: netmeasure's own, and iperf3's behind the word `iperf3`.

Neither is imported before it is known which it is: scripts ask `iperf3 -v` and wait for the answer.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from netmeasure.cli import signals, streams


def main(argv: Sequence[str] | None = None) -> int:
    """The whole program; returns the exit code."""
    words = sys.argv[1:] if argv is None else argv
    with signals.handled(words):
        streams.open_all()
        if words and words[0] == "iperf3":
            from netmeasure.cli.iperf3 import program

            return program.main(words[1:])
        from netmeasure.cli import commands

        return commands.main(words)
