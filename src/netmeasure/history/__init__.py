"""Keep the figures of runs over weeks in a database, and find what moved."""

from __future__ import annotations

#: The runs of each series that a check looks at.
DEFAULT_LAST = 40
