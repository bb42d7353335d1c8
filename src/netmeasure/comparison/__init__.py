"""Compare two sets of runs of the same test."""
