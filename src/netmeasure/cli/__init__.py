"""The command line: `python -m netmeasure`. The only place that prints, exits, handles signals and
chooses an event loop."""

from netmeasure.cli.main import main

__all__ = ["main"]
