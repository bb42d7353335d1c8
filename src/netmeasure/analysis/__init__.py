"""Arrays in, numbers out: pure functions over recorded series."""
