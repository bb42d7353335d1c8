"""Measure every pair of the workers of a Dask cluster: schedule the tests, and run them."""
