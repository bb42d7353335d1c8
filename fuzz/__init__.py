"""Fuzz all parsers of bytes from untrusted peers: `python -m fuzz`, or `make fuzz`."""
