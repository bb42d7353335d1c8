"""Measure downloads and uploads by URL, over HTTP and FTP.

`fetch.py` runs a measurement: it lets a client (`http.py`, `ftp.py`) make the transfers of each
stream. `stream.py` counts them, `native.py` and `library.py` move their bytes.
"""
