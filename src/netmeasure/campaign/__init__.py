"""Run campaigns: tests times variants times targets times runs, planned in a file."""
