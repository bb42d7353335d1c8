"""Offer iperf3's command line, output and exit codes on netmeasure's engine.

docs/how-to/replace-iperf3.md says what is the same, what is better and what is refused.
"""
