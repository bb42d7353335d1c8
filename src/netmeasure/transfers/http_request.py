"""Make the headers of HTTP requests, and check and describe the responses."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Mapping
from urllib.parse import unquote, urlsplit

import aiohttp
from multidict import CIMultiDict

from netmeasure.errors import FileRefusedError
from netmeasure.result import Transfer
from netmeasure.spec import SECRET_HEADERS, HttpSpec
from netmeasure.text import quoted
from netmeasure.transfers.aiohttp_classes import Response
from netmeasure.transfers.http_hop import origin
from netmeasure.version import __version__


def request_headers(spec: HttpSpec, url: str) -> CIMultiDict[str]:
    """Return the headers of a request to a URL: netmeasure's and the user's.

    Secrets are sent only to the server of the user's URL, not to servers to which it redirects.
    """
    headers = CIMultiDict(
        {"User-Agent": f"netmeasure/{__version__}", "Accept-Encoding": "identity"}
    )
    asked = origin(url) == origin(spec.url)
    if (credentials := _credentials(spec, url, asked=asked)) is not None:
        headers["Authorization"] = credentials
    for header in spec.headers:
        name, _, value = header.partition(":")
        if asked or name.strip().lower() not in SECRET_HEADERS:
            headers[name.strip()] = value.strip()
    return headers


def range_header(spec: HttpSpec) -> dict[str, str]:
    """Return the header that requests a part of a file; empty: the whole file is requested."""
    if not _wants_part(spec):
        return {}
    first, last = spec.first_byte or 0, spec.last_byte
    return {"Range": f"bytes={first}-{'' if last is None else last}"}


def _wants_part(spec: HttpSpec) -> bool:
    return spec.first_byte is not None or spec.last_byte is not None


def _credentials(spec: HttpSpec, url: str, *, asked: bool) -> str | None:
    """Return the value of the Authorization header; None if there is no user.

    The user and password in a URL take precedence over those of the specification, which are only
    for the server that was `asked`: the server of the specification's URL.
    """
    parts = urlsplit(url)
    if asked and parts.username is None:
        parts = urlsplit(spec.url)
    user, password = (spec.user, spec.password) if asked else (None, None)
    if parts.username is not None:
        user = unquote(parts.username)
    if parts.password is not None:
        password = unquote(parts.password)
    if user is None:
        return None
    return (
        "Basic " + b64encode(f"{user}:{password or ''}".encode("utf-8", "surrogateescape")).decode()
    )


def check_status(spec: HttpSpec, response: aiohttp.ClientResponse, method: str) -> None:
    """Raise FileRefusedError if a response is no success, or does not have the requested part."""
    if response.status >= 300 or response.status < 200:
        said = f"{response.status} {quoted(response.reason or '')}".rstrip()
        raise FileRefusedError(
            f"{method} {response.url}: {said}",
            phase="request",
            hint=_status_hint(response.status),
        )
    if _wants_part(spec) and response.status != 206:
        raise FileRefusedError(
            f"{response.url}: the server ignores the range that was asked for",
            phase="request",
            hint="ask for the whole file",
        )


def _status_hint(status: int) -> str | None:
    if status in (401, 403):
        return "give a user and a password that have access to it"
    if status == 404:
        return "check the path"
    if status == 405:
        return "this server takes no uploads there"
    if status == 416:
        return "the file is shorter than the part asked for"
    return "see the server's log" if status >= 500 else None


def described(response: Response, redirects: int) -> Transfer:
    """Return the facts about a transfer in the head of a response."""
    version = response.version
    return Transfer(
        url=str(response.url.with_user(None)),
        protocol=f"HTTP/{version.major}.{version.minor}" if version else "HTTP",
        server=quoted(response.headers.get("Server", "")) or None,
        status=response.status,
        content_bytes=response.content_length,
        encoding=_encoding(response.headers),
        redirects=redirects,
    )


def _encoding(headers: Mapping[str, str]) -> str:
    codings = [headers.get(name, "") for name in ("Content-Encoding", "Transfer-Encoding")]
    return ", ".join(coding for coding in codings if coding) or "identity"
