"""Compare netmeasure's speed and CPU time with other tools, and with the simplest loops in C.

All contenders of a case run in turn, in one session, each for the same time, on the same CPUs. The
figures come from the kernel: bytes of the network interface, and CPU time of the processes by the
scheduler's own clock (/proc/PID/task/*/schedstat). Both are taken over a window in the middle of
the run, so that the start and the reports of a program do not count. (Only the numbers of datagrams
are as each receiver reports them, since the kernel counts trains of datagrams.) A round in which
other programs used the CPUs is repeated.

    python -m benchmarks.versus [--rounds N] [--time S] [--only WORD] [--place loopback|veth]
                                [--baseline PYTHON] [--page FILE] [--json FILE]

`IPERF3=/path/to/iperf3` selects a newer iperf3 than the system's. `--baseline` is the interpreter
of another installation of netmeasure, such as that of an older version.
"""
