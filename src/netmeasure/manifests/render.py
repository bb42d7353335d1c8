"""Render the Kubernetes objects for a plan: the servers, their services, and the job that runs the
plan."""

from __future__ import annotations

import re
from typing import Any

from netmeasure.campaign.plan_reader import read_plan
from netmeasure.errors import SpecError
from netmeasure.spec import DEFAULT_PORT, ServerLimits
from netmeasure.version import __version__

HTTP_PORT, FTP_PORT = 8080, 2121
_FOLDER, _FILE = "/etc/netmeasure", "plan.toml"
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,40}[a-z0-9])?")
#: A node is chosen by a label, whose values have this form; references of images have no blanks.
_NODE, _IMAGE = re.compile(r"[A-Za-z0-9]([\w.-]{0,61}[A-Za-z0-9])?", re.ASCII), re.compile("[!-~]+")
#: The longest plan: a Kubernetes object has at most 1 MiB.
_MOST_BYTES = 900_000
_DAY_S = 86_400


def render_manifests(
    plan: bytes,
    *,
    name: str = "netmeasure",
    image: str = f"netmeasure:{__version__}",
    host_network: bool = False,
    server_node: str | None = None,
    client_node: str | None = None,
) -> dict[str, Any]:
    """Return a List of Kubernetes objects that run a plan; `kubectl apply -f` accepts its JSON.

    The servers answer as `name`, through a ClusterIP, and as `name`-headless, at the pod's own
    address, which FTP needs. The plan's targets are these names.

    Args:
        plan: The plan's TOML.
        name: The name of all objects.
        image: The image of netmeasure.
        host_network: Whether the pods have their nodes' network instead of the pods'.
        server_node: The node of the server; None: any.
        client_node: The node of the job; None: any, preferably not the server's.

    Raises:
        PlanError: The plan has mistakes.
        SpecError: The name, the image or a node is not valid for Kubernetes, or the plan is too
            long.
    """
    streams = max((getattr(case.spec, "streams", 1) for case in read_plan(plan).cases), default=1)
    if not _NAME.fullmatch(name):
        raise SpecError(f"{name!r} is not a valid name for Kubernetes", hint="use a-z, 0-9 and -")
    if not _IMAGE.fullmatch(image):
        raise SpecError(f"{image!r} is not the name of an image")
    for node in (server_node, client_node):
        if node is not None and not _NODE.fullmatch(node):
            raise SpecError(f"{node!r} is not the name of a node", hint="kubectl get nodes")
    if len(plan) > _MOST_BYTES:
        raise SpecError(f"the plan has {len(plan)} bytes: at most {_MOST_BYTES} are possible")
    server = _labels(name, "server")
    items = [
        {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": _metadata(name, "plan"),
            "data": {_FILE: plan.decode()},
        },
        {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": _metadata(name, "server"),
            "spec": {
                "replicas": 1,  # all connections of a test must reach the same pod
                "selector": {"matchLabels": server},
                "template": {
                    "metadata": {"labels": server},
                    "spec": _server(image, streams, host_network=host_network, node=server_node),
                },
            },
        },
        _service(name, name, {}),
        _service(name, f"{name}-headless", {"clusterIP": "None"}),
        {
            "apiVersion": "batch/v1",
            "kind": "Job",
            "metadata": _metadata(name, "campaign"),
            "spec": {
                "backoffLimit": 0,
                "activeDeadlineSeconds": _DAY_S,
                "ttlSecondsAfterFinished": _DAY_S,
                "template": {
                    "metadata": {"labels": _labels(name, "campaign")},
                    "spec": _job(name, image, host_network=host_network, node=client_node),
                },
            },
        },
    ]
    return {"apiVersion": "v1", "kind": "List", "items": items}


def _labels(name: str, component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "netmeasure",
        "app.kubernetes.io/instance": name,
        "app.kubernetes.io/component": component,
    }


