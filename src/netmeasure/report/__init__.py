"""Show results as text.

These modules import only results and units, so that a saved result can be shown without the engine.
"""
