"""Send and receive test traffic in native loops, which hold no GIL and touch no Python object.

A .pyx module is the Python side of a kind of loop. The loops of `tcp`, `udp`, `round_trips`,
`fresh_responder`, `requests` and `probe` are streams of a group (`worker`), which starts and stops
them; those of `small_files` and `watch` belong to none. The loops themselves are headers of C, one
concept each: nm_pace.h paces, nm_series.h counts over time, nm_samples.h samples TCP_INFO and CPU
time, nm_udp_account.h checks the sequence numbers of datagrams.
"""
