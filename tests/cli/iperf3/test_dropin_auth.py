"""Test credentials with the real iperf3, which pads as before 3.17, and between two of ours."""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from support import census, warm
from support.iperf3 import OURS, REAL, server

pytestmark = pytest.mark.interop

USER, PASSWORD = "mario", "its-me"
OLD = ("--use-pkcs1-padding",)


class Keys(NamedTuple):
    private: Path
    public: Path
    users: Path


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Keys:
    where = tmp_path_factory.mktemp("keys")
    made = Keys(where / "private.pem", where / "public.pem", where / "users.csv")
    for argv in (
        ("genrsa", "-out", str(made.private), "2048"),
        ("rsa", "-in", str(made.private), "-pubout", "-out", str(made.public)),
    ):
        subprocess.run(("openssl", *argv), check=True, capture_output=True)
    digest = hashlib.sha256(f"{{{USER}}}{PASSWORD}".encode()).hexdigest()
    made.users.write_text(f"# who\n{USER},{digest}\n")
    return made


def of_server(keys: Keys) -> tuple[str, ...]:
    private, _, users = map(str, keys)
    return ("--rsa-private-key-path", private, "--authorized-users-path", users)


def ask(
    program: Sequence[str], port: int, keys: Keys, *more: str, password: str | None = PASSWORD
) -> subprocess.CompletedProcess[str]:
    environment = {k: v for k, v in os.environ.items() if k != "IPERF3_PASSWORD"}
    if password is not None:
        environment["IPERF3_PASSWORD"] = password
    words = ("-c", "127.0.0.1", "-p", str(port), "-n", "1M", "--username", USER)
    return warm.run(
        (*program, *words, "--rsa-public-key-path", str(keys.public), *more),
        capture_output=True,
        text=True,
        timeout=30,
        env=environment,
        input=f"{PASSWORD}\n",
        check=False,
    )


def test_our_client_with_the_real_server(keys: Keys) -> None:
    with server(args=of_server(keys)) as running:
        ran = ask(OURS, running.port, keys, *OLD)
        assert (ran.returncode, ran.stderr) == (0, "")
        running.wait_listening()
        ran = ask(OURS, running.port, keys, *OLD, password="wrong")
        assert (ran.returncode, ran.stdout.count("\n")) == (1, 1)  # "Connecting to host"
        assert ran.stderr == "iperf3: error - test authorization failed\n"


def test_the_real_client_with_our_server(keys: Keys) -> None:
    with server(program=OURS, args=(*of_server(keys), *OLD)) as running:
        assert ask(REAL, running.port, keys).returncode == 0
        ran = ask(REAL, running.port, keys, password="wrong")
        assert (ran.returncode, ran.stdout.count("\n")) == (1, 1)  # "Connecting to host"
        assert ran.stderr == "iperf3: error - test authorization failed\n"
        assert census.settle(lambda: ran.stderr in running.output, 30)


def test_between_two_of_ours(keys: Keys) -> None:
    """A refused client does not count for a one-off server. The password may be typed."""
    with server(program=OURS, args=("-1", *of_server(keys))) as running:
        assert ask(OURS, running.port, keys, password="wrong").returncode == 1
        plain = warm.run(
            (*OURS, "-c", "127.0.0.1", "-p", str(running.port)), capture_output=True, text=True
        )
        assert plain.returncode == 1
        assert plain.stderr == "iperf3: error - test authorization failed\n"
        assert ask(OURS, running.port, keys, password=None).returncode == 0
        assert running.process.wait(30) == 0


def test_files_that_are_no_keys(keys: Keys) -> None:
    sentence = "iperf3: parameter error - you must specify a"
    wrong = keys._replace(public=keys.users)
    ran = ask(OURS, 1, wrong)
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        f"{sentence} username, password, and path to a valid RSA public key"
    )
    argv = (*OURS, "-s", *of_server(keys._replace(private=keys.users)))
    ran = warm.run(argv, capture_output=True, text=True, timeout=10)
    assert ran.returncode == 1
    assert ran.stderr.startswith(
        f"{sentence} path to a valid RSA private key and a user credential"
    )
