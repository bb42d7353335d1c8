"""One class per kind of test, with the same verbs: add, begin, start, stop, abort, join, report."""
