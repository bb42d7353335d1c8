"""Manifests and build files, against the schemas of Kubernetes and against each other."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from netmeasure.cli.options import parser
from netmeasure.spec import DEFAULT_PORT
from netmeasure.version import __version__

ROOT = Path(__file__).parents[2]
FILES = sorted((ROOT / "deploy" / "kubernetes").glob("*.yaml"))
VERSIONS = ("1.29", ".".join(kubernetes_validate.latest_version().split(".")[:2]))
CONTAINERFILE = (ROOT / "Containerfile").read_text()


def documents() -> Iterator[Any]:
    """Every object of Kubernetes; what kustomize reads is none."""
    for path in FILES:
        for number, document in enumerate(yaml.safe_load_all(path.read_text())):
            if document["kind"] != "Kustomization":
                yield pytest.param(document, id=f"{path.name}-{number}")


OBJECTS = list(documents())


def template(manifest: dict[str, Any]) -> dict[str, Any]:
    """The template of a manifest's pods, or {}; that of a CronJob is in its Jobs'."""
    spec = manifest["spec"].get("jobTemplate", manifest)["spec"]
    found: dict[str, Any] = spec.get("template", {})
    return found


PODS = [one for one in OBJECTS if template(one.values[0])]


def pod(manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """The pod's specification, and its one container's."""
    spec = template(manifest)["spec"]
    (container,) = spec["containers"]
    return spec, container


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", OBJECTS)
def test_schema(manifest: dict[str, Any], version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_the_check_can_fail(version: str) -> None:
    wrong = {"apiVersion": "v1", "kind": "Service", "metadata": {}, "spec": {"portz": []}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, version, strict=True)


def test_all_is_there() -> None:
    kinds = [one.values[0]["kind"] for one in OBJECTS]
    assert sorted(kinds) == [
        "CronJob", "DaemonSet", "Deployment", "Job", "Job", "NetworkPolicy",
        "Service", "Service", "Service",
    ]  # fmt: skip
    assert len(PODS) == 5


@pytest.mark.parametrize("manifest", PODS)
def test_pods_ask_for_no_privilege(manifest: dict[str, Any]) -> None:
    spec, container = pod(manifest)
    ((uid, gid),) = re.findall(r"^USER (\d+):(\d+)$", CONTAINERFILE, re.MULTILINE)
    assert spec["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": int(uid),
        "runAsGroup": int(gid),
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "volumes" not in spec
    assert not spec["automountServiceAccountToken"]
    assert {"requests", "limits"} == set(container["resources"])
    assert container["image"] == f"netmeasure:{__version__}"


@pytest.mark.parametrize("manifest", PODS)
def test_arguments_are_the_programs(manifest: dict[str, Any]) -> None:
    """argparse would leave with SystemExit."""
    _, container = pod(manifest)
    assert parser().parse_args(container["args"]).command == container["args"][0]
    if "livenessProbe" in container:
        name, *words = container["livenessProbe"]["exec"]["command"]
        assert name == "netmeasure"
        chosen = parser().parse_args(words)
        assert chosen.command == "probe"
        assert chosen.timeout < container["livenessProbe"]["timeoutSeconds"]


@pytest.mark.parametrize("manifest", OBJECTS)
def test_ports(manifest: dict[str, Any]) -> None:
    if manifest["kind"] == "Service":
        ports = [(p["port"], p["protocol"], p["targetPort"]) for p in manifest["spec"]["ports"]]
        assert ports == [(DEFAULT_PORT, "TCP", "tcp"), (DEFAULT_PORT, "UDP", "udp")]
    elif manifest["kind"] == "NetworkPolicy":
        (rule,) = manifest["spec"]["ingress"]
        allowed = [(p["port"], p["protocol"]) for p in rule["ports"]]
        assert allowed == [(DEFAULT_PORT, "TCP"), (DEFAULT_PORT, "UDP")]
    elif "Job" not in manifest["kind"]:
        _, container = pod(manifest)
        ports = [(p["containerPort"], p["protocol"], p["name"]) for p in container["ports"]]
        assert ports == [(DEFAULT_PORT, "TCP", "tcp"), (DEFAULT_PORT, "UDP", "udp")]


def test_labels_select_the_pods() -> None:
    labels = {one.values[0]["kind"]: template(one.values[0])["metadata"]["labels"] for one in PODS}
    for one in OBJECTS:
        manifest = one.values[0]
        if manifest["kind"] == "Service":
            assert manifest["spec"]["selector"] == labels["Deployment"]
        elif manifest["kind"] == "NetworkPolicy":
            assert manifest["spec"]["podSelector"]["matchLabels"] == labels["Deployment"]
        elif "Job" not in manifest["kind"]:
            assert manifest["spec"]["selector"]["matchLabels"] == labels[manifest["kind"]]


def test_the_policy_lets_in_whom_it_should() -> None:
    """All that ask the server, and not the Job that must be denied."""
    (policy,) = (one.values[0] for one in OBJECTS if one.values[0]["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    (peers,) = (one["podSelector"] for one in rule["from"])
    (component,) = peers["matchExpressions"]
    assert (component["key"], component["operator"]) == ("app.kubernetes.io/component", "In")
    for one in PODS:
        labels = template(one.values[0])["metadata"]["labels"]
        assert peers["matchLabels"].items() <= labels.items()
        lets_in = labels[component["key"]] in component["values"]
        asks = one.values[0]["kind"] in ("Job", "CronJob")
        assert lets_in == (asks and "--denied" not in pod(one.values[0])[1]["args"])


def test_the_clients_ask_the_service() -> None:
    names = {one.values[0]["metadata"]["name"]: one.values[0] for one in OBJECTS}
    for job in ("netmeasure-client", "netmeasure-nightly", "netmeasure-denied"):
        asked = set(pod(names[job])[1]["args"]) & set(names)
        assert {names[name]["kind"] for name in asked} >= {"Service"}
        assert asked == {"netmeasure"}


def test_the_image_installs_what_the_project_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    lines = (ROOT / "tools" / "container-wheels.txt").read_text().splitlines()
    wanted = project["dependencies"] + project["optional-dependencies"]["auth"]
    assert [line for line in lines if not line.startswith("#")] == wanted


def test_the_build_sees_what_it_copies_and_no_more() -> None:
    shown = {
        line[1:]
        for line in (ROOT / ".containerignore").read_text().splitlines()
        if line.startswith("!")
    }
    copied = {
        word
        for line in re.findall(r"^COPY (?!--from)(.*) \S+$", CONTAINERFILE, re.MULTILINE)
        for word in line.split()
    }
    assert shown == copied
    assert (ROOT / ".dockerignore").read_text() == (ROOT / ".containerignore").read_text()
