"""Fuzz whatever reads bytes of strangers: `python -m fuzz`, or `make fuzz`."""
