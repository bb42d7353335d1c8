"""Check whether the embedded HTTP and FTP servers limit what is measured with them.

The same client, curl to /dev/null, downloads a file of the same size alternately from the embedded
server and from nginx (sendfile, one worker) or vsftpd, on loopback. Client and server are pinned to
a CPU each. The other server's file is in memory (/dev/shm), random like ours. The rate is over the
whole life of curl. The cost of a request shows in wrk's requests/s of small files, on 20
connections.

    python -m benchmarks.bench_origins [--pairs N] [--time S] [--quick] [--json FILE]

The large file has 2 GiB for each second of `--time`.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.common import Case, Column, Sample, main
from benchmarks.processes import CLIENT_CPU, free_port, pinned, running

MEMORY = Path("/dev/shm")
GIB = 2**30
#: The small files, with the least ratio to nginx's requests/s that is aimed at.
SMALL: dict[str, tuple[int, float | None]] = {"1K.dat": (1024, 0.8), "64K.dat": (65536, None)}

NGINX = """
daemon off; master_process off; worker_processes 1; error_log /dev/null; pid {root}/nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off; sendfile on; tcp_nopush on; keepalive_requests 1000000;
    server {{ listen 127.0.0.1:{port}; root {files}; }}
}}
"""
VSFTPD = """
listen=YES
listen_address=127.0.0.1
listen_port={port}
background=NO
anonymous_enable=YES
local_enable=NO
anon_root={files}
no_anon_password=YES
xferlog_enable=NO
seccomp_sandbox=NO
"""


class FileSample(Sample, frozen=True):
    """Hold how much curl or wrk received in its time: Gbit, or thousands of requests."""

    units: float
    seconds: float

    @property
    def rate(self) -> float:
        return self.units / self.seconds


COLUMNS: list[Column] = [
    ("Gbit/s (wrk: 1000 requests/s)", 2, lambda s: s.rate),
]


def curl(url: str) -> FileSample:
    begin = time.monotonic()
    answer = subprocess.run(
        pinned(CLIENT_CPU, ("curl", "-sS", "-o", "/dev/null", "-w", "%{size_download}", url)),
        capture_output=True,
        check=True,
    )
    return FileSample(int(answer.stdout) * 8 / 1e9, time.monotonic() - begin)


def wrk(url: str, seconds: float) -> FileSample:
    answer = subprocess.run(
        pinned(CLIENT_CPU, ("wrk", "-t1", "-c20", f"-d{round(seconds)}s", url)),
        capture_output=True,
        check=True,
        text=True,
    )
    rate = float(answer.stdout.partition("Requests/sec:")[2].split()[0])
    return FileSample(rate * seconds / 1000, seconds)


def ours(kind: str, port: int) -> tuple[str, ...]:
    program = (sys.executable, "-m", "netmeasure", "server", "-B", "127.0.0.1", "-p", "0")
    return (*program, f"--{kind}", str(port))


def theirs(kind: str, port: int, root: Path, files: Path) -> tuple[str, ...]:
    text, program = (NGINX, "nginx") if kind == "http" else (VSFTPD, "vsftpd")
    config = root / f"{kind}-{port}.conf"
    config.write_text(text.format(root=root, port=port, files=files))
    return (program, "-c", str(config)) if kind == "http" else (program, str(config))


def download(kind: str, argv: Sequence[str], port: int, name: str) -> FileSample:
    with running(argv, port):
        return curl(f"{kind}://127.0.0.1:{port}/{name}")


def requests(argv: Sequence[str], port: int, name: str, seconds: float) -> FileSample:
    with running(argv, port):
        return wrk(f"http://127.0.0.1:{port}/{name}", seconds)


def large(kind: str, root: Path, files: Path, size: int) -> Case:
    def mine() -> FileSample:
        port = free_port()
        return download(kind, ours(kind, port), port, f"bytes/{size}")

    def peer() -> FileSample:
        port = free_port()
        return download(kind, theirs(kind, port, root, files), port, "large")

    opponent = "nginx" if kind == "http" else "vsftpd"
    return Case(f"{kind.upper()} against {opponent}, {size / GIB:g} GiB", mine, peer, target=1.0)


def small(root: Path, files: Path, name: str, seconds: float) -> Case:
    def mine() -> FileSample:
        port = free_port()
        return requests(ours("http", port), port, name, seconds)

    def peer() -> FileSample:
        port = free_port()
        return requests(theirs("http", port, root, files), port, name, seconds)

    return Case(f"HTTP against nginx, {name}, wrk", mine, peer, target=SMALL[name][1])


def make_cases(root: Path, seconds: float) -> list[Case]:
    files = root / "files"
    files.mkdir()
    size = max(1, round(2 * seconds)) * GIB
    with (files / "large").open("wb") as file:
        block = os.urandom(2**20)
        for _ in range(size // len(block)):
            file.write(block)
    for name, (length, _) in SMALL.items():
        (files / name).write_bytes(block[:length])
    for path, mode in ((root, 0o755), (files, 0o555)):  # vsftpd wants its root not to be writable
        path.chmod(mode)
    return [
        *(large(kind, root, files, size) for kind in ("http", "ftp")),
        *(small(root, files, name, max(1.0, seconds)) for name in SMALL),
    ]


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=MEMORY) as directory:
        main(__doc__, lambda seconds: make_cases(Path(directory), seconds), COLUMNS)
