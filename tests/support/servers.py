"""Run the real nginx, vsftpd and curl, on one side of a pair of namespaces or on this host."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.census import settle
from support.netns import NamespacePair
from support.ports import free_port

PASSIVE_PORTS = (30_000, 30_099)

_NGINX = """
daemon off; master_process off; pid {directory}/pid; error_log stderr;
events {{ worker_connections 256; }}
http {{
  access_log off; sendfile on; client_max_body_size 0; client_body_temp_path {directory}/body;
  server {{ listen {address}:{port}; root {root}; location /up {{ dav_methods PUT; }} }}
}}
"""
_VSFTPD = """
listen=YES
listen_address={address}
listen_port={port}
background=NO
anonymous_enable=YES
no_anon_password=YES
anon_root={root}
anon_upload_enable=YES
write_enable=YES
secure_chroot_dir={directory}/empty
pasv_min_port={passive[0]}
pasv_max_port={passive[1]}
seccomp_sandbox=NO
"""


def available(*programs: str) -> str | None:
    """Return why these programs can't be used here, or None."""
    missing = [name for name in programs if program(name) is None]
    return f"{' and '.join(missing)} not installed" if missing else None


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


@dataclass(frozen=True)
class FileServer:
    """Hold a server of the files below `root`."""

    scheme: str
    address: str
    port: int
    root: Path

    def url(self, name: str) -> str:
        return f"{self.scheme}://{self.address}:{self.port}/{name}"

    def add(self, name: str, size: int) -> None:
        """Add a file of zeros that takes no disk space."""
        with (self.root / name).open("wb") as file:
            file.truncate(size)
        (self.root / name).chmod(0o644)


@contextlib.contextmanager
def nginx(network: NamespacePair | None = None) -> Iterator[FileServer]:
    with _serving("http", "nginx", _NGINX, network, lambda path: ("-c", path)) as server:
        yield server


@contextlib.contextmanager
def vsftpd(network: NamespacePair | None = None) -> Iterator[FileServer]:
    with _serving("ftp", "vsftpd", _VSFTPD, network, lambda path: (path,)) as server:
        yield server


@contextlib.contextmanager
def _serving(
    scheme: str, name: str, template: str, network: NamespacePair | None, options: Any
) -> Iterator[FileServer]:
    binary = program(name)
    assert binary is not None
    address = network.server.address if network else "127.0.0.1"
    with tempfile.TemporaryDirectory(prefix="netmeasure-") as text:
        directory = Path(text)
        directory.chmod(0o755)
        root = directory / "root"
        for path, mode in ((root, 0o755), (directory / "empty", 0o555)):
            path.mkdir(mode=mode)
        (root / "up").mkdir()
        (root / "up").chmod(0o777)
        with network.enter("server") if network else contextlib.nullcontext():
            port = free_port()
        server = FileServer(scheme, address, port, root)
        config = directory / "config"
        config.write_text(
            template.format(
                address=address, port=port, root=root, directory=directory, passive=PASSIVE_PORTS
            )
        )
        argv = [binary, *options(str(config))]
        where: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        process = network.popen("server", argv, **where) if network else _popen(argv, **where)
        try:
            with network.enter("server") if network else contextlib.nullcontext():
                assert settle(lambda: _listens(address, port), 10), f"{name} does not listen"
            yield server
        finally:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _popen(argv: Sequence[str], **where: Any) -> subprocess.Popen[Any]:
    return subprocess.Popen(argv, **where)


def _listens(address: str, port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((address, port)) == 0


@dataclass(frozen=True)
class Curl:
    """Hold what curl reports of a download, under curl's names (seconds and bytes per second)."""

    time_connect: float
    time_pretransfer: float
    time_starttransfer: float
    time_total: float
    size_download: int
    speed_download: float


_WORDS = tuple(Curl.__dataclass_fields__)


def curl(url: str, network: NamespacePair | None = None, timeout: float = 60.0) -> Curl:
    """Download a file and discard it."""
    form = "{" + ",".join(f'"{word}":%{{{word}}}' for word in _WORDS) + "}"
    argv = ["curl", "--silent", "--show-error", "--output", os.devnull, "--write-out", form, url]
    done = subprocess.run(
        network.command("client", argv) if network else argv,
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert done.returncode == 0, done.stderr
    return Curl(**json.loads(done.stdout))
