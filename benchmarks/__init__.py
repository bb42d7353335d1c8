"""Measure reproducible figures: the tools under comparison run alternately, in one session."""
