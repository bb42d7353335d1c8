"""Measure by schedule and on request, and offer the figures to Prometheus."""
