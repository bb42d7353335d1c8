"""Test support: links, peers and faults made for real, so that tests need no imitation of them.

Nothing here imports the package under test: a fault of the package must not hide in its
own harness.
"""
