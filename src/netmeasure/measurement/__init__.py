"""Provide the parts that every kind of test shares: life cycle, intervals, automatic end, and flows
of the result."""
