"""Make certificates for tests of TLS by the openssl program."""

from __future__ import annotations

import atexit
import functools
import shutil
import ssl
import subprocess
import tempfile
from pathlib import Path
from typing import NamedTuple


class Certificate(NamedTuple):
    """Hold a certificate that is signed by itself, so it is its own CA file."""

    pem: Path
    key: Path

    def server(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.pem, self.key)
        return context


def available() -> str | None:
    """Return why no certificate can be made here, or None."""
    return None if shutil.which("openssl") else "there is no openssl"


@functools.cache
def _directory() -> Path:
    directory = tempfile.mkdtemp(prefix="certificates-")
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    return Path(directory)


_CONFIG = """
[ca]
default_ca = here
[here]
database = {0}/index
new_certs_dir = {0}
serial = {0}/serial
default_md = sha256
policy = any
unique_subject = no
[any]
commonName = supplied
[leaf]
basicConstraints = critical, CA:TRUE
subjectAltName = {1}
"""


@functools.cache
def certificate(names: str = "DNS:localhost,IP:127.0.0.1", *, expired: bool = False) -> Certificate:
    """Make a certificate for these names; one that is `expired` has been invalid since 2011."""
    directory = Path(tempfile.mkdtemp(dir=_directory()))
    pem, key = directory / "certificate.pem", directory / "key.pem"
    config, request = directory / "config", directory / "request"
    config.write_text(_CONFIG.format(directory, names))
    (directory / "index").touch()
    (directory / "serial").write_text("01")
    new_key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    asked = ["-keyout", str(key), "-subj", "/CN=netmeasure test", "-out", str(request)]
    _openssl("req", "-new", *new_key, *asked)
    dates = ["-startdate", "20100101000000Z", "-enddate", f"20{11 if expired else 49}0101000000Z"]
    signed = ["-selfsign", "-keyfile", str(key), "-in", str(request), "-out", str(pem)]
    how = ["-batch", "-notext", "-config", str(config), "-extensions", "leaf"]
    _openssl("ca", *how, *dates, *signed)
    return Certificate(pem, key)


def _openssl(*words: str) -> None:
    done = subprocess.run(["openssl", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
