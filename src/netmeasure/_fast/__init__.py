"""Native traffic generators: loops that hold no GIL and touch no Python object."""
