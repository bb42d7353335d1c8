"""Test `k8s render`: its objects against the schemas of Kubernetes and the program's options."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

import netmeasure as nm
from netmeasure.cli import main
from netmeasure.cli.exits import Exit
from netmeasure.cli.options import parser
from support.program import one_line

PLAN = b"""
targets = ["netmeasure", "netmeasure-headless"]
[[test]]
kind = "tcp"
"""
VERSIONS = ("1.29", ".".join(kubernetes_validate.latest_version().split(".")[:2]))


def rendered(**options: Any) -> dict[str, dict[str, Any]]:
    """Return the objects by kind; of several services, the first."""
    found: dict[str, dict[str, Any]] = {}
    for one in nm.render_manifests(PLAN, **options)["items"]:
        found.setdefault(one["kind"], one)
    return found


def pod(manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    spec = manifest["spec"]["template"]["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("options", [{}, {"host_network": True, "client_node": "a"}])
def test_schema(options: dict[str, Any], version: str) -> None:
    for one in nm.render_manifests(PLAN, **options)["items"]:
        kubernetes_validate.validate(one, version, strict=True)


def test_the_job_runs_the_plan_against_the_server() -> None:
    objects = rendered(name="bench", image="registry.example/nm:1", server_node="worker-1")
    spec, container = pod(objects["Job"])
    assert container["image"] == "registry.example/nm:1"
    assert parser().parse_args(container["args"]).what == ["/etc/netmeasure/plan.toml"]
    assert spec["volumes"] == [{"name": "plan", "configMap": {"name": "bench-plan"}}]
    assert objects["ConfigMap"]["metadata"]["name"] == "bench-plan"
    assert objects["ConfigMap"]["data"] == {"plan.toml": PLAN.decode()}
    there, server = pod(objects["Deployment"])
    assert there["nodeSelector"] == {"kubernetes.io/hostname": "worker-1"}
    chosen = parser().parse_args(server["args"])
    ports = {one["name"]: one["containerPort"] for one in server["ports"]}
    assert ports == {"tcp": chosen.port, "udp": chosen.port, "http": 8080, "ftp": chosen.ftp}
    labels = objects["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert objects["Service"]["spec"]["selector"] == labels
    assert objects["Service"]["metadata"]["name"] == "bench"
    for one in (spec, there):
        assert one["securityContext"]["runAsNonRoot"]
    for one in (container, server):
        assert one["securityContext"]["capabilities"] == {"drop": ["ALL"]}


def test_the_server_permits_the_plans_streams() -> None:
    more = {
        one["kind"]: one for one in nm.render_manifests(PLAN + b"streams = [4, 200]\n")["items"]
    }
    for objects, permitted in ((rendered(), 128), (more, 200)):
        assert parser().parse_args(pod(objects["Deployment"])[1]["args"]).max_streams == permitted


def test_the_command_writes_json(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plan = tmp_path / "plan.toml"
    plan.write_bytes(PLAN)
    assert main(["k8s", "render", str(plan), "--host-network"]) == Exit.OK
    document = json.loads(capsys.readouterr().out)
    assert document == nm.render_manifests(PLAN, host_network=True)
    plan.write_bytes(PLAN + b"streams = 2000\n")
    assert main(["k8s", "render", str(plan)]) == Exit.USAGE
    wrong = one_line(capsys.readouterr().err)
    assert wrong.startswith(f"netmeasure: {plan}: test 1: number of streams is 2000")
    plan.write_bytes(PLAN)
    assert main(["k8s", "render", str(plan), "--name", "Not_A_Name"]) == Exit.USAGE
    assert "'Not_A_Name' is not a valid name for Kubernetes" in one_line(capsys.readouterr().err)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"image": ""}, "'' is not the name of an image"),
        ({"image": "a b"}, "'a b' is not the name of an image"),
        ({"server_node": ""}, "'' is not the name of a node"),
        ({"client_node": "Worker 1"}, "'Worker 1' is not the name of a node"),
    ],
)
def test_names_that_kubernetes_refuses(options: dict[str, Any], said: str) -> None:
    with pytest.raises(nm.SpecError, match=said):
        nm.render_manifests(PLAN, **options)
