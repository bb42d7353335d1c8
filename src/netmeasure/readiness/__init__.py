"""Find out when a path becomes usable, or stops being so, and what was in the way until then.

The kernel sends a lost SYN again after 1, 3 and 7 seconds (RFC 6298), so one attempt to connect
tells only that grain. Here fresh attempts start every 10 ms and overlap: the first one that gets
through says when the path was there.
"""
