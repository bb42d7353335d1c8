"""Connect asyncio to the native loops: sockets, threads, set-up phases, figures of the kernel.

Opening   `names`, `sockets` and `sockopts` look up, connect and set options; `listeners` and
          `acceptor` listen and accept; `hello` opens UDP streams, `tls` encrypts, `control` carries
          the control connection, `handover` takes a socket from asyncio. `path_answers` answers
          those who probe the path.
Timing    `phases` keeps the phases of set-up, `progress` tells them while they last, `watch` sees
          when bytes arrive.
Running   `threads` runs native loops, `tasks` ends asyncio's, `payload` is what they send.
Reading   `tcpinfo` (retransmitted SYNs among it) and `socket_facts` of a socket; `path`,
          `path_probe`, `datagram_probe`, `qdiscs` and `ethtool` of the way; `hosts`, `settings`,
          `resources` and `cgroups` of this host.
Capacity  `limits`, `memory` and `loading` fit the work to a small host.
"""
