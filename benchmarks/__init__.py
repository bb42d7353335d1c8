"""Measure reproducible figures: the tools compared are measured alternately, in one run."""
