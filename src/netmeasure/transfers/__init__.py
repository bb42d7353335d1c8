"""Measure downloads and uploads by URL, over HTTP and FTP."""
