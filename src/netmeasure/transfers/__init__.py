"""Measure downloads and uploads by URL, over HTTP and FTP, and requests by HTTP.

`fetch` runs a measurement: it lets a client (`http`, `ftp`) make the transfers of each stream.
`reach` connects, `stream` counts the transfers, `native` and `library` move their bytes. `requests`
runs a test of requests, whose native threads do all of that themselves.
"""
