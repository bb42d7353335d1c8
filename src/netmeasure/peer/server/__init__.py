"""The server: accept clients, admit their tests, run them."""
