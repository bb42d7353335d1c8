"""Carry the data streams of a test, one class per kind, with the same verbs: add, begin, start,
stop, abort, join, report."""
