"""A measurement in the words of other tools."""
