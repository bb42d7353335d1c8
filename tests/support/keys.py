"""Make RSA keys for tests, once, by the openssl command."""

import subprocess
from functools import cache
from typing import NamedTuple


class KeyPair(NamedTuple):
    private: bytes
    public: bytes


@cache
def pair(bits: int, number: int = 0) -> KeyPair:
    """Return a key pair as PEM texts; each number has its own pair."""
    made = subprocess.run(["openssl", "genrsa", str(bits)], capture_output=True, check=True)
    out = ["openssl", "rsa", "-pubout"]
    public = subprocess.run(out, input=made.stdout, capture_output=True, check=True).stdout
    return KeyPair(made.stdout, public)


KEYS = pair(2048)
OTHER_KEYS = pair(2048, 1)
SMALL_KEYS = pair(1024)
