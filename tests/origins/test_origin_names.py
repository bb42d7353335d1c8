"""Test names to sizes, ranges to parts, offsets to content: the rules that the servers share."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from netmeasure.errors import UnsatisfiableRangeError
from netmeasure.origins.catalog import SAMPLES, size_of
from netmeasure.origins.content import BLOCK_BYTES, Content
from netmeasure.origins.ranges import parse_range

GIB = 2**30
LIMIT = 2**50


@pytest.mark.parametrize(
    ("path", "size"),
    [
        ("/0", 0),
        ("/1", 1),
        ("/bytes/1500", 1500),
        ("/bytes/0", 0),
        ("/10G.dat", 10 * GIB),
        ("/400M.bin", 400 * 2**20),
        ("/1GiB", GIB),
        ("/1GB", 10**9),
        ("/1gb.dat", 10**9),
        ("/1.5G", GIB * 3 // 2),
        ("/1.5G.bin", GIB * 3 // 2),
        ("/64K.dat", 65536),
        ("/100.dat", 100),
        ("/1P", None),  # unknown unit
        ("/1024T", LIMIT),
        ("/1025T", None),
        ("/bytes/99999999999999999999", None),
        ("/" + "9" * 5000, None),
        ("/", None),
        ("", None),
        ("/bytes", None),
        ("/bytes/", None),
        ("/bytes/1K", None),
        ("/1K/", None),
        ("/1K.tar.gz", None),
        ("/x.dat", None),
        ("/-1", None),
        ("/1 K", None),
        (" /1K", None),
        ("/1K\n", None),
        ("/\u0661K", None),
        ("/..", None),
        ("/1..5", None),
        ("/etc/passwd", None),
    ],
)
def test_name_to_size(path: str, size: int | None) -> None:
    assert size_of(path, LIMIT) == size


def test_samples_are_names() -> None:
    assert all(size_of(f"/{name}", LIMIT) is not None for name in SAMPLES)


@given(st.text())
def test_any_text_is_a_name_or_none(text: str) -> None:
    size = size_of("/" + text, LIMIT)
    assert size is None or 0 <= size <= LIMIT


@pytest.mark.parametrize(
    ("header", "part"),
    [
        (None, None),
        ("bytes=0-0", (0, 1)),
        ("bytes=0-", (0, 1000)),
        ("bytes=10-19", (10, 10)),
        ("bytes=990-5000", (990, 10)),
        ("bytes=-5", (995, 5)),
        ("bytes=-5000", (0, 1000)),
        ("Bytes = 1-2", (1, 2)),
        ("bytes=999-", (999, 1)),
        # a range that is not understood, or several: the whole file
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=5-2", None),
        ("bytes=0-1,4-5", None),
        ("lines=0-1", None),
        ("bytes=a-b", None),
        ("bytes=0-99999999999999999999", None),
    ],
)
def test_range(header: str | None, part: tuple[int, int] | None) -> None:
    assert parse_range(header, 1000) == part


@pytest.mark.parametrize("header", ["bytes=1000-", "bytes=1000-1001", "bytes=-0"])
def test_range_outside(header: str) -> None:
    with pytest.raises(UnsatisfiableRangeError):
        parse_range(header, 1000)


def test_no_range_of_an_empty_file() -> None:
    for header in ("bytes=0-", "bytes=-1"):
        with pytest.raises(UnsatisfiableRangeError):
            parse_range(header, 0)


@given(st.integers(0, 2**62), st.integers(1, 1000))
def test_content_depends_on_the_offset_only(offset: int, length: int) -> None:
    content = CONTENT
    assert content.view(offset, length) == content.view(offset % BLOCK_BYTES, length)
    assert content.cycle(offset)[:length] == content.view(offset, length)


def test_content_is_the_same_in_every_server() -> None:
    assert Content().cycle(0) == CONTENT.cycle(0)


CONTENT = Content()
