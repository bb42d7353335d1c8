"""Read what other tools have measured as results."""
