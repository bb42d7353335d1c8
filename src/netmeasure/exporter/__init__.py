"""Run tests by schedule and on request, and provide the figures to Prometheus."""
