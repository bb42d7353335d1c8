"""Serve tests: accept clients, admit their tests, run them.

`server` owns the port, `reception` finds out what each connection is. `session` takes the steps of
one test in order: `access` (who is it), `agreement` and `admission` (may it run), `places` (is
there room), `accept` (its streams), `data_phase`, `outcome` (the Result). `shares` keeps one
address from taking everything.
"""
