"""Give a connection that netmeasure opened to its own aiohttp session, and time each step."""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import ExitStack, asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from aiohttp import payload
from yarl import URL

from netmeasure.clock import now_ns
from netmeasure.engine import handover
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.watch import Watched, stretches
from netmeasure.errors import (
    MeasureError,
    PeerClosedError,
    PeerTimeoutError,
    RemoteProtocolError,
)
from netmeasure.protocol.strangers import likely_service
from netmeasure.spec.words import URL_CHARACTERS
from netmeasure.transfers.aiohttp_classes import Known, Request, Response
from netmeasure.transfers.reach import Reached, no_tls, plain_words, public_url

PORTS = {"http": 80, "https": 443}
#: The bytes received instead of a response: the library's message has them as a Python bytes
#: literal.
_CAME = re.compile(r"""b(['"])(.*?)\1""", re.DOTALL)
#: Hints for other services, if there is a better one than to use another port.
_HINTS = {"TLS": "write https:// instead of http://", "FTP or mail": "write ftp:// if it is FTP"}
_CLOSED = "if that port is for TLS, write https://; else see the server's log"
_SILENT_TLS = "the port may be for plain HTTP (write http://), or the server hangs"
_CLOSED_TLS = "the port may be for plain HTTP (write http://), or the server failed"


