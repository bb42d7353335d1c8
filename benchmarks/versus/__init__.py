"""Compare netmeasure's speed and CPU time with other tools, and with the plainest loops in C.

All contenders of a case run in turns, in one session, each for the same time, on the same CPUs.
What is compared comes from the kernel: bytes of the network interface, and CPU time of the
processes by the scheduler's own clock (/proc/PID/task/*/schedstat), both over a window in the
middle of the run, so that no program's start or own report counts. (Datagrams alone are as each
receiver reports them, since the kernel counts trains of them.) A round in which other programs used
the CPUs is repeated.

    python -m benchmarks.versus [--rounds N] [--time S] [--only WORD] [--place loopback|veth]
                                [--baseline PYTHON] [--page FILE] [--json FILE]

`IPERF3=/path/to/iperf3` names a newer iperf3 than the system's. `--baseline` is the interpreter of
another installation of netmeasure, such as an older version's.
"""
