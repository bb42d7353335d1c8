"""Serve tests: accept clients, admit their tests, and run them.

`server` owns the port, and `reception` identifies each connection. `session` takes the steps of one
test in order: `access` (authentication), `agreement` and `admission` (whether it may run), `places`
(whether a place is free), `accept` (its streams), `data_phase`, and `outcome` (the Result).
`shares` keeps one address from using all resources.
"""
