"""Search the capacity of a path by UDP: the highest rate at which hardly anything is lost."""
