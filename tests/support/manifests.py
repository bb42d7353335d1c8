"""Read the Kubernetes manifests, and change their pods so that podman can run them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """Return the objects of a file, except the one that kustomize reads."""
    found = yaml.safe_load_all(path.read_text())
    return [document for document in found if document["kind"] != "Kustomization"]


def template(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """Return the template of a manifest's pods, or {}. A CronJob has it in its Job template."""
    spec = manifest["spec"].get("jobTemplate", manifest)["spec"]
    found: dict[str, Any] = spec.get("template", {})
    return found


def playable(manifest: Mapping[str, Any], image: str, **words: str) -> dict[str, Any]:
    """Return the template of a manifest's pods with another image, as podman 4.3 can run it.

    Podman knows no Services, so `words` replace their names (with _ for -). It supports neither
    $(NAME) in arguments nor values of the downward API. It would publish the containers' ports on
    this host, and needs systemd for probes, so both are left out.
    """
    found = copy.deepcopy(template(manifest))
    (container,) = found["spec"]["containers"]
    container["image"] = image
    for name in ("ports", "readinessProbe", "livenessProbe", "env"):
        container.pop(name, None)
    container["env"] = [
        one for one in template(manifest)["spec"]["containers"][0].get("env", []) if "value" in one
    ]
    for name, value in words.items():
        container["args"] = [
            one.replace(f"$({name})", value).replace(name.replace("_", "-"), value)
            for one in container["args"]
        ]
    return found
