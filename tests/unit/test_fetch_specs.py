"""Test the specifications of transfers by URL, and small functions for them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import msgspec
import pytest
from hypothesis import given, strategies as st

import netmeasure as nm
from netmeasure.cli.specs import _byte_range
from netmeasure.client import fetch_spec
from netmeasure.result import Spread
from netmeasure.spec import parse_pin
from netmeasure.spec.target import is_url
from netmeasure.text import QUOTED_CHARACTERS
from netmeasure.transfers.fetch import _shares
from netmeasure.transfers.outcome import without_secrets
from netmeasure.transfers.reach import plain_words, public_url

BYTES = nm.Timing(total_bytes=5)


@pytest.mark.parametrize("kind", [nm.HttpSpec, nm.FtpSpec])
@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"streams": 0}, "number of streams"),
        ({"streams": 129}, "number of streams"),
        ({"block_bytes": 1023}, "block size"),
        ({"first_byte": -1}, "first byte"),
        ({"first_byte": 5, "last_byte": 4}, "last byte"),
        ({"last_byte": -1}, "last byte"),
        ({"timing": nm.Timing(total_blocks=5)}, "no blocks"),
        ({"repeat": True}, "needs an end"),
        ({"timing": nm.Timing(total_bytes=5, omit_s=1)}, "can't be omitted"),
        ({"keep_connections": True}, "kept only"),
        ({"direction": "upload"}, "needs an end"),
        ({"direction": "upload", "timing": BYTES, "repeat": True}, "can't be repeated"),
        ({"direction": "upload", "timing": BYTES, "first_byte": 1}, "part of a file"),
        ({"direction": "both"}, "direction"),
        ({"pins": ("a:b:c",)}, "HOST:PORT:ADDRESS"),
        ({"url": "gopher://h/"}, "not a URL of"),
        ({"url": "host"}, "not a URL of"),
        ({"passive": "active", "method": "G ET"}, None),
    ],
)
def test_wrong_values(kind: Any, options: dict[str, Any], words: str | None) -> None:
    if words is None:
        options = {("method" if kind is nm.HttpSpec else "passive"): "not one"}
    with pytest.raises(nm.SpecError, match=words):
        kind(**options)


@pytest.mark.parametrize("kind", [nm.HttpSpec, nm.FtpSpec])
def test_a_transfer_that_ends_itself_has_its_end(kind: Any) -> None:
    until = nm.Timing(until=0.02)
    assert kind(timing=until, direction="upload").limit_s == 60
    assert kind(timing=until, repeat=True).limit_s == 60
    assert kind(timing=nm.Timing(until=0.02, duration_s=9)).limit_s == 9


@pytest.mark.parametrize(
    "url", ["http://", "http:///x", "http://h:0/", "http://h:99999/", "http://h:x/", "http://[::1/",
            "http://h/a b", "http://h/\n", "http://h/\x00", "ftp://h/"]
)  # fmt: skip
def test_urls_that_are_refused(url: str) -> None:
    with pytest.raises(nm.SpecError):
        nm.HttpSpec(url=url)


@pytest.mark.parametrize("header", ["", "name", ": value", " : value", "a: b\r\nc: d", "a: \0"])
def test_headers_that_are_refused(header: str) -> None:
    with pytest.raises(nm.SpecError, match="not a header"):
        nm.HttpSpec(headers=(header,))


@pytest.mark.parametrize(
    "options",
    [
        {"user": "a\r\nDELE b"},
        {"password": "a\n"},
        {"user": "a\0"},
        {"url": "ftp://h/a%0D%0ADELE%20b"},
        {"url": "ftp://h/a%0a"},
        {"url": "ftp://h/a%00"},
        {"url": "ftp://us%0der@h/a"},
        {"url": "ftp://user:pass%0A@h/a"},
    ],
)
def test_no_commands_in_the_names_of_ftp(options: dict[str, str]) -> None:
    with pytest.raises(nm.SpecError, match="line breaks"):
        nm.FtpSpec(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize("redirects", [-1, 101])
def test_redirects(redirects: int) -> None:
    with pytest.raises(nm.SpecError, match="redirects"):
        nm.HttpSpec(max_redirects=redirects)


@pytest.mark.parametrize("spec", [nm.HttpSpec(url="http://h/"), nm.FtpSpec(url="ftps://h:1/%20")])
def test_good_ones_come_back_from_json(spec: nm.HttpSpec | nm.FtpSpec) -> None:
    assert spec.limit_s is None
    assert spec.total_bytes is None
    assert spec.kind == spec.url.partition(":")[0].upper()
    assert msgspec.json.decode(msgspec.json.encode(spec), type=type(spec)) == spec


def test_urls_and_specifications_must_fit() -> None:
    assert is_url("http://h")
    assert not is_url("h:80")
    assert fetch_spec("HTTP://h/x") == nm.HttpSpec(url="http://h/x")
    assert fetch_spec("ftp://h/x", nm.FtpSpec(streams=2)) == nm.FtpSpec(url="ftp://h/x", streams=2)
    for url, spec in (("http://h/", nm.FtpSpec()), ("ftp://h/", nm.TcpSpec()), ("x://h/", None)):
        with pytest.raises(nm.SpecError):
            fetch_spec(url, spec)
    for target, other, port in (("h", nm.HttpSpec(), None), ("http://h/", None, 80)):
        with pytest.raises(nm.SpecError):
            nm.connect(target, port=port).run(other)


@pytest.mark.parametrize(
    ("pin", "parsed"),
    [
        ("host:80:192.0.2.1", ("host", 80, "192.0.2.1")),
        ("HOST.example:443:2001:db8::1", ("host.example", 443, "2001:db8::1")),
        ("host:0:[::1]", ("host", 0, "::1")),
    ],
)
def test_pins(pin: str, parsed: tuple[str, int, str]) -> None:
    assert parse_pin(pin) == parsed


@pytest.mark.parametrize(
    "pin", ["", "host", "host:80", "host:80:", ":80:::1", "host:x:::1", "host:65536:::1",
            "host:-1:::1", "host:\u00b2:::1", "host:80:name", "host:80:192.0.2.256"]
)  # fmt: skip
def test_pins_that_are_refused(pin: str) -> None:
    with pytest.raises(nm.SpecError, match="HOST:PORT:ADDRESS"):
        parse_pin(pin)


# ---- the distribution of set-up ---------------------------------------------------------------


def test_the_spread_of_nothing() -> None:
    assert Spread.of([]) is None


@pytest.mark.parametrize(
    ("count", "median", "p95"), [(1, 1, 1), (2, 1, 2), (3, 2, 3), (20, 10, 19), (100, 50, 95)]
)
def test_nearest_rank(count: int, median: int, p95: int) -> None:
    found = Spread.of(list(range(count, 0, -1)))
    assert found is not None
    assert (found.count, found.min_ns, found.max_ns) == (count, 1, count)
    assert (found.median_ns, found.p95_ns) == (median, p95)


@given(st.lists(st.integers(0, 1 << 40), min_size=1))
def test_percentiles_cover_their_share(durations: Sequence[int]) -> None:
    found = Spread.of(durations)
    assert found is not None
    for percent, value in ((50, found.median_ns), (95, found.p95_ns)):
        needed = math.ceil(len(durations) * percent / 100)
        assert value in durations
        assert sum(one <= value for one in durations) >= needed
        assert sum(one < value for one in durations) < needed


# ---- shares, ranges, secrets ------------------------------------------------------------------


@given(st.integers(1, 1 << 62), st.integers(1, 128))
def test_shares_sum_up(total: int, streams: int) -> None:
    shares = [share for share in _shares(total, streams) if share is not None]
    assert len(shares) == streams
    assert sum(shares) == total
    assert max(shares) - min(shares) <= 1


def test_no_shares_without_a_limit() -> None:
    assert _shares(None, 2) == [None, None]


@pytest.mark.parametrize(
    ("text", "parsed"),
    [(None, (None, None)), ("0-", (0, None)), ("5-9", (5, 9)), ("-9", (0, 9)), ("007-8", (7, 8))],
)
def test_ranges(text: str | None, parsed: tuple[int | None, int | None]) -> None:
    assert _byte_range(text) == parsed


@pytest.mark.parametrize(
    "text", ["", "-", "5", "a-b", "5-x", "1-2-3", "+1-2", "\u00b2-\u00b3", "1.0-2"]
)
def test_ranges_that_are_refused(text: str) -> None:
    with pytest.raises(nm.SpecError, match="range"):
        _byte_range(text)


def test_what_is_kept_of_secrets() -> None:
    headers = ("Authorization: Bearer pssst", "cookie : pssst", "X-Good: shown")
    url = "http://anna:pssst@h:1/x?y"
    clean = without_secrets(nm.HttpSpec(url=url, user="u", password="pssst", headers=headers))
    assert isinstance(clean, nm.HttpSpec)
    assert "pssst" not in str(clean)
    assert (clean.url, clean.user) == ("http://h:1/x?y", "u")
    assert clean.headers[2] == "X-Good: shown"
    assert public_url("ftp://a:b@[::1]:1/x") == "ftp://[::1]:1/x"


def test_foreign_text_is_one_short_line() -> None:
    assert plain_words(ValueError("a\n  b")) == "a b"
    assert plain_words(ValueError()) == "ValueError"
    assert len(plain_words(ValueError("x" * 10_000))) == QUOTED_CHARACTERS


@pytest.mark.parametrize("kind", ["a", "A", "d"])
def test_ftp_is_binary(kind: str) -> None:
    """RFC 1738, 3.2.2: "a" requests text and "d" requests a list; neither can be measured."""
    with pytest.raises(nm.SpecError, match=f"binary here, and the URL asks for ;type={kind}"):
        nm.FtpSpec(url=f"ftp://lab1/file;type={kind}")


def test_the_type_that_is_used_may_be_named() -> None:
    nm.FtpSpec(url="ftp://lab1/file;type=i")
    nm.FtpSpec(url="ftp://lab1/file%3Btype=a")
