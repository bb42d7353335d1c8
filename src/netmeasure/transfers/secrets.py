"""Remove secrets from the data that are saved with a result."""

from __future__ import annotations

from collections.abc import Iterable

from netmeasure.spec import SECRET_HEADERS


def public_headers(headers: Iterable[str]) -> tuple[str, ...]:
    """Return headers without the values of those that hold secrets."""
    return tuple(
        f"{name}: (not kept)" if name.strip().lower() in SECRET_HEADERS else header
        for header in headers
        for name in [header.partition(":")[0]]
    )
