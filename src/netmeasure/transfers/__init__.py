"""Measure downloads and uploads by URL, over HTTP and FTP, and requests by HTTP.

`fetch` runs a measurement, in which a client (`http`, `ftp`) makes the transfers of each stream.
`reach` connects, `native` and `library` transfer the bytes, and `stream` counts them. `requests`
runs a test of requests, whose native threads do all of this themselves.
"""
