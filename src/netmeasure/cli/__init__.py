"""Offer the command line: `python -m netmeasure`.

This is the only package that prints, exits, handles signals and chooses an event loop. A command's
module has its name (`server`, `compare`), its options stand in `options` and `options_of_...`;
`specs` turns options into specifications, `exits` errors into exit codes. `iperf3` is
`netmeasure iperf3`, which replaces iperf3.
"""

from netmeasure.cli.main import main

__all__ = ["main"]
