"""Serve tests: accept clients, admit their tests, run them."""
