"""Test manifests and build files against the schemas of Kubernetes and against each other."""

from __future__ import annotations

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from netmeasure.cli.options import parser
from netmeasure.spec import DEFAULT_PORT
from netmeasure.version import __version__
from support.containers import listed
from support.manifests import FOLDER, documents, template

ROOT = Path(__file__).parents[2]
FILES = sorted(FOLDER.rglob("*.yaml"))
MESH = FOLDER / "mesh"
MESH_PARTS = ("scheduler", "worker", "mesh")
DASK_PORT = 8786
VERSIONS = ("1.29", ".".join(kubernetes_validate.latest_version().split(".")[:2]))
CONTAINERFILE = (ROOT / "Containerfile").read_text()


def objects() -> Iterator[Any]:
    """Return every Kubernetes object."""
    for path in FILES:
        for number, document in enumerate(documents(path)):
            yield pytest.param(document, id=f"{path.name}-{number}")


def component(manifest: dict[str, Any]) -> str:
    return str(manifest["metadata"]["labels"]["app.kubernetes.io/component"])


OBJECTS = list(objects())
PODS = [one for one in OBJECTS if template(one.values[0])]
#: Those of the program itself; the others run Dask.
OURS = [one for one in PODS if "command" not in template(one.values[0])["spec"]["containers"][0]]
DASK = [one for one in PODS if one not in OURS]


def pod(manifest: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the specification of the pod, and that of its only container."""
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


def test_every_manifest_has_its_parts() -> None:
    kinds = [one.values[0]["kind"] for one in OBJECTS]
    assert sorted(kinds) == [
        "CronJob", "DaemonSet", "DaemonSet", "Deployment", "Deployment", "Job", "Job", "Job",
        "NetworkPolicy", "Service", "Service", "Service", "Service",
    ]  # fmt: skip
    assert (len(OURS), len(DASK)) == (6, 2)


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
    assert all("emptyDir" in volume for volume in spec.get("volumes", []))
    assert not spec["automountServiceAccountToken"]
    assert {"requests", "limits"} == set(container["resources"])
    image = "netmeasure-mesh" if component(manifest) in MESH_PARTS else "netmeasure"
    assert container["image"] == f"{image}:{__version__}"


@pytest.mark.parametrize("manifest", OURS)
def test_arguments_are_the_programs(manifest: dict[str, Any]) -> None:
    """argparse would exit with SystemExit for a wrong one."""
    _, container = pod(manifest)
    assert parser().parse_args(container["args"]).command == container["args"][0]
    if "livenessProbe" in container:
        name, *words = container["livenessProbe"]["exec"]["command"]
        assert name == "netmeasure"
        chosen = parser().parse_args(words)
        assert chosen.command == "probe"
        assert chosen.timeout < container["livenessProbe"]["timeoutSeconds"]


@pytest.mark.parametrize("manifest", DASK)
def test_arguments_are_dasks(manifest: dict[str, Any]) -> None:
    """click would exit with an error for a wrong one."""
    _, container = pod(manifest)
    python, option, module = container["command"]
    assert (python, option) == ("python", "-m")
    main = importlib.import_module(module).main
    chosen = main.make_context(module, list(container["args"])).params
    if component(manifest) == "scheduler":
        assert chosen["port"] == f"{DASK_PORT}"
    else:
        assert chosen["scheduler"] == f"tcp://netmeasure-scheduler:{DASK_PORT}"


@pytest.mark.parametrize("manifest", OBJECTS)
def test_ports(manifest: dict[str, Any]) -> None:
    expected = [(DEFAULT_PORT, "TCP", "tcp"), (DEFAULT_PORT, "UDP", "udp")]
    if component(manifest) in MESH_PARTS:
        expected = [(DASK_PORT, "TCP", "dask")] if component(manifest) == "scheduler" else []
    if manifest["kind"] == "Service":
        ports = [(p["port"], p["protocol"], p["targetPort"]) for p in manifest["spec"]["ports"]]
        assert ports == expected
    elif manifest["kind"] == "NetworkPolicy":
        (rule,) = manifest["spec"]["ingress"]
        allowed = [(p["port"], p["protocol"]) for p in rule["ports"]]
        assert allowed == [(DEFAULT_PORT, "TCP"), (DEFAULT_PORT, "UDP")]
    elif "Job" not in manifest["kind"]:
        _, container = pod(manifest)
        ports = [(p["containerPort"], p["protocol"], p["name"]) for p in container.get("ports", [])]
        assert ports == expected


def test_labels_select_the_pods() -> None:
    labels = [template(one.values[0])["metadata"]["labels"] for one in PODS]
    for one in OBJECTS:
        manifest = one.values[0]
        if manifest["kind"] == "Service":
            assert labels.count(manifest["spec"]["selector"]) == 1
        elif manifest["kind"] == "NetworkPolicy":
            assert manifest["spec"]["podSelector"]["matchLabels"] in labels
        elif "Job" not in manifest["kind"]:
            own = template(manifest)["metadata"]["labels"]
            assert manifest["spec"]["selector"]["matchLabels"] == own


def test_the_policy_admits_the_clients_and_no_denied_pod() -> None:
    """It admits all clients of the server, but not the Job that must be denied."""
    (policy,) = (one.values[0] for one in OBJECTS if one.values[0]["kind"] == "NetworkPolicy")
    (rule,) = policy["spec"]["ingress"]
    (peers,) = (one["podSelector"] for one in rule["from"])
    (among,) = peers["matchExpressions"]
    assert (among["key"], among["operator"]) == ("app.kubernetes.io/component", "In")
    for one in OURS:
        labels = template(one.values[0])["metadata"]["labels"]
        assert peers["matchLabels"].items() <= labels.items()
        lets_in = labels[among["key"]] in among["values"]
        asks = one.values[0]["kind"] in ("Job", "CronJob")
        asks &= component(one.values[0]) not in MESH_PARTS
        assert lets_in == (asks and "--denied" not in pod(one.values[0])[1]["args"])


def test_the_clients_ask_the_service() -> None:
    names = {one.values[0]["metadata"]["name"]: one.values[0] for one in OBJECTS}
    for job in ("netmeasure-client", "netmeasure-nightly", "netmeasure-denied"):
        asked = set(pod(names[job])[1]["args"]) & set(names)
        assert {names[name]["kind"] for name in asked} >= {"Service"}
        assert asked == {"netmeasure"}


def test_the_image_installs_what_the_project_depends_on() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + extras["auth"]
    assert listed(ROOT / "tools" / "container-wheels.txt") == wanted
    assert listed(MESH / "packages.txt") == extras["mesh"]


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
