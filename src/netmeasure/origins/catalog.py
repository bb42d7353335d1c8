"""Parse the names of the embedded servers' files: a name is a size, "/10G.dat" or "/bytes/1500".

Sizes have the syntax of :func:`netmeasure.units.parse_size`: K, M, G and KiB, MiB, GiB are binary,
KB, MB, GB are decimal. One extension (".dat", ".bin") may follow and is ignored.
"""

from __future__ import annotations

import re

from netmeasure.errors import SpecError
from netmeasure.units import parse_size

#: The names in a listing; every other size is a valid name, too.
SAMPLES = ("0", "1K.dat", "64K.dat", "1M.dat", "10M.dat", "100M.dat", "400M.dat", "1G.dat")
#: The directory in which a name is a number of bytes.
BYTES = "bytes"
DIRECTORIES = ("/", f"/{BYTES}")

_NAME = re.compile(r"/([0-9]+(?:\.[0-9]+)?[A-Za-z]{0,3})(?:\.[A-Za-z]{1,8})?")
_NUMBER = re.compile(rf"/{BYTES}/([0-9]{{1,20}})")


def size_of(path: str, max_bytes: int) -> int | None:
    """Return the size in bytes of the file at an absolute path; None if there is no such file, or
    it would be larger than `max_bytes`."""
    named = _NUMBER.fullmatch(path) or _NAME.fullmatch(path)
    if named is None:
        return None
    try:
        size = parse_size(named[1])
    except SpecError:
        return None
    return size if size <= max_bytes else None
