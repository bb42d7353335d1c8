"""The client's end of a test with a server."""
