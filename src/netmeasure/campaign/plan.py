"""Define a campaign's plan: its tests, variants and targets. Write the usual plan."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any

import msgspec

from netmeasure.spec import DEFAULT_MARGIN, Spec

DEFAULT_RUNS = 5
DEFAULT_BASELINE_S = 2.0
DEFAULT_COMMAND_S = 60.0
#: The placeholder for the target's host in the URL of a test.
HOST = "{host}"

Commands = tuple[tuple[str, ...], ...]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a variant: one of the things that a campaign compares, such as a CNI plug-in or a
    kernel.

    Attributes:
        name: The variant's name in tables.
        before: Commands to run before each run of the variant, each a program with its arguments;
            no shell.
        after: Commands to run after each run of the variant.
    """

    name: str
    before: Commands = ()
    after: Commands = ()


class Case(msgspec.Struct, frozen=True, kw_only=True):
    """Hold one test of one variant on one target.

    Attributes:
        test: The test's name with the values of its sweeps, such as "TCP upload streams=4".
        target: The target's name.
        variant: The variant's name.
        address: The address to measure: "host", "host:port", or a URL.
        port: The server's port if the address has none; None: 5201, or the URL's own.
        spec: The test's specification.
    """

    test: str
    target: str
    variant: str
    address: str
    port: int | None = None
    spec: Spec


class Plan(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a plan: tests, variants and targets, and the number of runs of each combination.

    Attributes:
        title: The title of the campaign.
        runs: The number of runs of each case.
        seed: The seed of the order of the runs; None: a new one for each campaign.
        baseline_s: Seconds to observe this host at rest before the first run; 0: do not.
        margin: Bitrates that differ by no more than this share count as equal.
        command_timeout_s: The time limit of each command.
        variants: The variants. The first one is the reference for the others.
        cases: All tests of all variants on all targets.
    """

    title: str = ""
    runs: int = DEFAULT_RUNS
    seed: int | None = None
    baseline_s: float = DEFAULT_BASELINE_S
    margin: float = DEFAULT_MARGIN
    command_timeout_s: float = DEFAULT_COMMAND_S
    variants: tuple[Variant, ...]
    cases: tuple[Case, ...]

    @property
    def digest(self) -> str:
        """Return a digest that identifies the plan; the title is no part of it."""
        same = msgspec.structs.replace(self, title="")
        return hashlib.sha256(msgspec.json.encode(same)).hexdigest()[:16]


def default_plan(
    hosts: Sequence[str],
    *,
    runs: int = DEFAULT_RUNS,
    duration: str = "5s",
    port: int | None = None,
    http_port: int | None = None,
    ftp_port: int | None = None,
) -> dict[str, Any]:
    """Return the TOML document of a usual plan: TCP and UDP in both directions, round trips, and
    files.

    Args:
        hosts: The servers. If there are several, each is a variant, and the first is the reference.
        runs: How many runs of each test.
        duration: How long each test lasts.
        port: Their port; None: 5201.
        http_port: Their port of synthetic files by HTTP (`netmeasure server --http`); None: none.
        ftp_port: Their port of synthetic files by FTP (`netmeasure server --ftp`); None: none.
    """
    tests: list[dict[str, Any]] = [
        {"kind": "tcp", "direction": "download"},
        {"kind": "tcp", "direction": "upload"},
        {"kind": "tcp", "direction": "download", "streams": 8, "name": "TCP download 8 streams"},
        {"kind": "udp", "direction": "download", "target_bps": "100M"},
        {"kind": "udp", "direction": "upload", "target_bps": "100M"},
        {"kind": "rr"},
    ]
    for scheme, number in (("http", http_port), ("ftp", ftp_port)):
        if number is not None:
            url = f"{scheme}://{HOST}:{number}/10G.dat"
            tests.append({"kind": scheme, "url": url})
    document: dict[str, Any] = {"runs": runs, "defaults": {"duration_s": duration}, "test": tests}
    if port is not None:
        document["port"] = port
    if len(hosts) == 1:
        return document | {"target": hosts[0]}
    return document | {"variant": [{"name": host, "target": host} for host in hosts]}
