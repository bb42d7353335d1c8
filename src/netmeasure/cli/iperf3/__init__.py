"""Offer iperf3's command line, output and exit codes on netmeasure's engine.

`program` runs one of the two ends (`client`, `server`), whose exit code is 0 or 1. `table` lists
the options, `command_line` checks them. docs/how-to/replace-iperf3.md says what is the same, what
is better and what is refused.
"""
