"""Serve tests: accept clients, admit their tests, and run them."""
