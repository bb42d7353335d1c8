"""Send and receive test traffic in native loops, which hold no GIL and touch no Python object."""
