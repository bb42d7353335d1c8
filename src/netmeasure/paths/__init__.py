"""Find the longest packet that gets through to a server and back, and encapsulations that explain
the limit."""
