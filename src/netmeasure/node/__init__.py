"""Watch a node: what it is, and what it spends, by CPU, process, memory and counter of drops."""