class Hop:
    """Keep one connection that netmeasure opened, with the aiohttp session that uses it."""

    def __init__(
        self,
        url: str,
        proxy: str | None,
        reached: Reached,
        connection: str,
        tls: ssl.SSLContext | None,
    ) -> None:
        self.url = url
        self._url = public_url(url)  # the library would make a header from a password in the URL
        self._proxy = proxy
        made = reached.made
        self._made = made
        self._reached = reached
        self._connection = connection
        self._ready_ns = made.end_ns
        #: when the request was sent, and when the response was noticed
        self.sent_ns = made.end_ns
        self.answered_ns = made.end_ns
        self._fresh: handover.Opened | None = handover.Opened.from_socket(made.sock)
        connector = aiohttp.TCPConnector(
            resolver=Known(made.address),
            socket_factory=self._socket,
            use_dns_cache=False,
            ssl=True if tls is None else tls,
            limit=1,
        )
        #: whether the connection has served a transfer before
        self.reused = False
        self._response: Response | None = None
        #: whether the connection is open, and the TLS handshake, if any, has ended
        self._ready = False
        #: tells what the present request waits for
        self._waits: _Waits | None = None
        #: the limit of the TLS handshake before a body; None: the limit is of the whole request
        self._limit: asyncio.Timeout | None = None
        self._session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            request_class=Request,
            response_class=Response,
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
            trace_configs=[self._trace()],
        )

    def serves(self, url: str) -> bool:
        return origin(url) == origin(self._url)

    def _socket(self, _: object) -> handover.Opened:
        if self._fresh is None:
            raise OSError("the kept connection is gone")
        sock, self._fresh = self._fresh, None
        return sock

    def _trace(self) -> aiohttp.TraceConfig:
        trace = aiohttp.TraceConfig()

        async def connected(*_: object) -> None:
            self._ready_ns = now_ns()
            self._ready = True
            if self._waits is not None:
                self._waits.begin("request")
            if self._limit is not None:
                self._limit.reschedule(None)

        async def sent(*_: object) -> None:
            self.sent_ns = now_ns()

        trace.on_connection_create_end.append(connected)
        trace.on_request_headers_sent.append(sent)
        return trace

    async def request(
        self,
        method: str,
        headers: Mapping[str, str],
        deadline_s: float,
        phases: PhaseLog,
        body: payload.Payload | None = None,
        flowing: Callable[[], bool] | None = None,
    ) -> Response:
        """Send a request, and return the head of the response.

        Args:
            method: The method.
            headers: The headers.
            deadline_s: How long the server may take. With a body, this limits only the TLS
                handshake: the caller limits the rest.
            phases: Where the steps are recorded.
            body: The body; None: the request has none.
            flowing: Returns whether data flow, so that set-up waits for nothing more; None: no data
                flow before the response.

        Raises:
            MeasureError: The server does not answer, or not by HTTP.
        """
        began = now_ns()
        fresh = self._fresh is not None
        async with self._told(phases, flowing), self._explained(deadline_s) as limit:
            self._limit = limit if body is not None else None
            if body is not None and not fresh:
                limit.reschedule(None)
            url = wire_url(self._url)
            if "%" in (url.raw_host or ""):  # the zone of an address is local to this host
                headers = {"Host": _without_zone(url)} | dict(headers)
            response = await self._session.request(
                method,
                url,
                headers=headers,
                data=body,
                proxy=self._proxy,
                allow_redirects=False,
            )
        self.answered_ns = now_ns()
        self._tell(phases, began, fresh=fresh, answers=body is None)
        assert isinstance(response, Response)
        self._response = response
        return response

    def _tell(self, phases: PhaseLog, began: int, *, fresh: bool, answers: bool) -> None:
        """Record the steps of a request; `answers`: set-up waits for its response."""
        name, watched = self._connection, self._reached.watched
        since = max(began, self._ready_ns) if fresh else began
        if fresh and self._ready_ns > began and urlsplit(self._url).scheme == "https":
            if self._proxy is not None and (seen := stretches(watched)):
                phases.add("proxy", name, began, max(began, seen[0].arrived_ns))
                began = max(began, seen[0].taken_ns or seen[0].arrived_ns)
            phases.add_answered("tls", name, began, self._ready_ns, watched)
        self.sent_ns = max(since, self.sent_ns)
        phases.add("request", name, since, self.sent_ns)
        if answers:
            phases.add_answered("first_byte", name, self.sent_ns, self.answered_ns, watched)

    @property
    def watched(self) -> Watched | None:
        """Return the watch of the connection's arrivals until the transfer of payload."""
        return self._reached.watched

    def unwatch(self) -> None:
        """Stop watching the connection."""
        self._reached.unwatch()

    @property
    def _step(self) -> str:
        """Return the phase that the server has not yet completed."""
        return "request" if self._ready or self.url.startswith("http:") else "tls"

    @asynccontextmanager
    async def _told(
        self, phases: PhaseLog, flowing: Callable[[], bool] | None
    ) -> AsyncIterator[None]:
        """Tell the followers of the run what the block waits for."""
        with ExitStack() as stack:
            if self._step == "tls" and self._proxy is not None:
                stack.enter_context(
                    phases.awaiting("proxy", self._connection, self._proxy_answered)
                )
            self._waits = _Waits(phases, self._connection, flowing)
            stack.callback(self._waits.end)
            self._waits.begin(self._step)
            yield

    def _proxy_answered(self) -> bool:
        """Return whether the proxy has sent anything; also True if that can't be seen."""
        watched = self._reached.watched
        return self._ready or watched is None or bool(stretches(watched))

    @asynccontextmanager
    async def _explained(self, deadline_s: float) -> AsyncIterator[asyncio.Timeout]:
        """Limit the block's time, and convert its errors to MeasureError."""
        where = f"{self._made.address}"
        try:
            async with asyncio.timeout(deadline_s) as limit:
                yield limit
        except TimeoutError:
            what = "answer the request" if self._step == "request" else "agree on TLS"
            by_server = self._step == "tls" and self._proxy is None
            raise PeerTimeoutError(
                f"{where} did not {what} in {deadline_s:g} s",
                phase=self._step,
                hint=_SILENT_TLS if by_server else None,
            ) from None
        except (aiohttp.ClientConnectorCertificateError, aiohttp.ClientSSLError) as exc:
            raise no_tls(where, exc) from None
        except ssl.SSLError as exc:
            raise no_tls(where, exc) from None
        except aiohttp.ClientResponseError as exc:
            service = _service_in(str(exc))
            raise RemoteProtocolError(
                f"{where} does not speak HTTP: {f'it speaks {service}' if service else words(exc)}",
                phase="request",
                hint=_HINTS.get(service or "", "another service is there"),
            ) from None
        except (aiohttp.ClientConnectionError, OSError) as exc:
            raise PeerClosedError(
                f"{where} closed the connection before it answered{_how(exc)}",
                phase=self._step,
                hint=_CLOSED if self.url.startswith("http:") else _CLOSED_TLS,
            ) from None
        except (aiohttp.ClientError, ValueError) as exc:
            raise MeasureError(
                f"the request to {where} failed: {words(exc)}", phase="request"
            ) from None

    def transport(self, response: aiohttp.ClientResponse) -> Any:
        """Return the transport of a response whose body is incomplete; None: the whole body arrived
        with the head."""
        connection = response.connection
        return connection.transport if connection is not None else None

    async def close(self) -> None:
        """Close the connection at once."""
        self.unwatch()
        if self._response is not None:
            transport = self.transport(self._response)
            if transport is not None:
                # an orderly end of TLS would read as long as the server sends
                transport.abort()
            self._response.close()
        await self._session.close()
        if self._fresh is not None:
            self._fresh.close()


