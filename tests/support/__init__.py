"""Provide real links, peers and faults for tests, so that tests do not have to imitate them.

No module here imports the package under test at its top level, unless it must: a fault of the
package must not hide in its own test support.
"""
