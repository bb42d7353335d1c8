"""Run the client's end of a test with a server.

`test` takes the steps in order: `connect`, `control` (the agreement), `data_phase`, `outcome` (the
Result).
"""
