"""Read the output files of other tools as results."""
