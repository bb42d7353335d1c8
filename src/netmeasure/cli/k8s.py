"""Run `netmeasure k8s render`: write the Kubernetes objects that run a plan, as JSON."""

from __future__ import annotations

import argparse
from pathlib import Path

import msgspec

from netmeasure.cli.exits import Exit, complain
from netmeasure.cli.output import check_writable, write_json
from netmeasure.errors import PlanError, SpecError
from netmeasure.manifests.render import render_manifests


async def k8s(options: argparse.Namespace) -> int:
    """Write the objects; return the exit code."""
    check_writable(options.output)
    plan = _read(options.plan)
    given = {} if options.image is None else {"image": options.image}
    try:
        found = render_manifests(
            plan,
            name=options.name,
            host_network=options.host_network,
            server_node=options.server_node,
            client_node=options.client_node,
            **given,
        )
    except PlanError as exc:
        for mistake in exc.mistakes:
            complain(SpecError(f"{options.plan}: {mistake}"))
        return Exit.USAGE
    write_json(msgspec.json.format(msgspec.json.encode(found), indent=2), options.output)
    return Exit.OK


def _read(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as exc:
        raise SpecError(f"can't read {path}: {exc.strerror}") from None