def _metadata(name: str, component: str) -> dict[str, Any]:
    return {"name": f"{name}-{component}", "labels": _labels(name, component)}


def _service(name: str, called: str, more: dict[str, str]) -> dict[str, Any]:
    ports = [
        ("tcp", DEFAULT_PORT, "TCP"),
        ("udp", DEFAULT_PORT, "UDP"),
        ("http", HTTP_PORT, "TCP"),
        ("ftp", FTP_PORT, "TCP"),
    ]
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": called, "labels": _labels(name, "server")},
        "spec": {
            "selector": _labels(name, "server"),
            "ports": [
                {"name": port, "port": number, "targetPort": port, "protocol": protocol}
                for port, number, protocol in ports
            ],
            **more,
        },
    }


def _pod(image: str, *, host_network: bool, node: str | None) -> dict[str, Any]:
    """Return the common part of the server's pod and the campaign's pod."""
    found: dict[str, Any] = {
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 5,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": 1000,
            "runAsGroup": 1000,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "containers": [
            {
                "name": "netmeasure",
                "image": image,
                # no CPU limit, since throttling would look like a slow network
                "resources": {
                    "requests": {"cpu": "1", "memory": "128Mi"},
                    "limits": {"memory": "512Mi"},
                },
                "securityContext": {
                    "allowPrivilegeEscalation": False,
                    "readOnlyRootFilesystem": True,
                    "capabilities": {"drop": ["ALL"]},
                },
            }
        ],
    }
    if host_network:
        found |= {"hostNetwork": True, "dnsPolicy": "ClusterFirstWithHostNet"}
    if node is not None:
        found["nodeSelector"] = {"kubernetes.io/hostname": node}
    return found


def _server(image: str, streams: int, *, host_network: bool, node: str | None) -> dict[str, Any]:
    """Return the pod of a server that permits tests of so many streams."""
    found = _pod(image, host_network=host_network, node=node)
    more = ["--max-streams", str(streams)] if streams > ServerLimits().max_streams else []
    found["containers"][0] |= {
        "args": ["server", "--http", str(HTTP_PORT), "--ftp", str(FTP_PORT), *more],
        "ports": [
            {"name": "tcp", "containerPort": DEFAULT_PORT, "protocol": "TCP"},
            {"name": "udp", "containerPort": DEFAULT_PORT, "protocol": "UDP"},
            {"name": "http", "containerPort": HTTP_PORT, "protocol": "TCP"},
            {"name": "ftp", "containerPort": FTP_PORT, "protocol": "TCP"},
        ],
        "readinessProbe": {"tcpSocket": {"port": "tcp"}, "periodSeconds": 5},
        "livenessProbe": {
            "exec": {"command": ["netmeasure", "probe"]},
            "periodSeconds": 30,
            "timeoutSeconds": 5,
        },
    }
    return found


def _job(name: str, image: str, *, host_network: bool, node: str | None) -> dict[str, Any]:
    found = _pod(image, host_network=host_network, node=node)
    fields = {
        "NETMEASURE_POD": "metadata.name",
        "NETMEASURE_POD_NAMESPACE": "metadata.namespace",
        "NETMEASURE_NODE": "spec.nodeName",
    }
    found["restartPolicy"] = "Never"
    found["volumes"] = [{"name": "plan", "configMap": {"name": f"{name}-plan"}}]
    found["containers"][0] |= {
        "args": ["suite", f"{_FOLDER}/{_FILE}"],
        "env": [
            {"name": variable, "valueFrom": {"fieldRef": {"fieldPath": path}}}
            for variable, path in fields.items()
        ],
        "volumeMounts": [{"name": "plan", "mountPath": _FOLDER, "readOnly": True}],
    }
    if node is None:
        apart = {
            "weight": 100,
            "podAffinityTerm": {
                "labelSelector": {"matchLabels": _labels(name, "server")},
                "topologyKey": "kubernetes.io/hostname",
            },
        }
        found["affinity"] = {
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [apart]}
        }
    return found
