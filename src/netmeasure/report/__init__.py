"""Show results as text for people.

These modules import results and units only: no engine is needed to show a saved result.
"""
