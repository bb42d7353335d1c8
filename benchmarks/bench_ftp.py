"""How fast is one FTP download, side by side with curl, and what does it cost?

One connection, loopback, vsftpd, 10 GiB of zeros from the page cache, netmeasure and curl in
turn. Where the server's CPU is the limit, the rates say little and the CPU per GB says it all: a
client that needs less of it keeps up with a faster server. Needs root (a namespace).

    python -m benchmarks.bench_ftp [--pairs N] [--quick] [--json FILE]
"""

from __future__ import annotations

from benchmarks.fetching import compare
from support import servers

if __name__ == "__main__":
    compare(__doc__, "vsftpd", servers.vsftpd)
