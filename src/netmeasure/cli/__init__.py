"""Offer the command line: `python -m netmeasure`.

This is the only package that prints, exits, handles signals and chooses an event loop.
"""

from netmeasure.cli.main import main

__all__ = ["main"]
