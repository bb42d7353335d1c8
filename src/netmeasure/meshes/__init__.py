"""Measure every pair of the workers of a Dask cluster: who tests whom when, and the tests."""
