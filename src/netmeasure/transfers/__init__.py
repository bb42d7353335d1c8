"""Downloads and uploads by URL, over HTTP and FTP."""
