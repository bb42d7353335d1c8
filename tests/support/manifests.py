"""The manifests of Kubernetes, and their pods as podman can play them."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"


def documents(path: Path) -> list[dict[str, Any]]:
    """The objects of a file; what kustomize reads is none."""
    found = yaml.safe_load_all(path.read_text())
    return [document for document in found if document["kind"] != "Kustomization"]


def template(manifest: Mapping[str, Any]) -> dict[str, Any]:
    """The template of a manifest's pods, or {}; that of a CronJob is in its Jobs'."""
    spec = manifest["spec"].get("jobTemplate", manifest)["spec"]
    found: dict[str, Any] = spec.get("template", {})
    return found


def playable(manifest: Mapping[str, Any], image: str, **words: str) -> dict[str, Any]:
    """The template of a manifest's pods with another image, as podman 4.3 can play it.

    It knows no Services, so `words` are put for their names (with _ for -), and neither $(NAME) in
    arguments nor what the downward API gives. It publishes containers' ports on this host, and
    needs systemd for probes: both are left out.
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
