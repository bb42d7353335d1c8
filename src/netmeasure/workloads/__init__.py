"""Run the data streams of a test at one end: one class for each kind (`tcp`, `udp`, `round_trips`,
`fresh_trips`), with the methods of `base`. `requests` has methods of its own, which `transfers`
calls. `latency` probes the path beside a test."""
