"""Watch a node: its hardware and settings, and its use by CPU, process, memory and drop
counters."""
