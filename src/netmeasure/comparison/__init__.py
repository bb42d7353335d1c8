"""Compare two sets of runs: their figures, the ratio with its interval, what differed."""
