"""Provide real links, peers and faults for tests, so that tests do not have to imitate them.

Namespaces, relays and scripted peers do not use the package under test: a fault of the package must
not hide in its own test support.
"""
