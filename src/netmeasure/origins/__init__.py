"""Serve synthetic files by HTTP and FTP: embedded servers to download from, or to upload to."""
