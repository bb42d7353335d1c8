"""Run the data streams of a test at one end: one class for each kind (`tcp`, `udp`, `round_trips`,
`requests`), with the methods of `base`; `latency` probes the path beside them."""
