"""Run and join what every kind of test shares: life cycle, intervals, automatic end, flows of the
result."""
