"""Run the data streams of a test at one end: one class for TCP and one for UDP, with the same
methods."""
