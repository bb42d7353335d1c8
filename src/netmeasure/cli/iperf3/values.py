"""Convert the values of iperf3's options.

Each function takes the word and returns the value, or raises SpecError with iperf3's sentence.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from netmeasure.cli.iperf3.c_numbers import (
    atof,
    atoi,
    starts_with_integer,
    strtol,
    with_unit,
)
from netmeasure.errors import SpecError

_LINK_LOCAL = re.compile(r"(?:fe[89ab][0-9a-f]|ff[0-9a-f]{2}):", re.IGNORECASE)

FORMATS = "kmgtKMGT"
MAX_TIME_S = 86_400
MAX_TIMEOUT_MS = 86_400_000
MAX_OMIT_S = 600
MAX_STREAMS = 128
MAX_BURST = 1000
MAX_MSS = 32_767
MAX_WINDOW = 512 * 1024 * 1024
MAX_BLOCK = 1024 * 1024
MIN_DATAGRAM, MAX_DATAGRAM = 16, 65_507
MAX_CPU = 1024
MIN_INTERVAL_S, MAX_INTERVAL_S = 0.1, 60.0


def refused(name: str) -> SpecError:
    """Return the error with iperf3's sentence on what `protocol.ErrorCode` calls `name`."""
    from netmeasure.protocol import ErrorCode  # imported only if a value is refused

    return SpecError(ErrorCode[name].sentence)


def u1024(word: str) -> int:
    """Return a size or a count: a number with k, m, g or t, powers of 1024."""
    return with_unit(word, 1024)


def u1000(word: str) -> int:
    """Return a rate: a number with k, m, g or t, powers of 1000."""
    return with_unit(word, 1000)


def text(word: str) -> str:
    """Return a word for the peer or the kernel, in which invalid UTF-8 is replaced."""
    return word.encode(errors="surrogateescape").decode(errors="replace")


# ---- the values of single options ----------------------------------------------------------------


def port(word: str) -> int:
    number = atoi(word)
    if not 1 <= number <= 65_535:
        raise SpecError("port number must be between 1 and 65535 inclusive")
    return number


def report_format(word: str) -> str:
    if word[:1] not in tuple(FORMATS):
        raise SpecError("bad format specifier (valid formats are in the set [kmgtKMGT])")
    return word[0]


def interval(word: str) -> float:
    seconds = atof(word)
    if seconds != 0 and not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise SpecError("invalid report interval (min = 0.1, max = 60 seconds)")
    return seconds


def duration(word: str) -> int:
    seconds = atoi(word)
    if not 0 <= seconds <= MAX_TIME_S:
        raise refused("DURATION")
    return seconds


def server_duration(word: str) -> int:
    seconds = atoi(word)
    if not 0 <= seconds <= MAX_TIME_S:
        raise refused("DURATION_LIMIT")
    return seconds


def omit(word: str) -> int:
    seconds = atoi(word)
    if not 0 <= seconds <= MAX_OMIT_S:
        raise refused("OMIT")
    return seconds


def streams(word: str) -> int:
    number = atoi(word)
    if not 1 <= number <= MAX_STREAMS:
        raise refused("STREAMS")
    return number


def mss(word: str) -> int:
    size = atoi(word)
    if not 0 <= size <= MAX_MSS:
        raise refused("MSS_SIZE")
    return size


def window(word: str) -> int:
    size = u1024(word)
    if size > MAX_WINDOW:
        raise refused("BUFFER_SIZE")
    return size


class Bitrate(NamedTuple):
    bps: int
    burst: int | None


def bitrate(word: str) -> Bitrate:
    """Return the value of RATE[/BURST]: bit/s, 0 for no limit, and blocks sent at a time."""
    rate, slash, count = word.partition("/")
    burst = atoi(count) if slash else None
    if burst is not None and not 1 <= burst <= MAX_BURST:
        raise refused("BURST")
    return Bitrate(u1000(rate), burst)


class RateLimit(NamedTuple):
    bps: int
    averaged_over_s: float


def rate_limit(word: str) -> RateLimit:
    """Return the value of RATE[/SECONDS]: bit/s of a test's streams, averaged over so long."""
    rate, slash, text = word.partition("/")
    seconds = atof(text) if slash else 5.0
    if seconds != 0 and not MIN_INTERVAL_S <= seconds <= MAX_INTERVAL_S:
        raise SpecError(
            "bitrate limit averaging interval is out of range (min = 0.1, max = 60 seconds)"
        )
    return RateLimit(u1000(rate), seconds)


