"""Find out when a path becomes usable or unusable, and what blocked it until then.

The kernel retransmits a lost SYN at intervals of 1 s or more (RFC 6298), which is the resolution of
a single attempt to connect. Here, overlapping attempts start every 10 ms: the first successful one
shows when the path became usable.
"""
