"""Keep the figures of runs over weeks in a database, and find changes of their level."""

from __future__ import annotations

#: How many of the newest runs of each series a check analyses.
DEFAULT_LAST = 40
