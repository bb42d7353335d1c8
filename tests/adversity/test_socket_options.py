"""Test kernels and sandboxes that lack socket options: only the lack of an option that the test
needs ends it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from support.refusing import OPTIONS, built, outcomes

pytestmark = pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is not installed")
#: Options that the user sets explicitly are required, and the error names them.
ASKED = {
    "TCP_CONGESTION": "congestion control",
    "TCP_MAXSEG": "MSS",
    "TCP_NODELAY": "small segments",
    "SO_MAX_PACING_RATE": "pacing rate",
    "SO_SNDBUF": "window",
    "SO_RCVBUF": "window",
    "IP_TOS": "type of service",
}
#: Options that a kind of test requires: all UDP streams have sockets on the server's port.
NEEDED = {
    "plain": {},
    "udp": {
        "SO_REUSEADDR": "the server gave up: the server's host lacks what another data connection"
        " takes"
    },
}


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built(tmp_path_factory.mktemp("shim"))


def at_all(found: dict[str, Any]) -> int:
    return sum(told["refused"] > 0 for told in found.values())


@pytest.mark.parametrize("kind", ["plain", "udp"])
def test_options_that_the_user_did_not_request(shim: Path, kind: str) -> None:
    found = outcomes(shim, kind)
    assert set(found) == set(OPTIONS)
    failed = {name: told["error"] for name, told in found.items() if told["error"]}
    assert {name: words for name, (_, words, *_) in failed.items()} == NEEDED[kind]
    assert all(told["complete"] for name, told in found.items() if name not in failed)
    assert at_all(found) >= 8  # these were refused, and the tests went on


def test_options_that_the_user_requested(shim: Path) -> None:
    found = outcomes(shim, "asked")
    failed = {name: told["error"] for name, told in found.items() if told["error"]}
    assert set(failed) == set(ASKED)
    for name, (code, message, hint, phase) in failed.items():
        assert code in ("socket_option", "peer_refused")
        assert phase == "connect"
        assert ASKED[name] in message
        assert hint