class _Waits:
    """Tell the followers of the run about the steps of one request, one after the other."""

    def __init__(self, phases: PhaseLog, connection: str, over: Callable[[], bool] | None) -> None:
        self._phases = phases
        self._connection = connection
        self._over = over
        self._present = ExitStack()

    def begin(self, step: str) -> None:
        """End the present step, and begin another one."""
        self.end()
        self._present.enter_context(self._phases.awaiting(step, self._connection, self._over))

    def end(self) -> None:
        """End the present step."""
        self._present.close()


def origin(url: str) -> tuple[str, str | None, int | None]:
    """Return the origin of a URL: scheme, host and port. Raises ValueError if it is not a URL."""
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or PORTS.get(parts.scheme)


def wire_url(url: str) -> URL:
    """Return a URL that is sent as written. The library would decode unnecessary encodings (`%28`),
    which breaks signed URLs. Only characters that no URL may contain are encoded."""
    parts = urlsplit(url)
    whole = URL(url.replace("%25", "%", 1) if "%25" in parts.netloc else url)
    host = whole.raw_host or ""
    return URL.build(
        scheme=whole.scheme,
        host=f"[{host}]" if ":" in host else host,
        port=whole.explicit_port,
        path=quote(parts.path, safe=URL_CHARACTERS) or "/",
        query_string=quote(parts.query, safe=URL_CHARACTERS),
        encoded=True,
    )


def _service_in(message: str) -> str | None:
    """Return the service whose bytes are in the library's message; None: unknown."""
    shown = _CAME.search(message)
    if shown is None:
        return None
    first = shown[2].encode("latin-1", "replace").decode("unicode_escape")
    return likely_service(first.encode("latin-1", "replace"))


def _without_zone(url: URL) -> str:
    host = f"[{(url.raw_host or '').partition('%')[0]}]"
    return host if url.explicit_port is None else f"{host}:{url.explicit_port}"


def _how(exc: BaseException) -> str:
    """Return the system's reason for a closed connection; "": closed normally. aiohttp's own
    message is about its connector, which did not open this socket."""
    if isinstance(exc, OSError) and exc.errno:
        return f": {os.strerror(exc.errno)}"
    return "" if isinstance(exc, aiohttp.ClientConnectorError) else f": {words(exc)}"


def words(exc: BaseException) -> str:
    """Return an exception's message on one line; for a refused certificate, the reason."""
    if isinstance(exc, aiohttp.ClientConnectorCertificateError):
        exc = exc.certificate_error
    return plain_words(exc)