class Affinity(NamedTuple):
    here: int
    server: int | None


def affinity(word: str) -> Affinity:
    """Return the value of CPU[,CPU]: for this process, and for the server during this test."""
    here, comma, there = word.partition(",")
    if not starts_with_integer(here):
        raise refused("AFFINITY")
    chosen = Affinity(atoi(here), atoi(there) if comma else None)
    if not all(cpu is None or 0 <= cpu <= MAX_CPU for cpu in chosen):
        raise refused("AFFINITY")
    return chosen


def tos(word: str) -> int:
    number = strtol(word)[0]
    if not 0 <= number <= 255:
        raise refused("TOS_VALUE")
    return number


#: Class selectors and assured forwarding by their arithmetic (RFC 2474, RFC 2597), and the rest by
#: name; the last three are bits of the old type of service (RFC 1349), as iperf3 takes them.
_CODE_POINTS = (
    {f"cs{n}": 8 * n << 2 for n in range(8)}
    | {f"af{n}{drop}": (8 * n + 2 * drop) << 2 for n in range(1, 5) for drop in range(1, 4)}
    | {"ef": 46 << 2, "va": 44 << 2}
    | {"lowdelay": 0x10, "throughput": 0x08, "reliability": 0x04}
)


def dscp(word: str) -> int:
    """Return a differentiated-services code point, by number or name, as the whole octet."""
    if word.lower() in _CODE_POINTS:
        return _CODE_POINTS[word.lower()]
    number, rest = strtol(word)
    if rest or not word or not 0 <= number <= 63:
        raise SpecError(
            "bad DSCP value (numeric: 0-63 inclusive, symbolic: one of [af11-13, af21-23, af31-33,"
            " af41-43, cs1-7, ef, va, lowdelay, throughput, reliability])"
        )
    return number << 2


def flow_label(word: str) -> int:
    number = strtol(word)[0]
    if not 1 <= number <= 0xFFFFF:
        raise SpecError("unable to set IPv6 flow label")
    return number


def receive_timeout(word: str) -> int:
    number = atoi(word)
    if not 100 <= number <= MAX_TIMEOUT_MS:
        raise SpecError("receive timeout value is incorrect or not in range: ")
    return number


def send_timeout(word: str) -> int:
    number = atoi(word)
    if not 0 <= number <= MAX_TIMEOUT_MS:
        raise SpecError("send timeout value is incorrect or not in range: ")
    return number


def idle_timeout(word: str) -> int:
    number = atoi(word)
    if not 1 <= number <= MAX_TIME_S:
        raise SpecError("idle timeout parameter is not positive or larger than allowed limit")
    return number


def skew_threshold(word: str) -> int:
    number = atoi(word)
    if number <= 0:
        raise SpecError("skew threshold must be a positive number")
    return number


def debug_level(word: str | None) -> int:
    level = 4 if word is None else atoi(word)
    return level if 1 <= level <= 4 else 4


class Keepalive(NamedTuple):
    """Hold keepalive's numbers; None: the system's own."""

    idle_s: int | None
    interval_s: int | None
    probes: int | None


def keepalive(word: str | None) -> Keepalive:
    """Return the value of [IDLE][/[INTERVAL][/COUNT]]; 0 or nothing leaves the system's own."""
    parts = [atoi(part) or None for part in (word or "").split("/", 2)]
    chosen = Keepalive(*parts, *(None,) * (3 - len(parts)))
    idle, period, probes = chosen
    wrong = any(part is not None and part < 0 for part in chosen)
    if wrong or (idle and period and probes and idle <= period * probes):
        raise SpecError(
            "control connection keepalive period should be larger than the full retry period"
            " (interval * count)"
        )
    return chosen


class Place(NamedTuple):
    host: str
    device: str | None


def place(word: str) -> Place:
    """Return the value of HOST[%DEVICE]; link-local IPv6 addresses keep their scope."""
    host, percent, device = text(word).partition("%")
    if not percent or _LINK_LOCAL.match(host):
        return Place(text(word), None)
    return Place(host, device)
