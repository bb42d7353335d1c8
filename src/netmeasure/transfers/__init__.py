"""Measure downloads and uploads by URL, over HTTP and FTP, and requests by HTTP.

`fetch.py` runs a measurement, in which a client (`http.py`, `ftp.py`) makes the transfers of each
stream. `native.py` and `library.py` transfer the bytes, and `stream.py` counts them.
"""
