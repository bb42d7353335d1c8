"""Send and receive test traffic in native loops, which hold no GIL and touch no Python object.

A .pyx module is the Python side of a kind of loop (`tcp`, `udp`, `round_trips`, `requests`,
`probe`, `watch`) on the threads of `worker`. The loops themselves are headers of C, one concept
each: nm_pace.h paces, nm_series.h counts over time, nm_samples.h samples TCP_INFO and CPU time,
nm_udp_account.h checks the sequence numbers of datagrams.
"""
