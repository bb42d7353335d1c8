"""Embedded HTTP and FTP servers of synthetic files: something to download from, or upload to."""
