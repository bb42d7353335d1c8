"""Run the client's end of a test with a server."""
