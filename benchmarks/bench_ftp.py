"""Compare the speed and the CPU time of one FTP download with curl's.

netmeasure and curl alternately download 10 GiB of zeros from vsftpd's page cache over one loopback
connection. Where the server's CPU is the limit, the rates say little, and the CPU time per GB is
the figure to compare: a client that needs less of it keeps up with a faster server. Needs root (a
namespace).

    python -m benchmarks.bench_ftp [--pairs N] [--quick] [--json FILE]
"""

from __future__ import annotations

from benchmarks.fetching import compare
from support import servers

if __name__ == "__main__":
    compare(__doc__, "vsftpd", servers.vsftpd)
