"""Find the longest packet that gets through to a server and back, and what would explain it."""
