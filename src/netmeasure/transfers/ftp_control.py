"""Log in to an FTP server, and send commands, each a step of set-up with its own deadline.

aioftp reads and writes the control connection, whose socket netmeasure has opened (RFC 959, 4217).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any
from urllib.parse import unquote_to_bytes, urlsplit

import aioftp

from netmeasure.engine.addresses import Address
from netmeasure.engine.phases import PhaseLog
from netmeasure.errors import (
    FileRefusedError,
    MeasureError,
    PeerClosedError,
    PeerTimeoutError,
    RemoteProtocolError,
)
from netmeasure.spec import FtpSpec
from netmeasure.text import decoded, quoted
from netmeasure.transfers.reach import Reach, Reached, no_tls, plain_words

#: The encoding of aioftp's texts, in which each byte is a character. Names may have any bytes, and
#: servers answer in UTF-8 (RFC 2640) or in older national encodings.
_BYTES = "latin-1"
_PORTS = {"ftp": 21, "ftps": 990}
#: The most lines of a reply (RFC 959 section 4.2), such as a greeting. Real servers send fewer.
MAX_REPLY_LINES = 1000
_CHECK_LOGIN = "check user and password: --user NAME:PASSWORD"


class _Library(aioftp.Client):
    """Let aioftp use a connection that netmeasure has opened."""

    def __init__(self, reached: Reached, tls: ssl.SSLContext | None) -> None:
        super().__init__(encoding=_BYTES)
        self._made = reached.made
        self._tls = tls
        self._lines = 0

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self._tls
        return await asyncio.open_connection(
            sock=self._made.sock, ssl=tls, server_hostname=host if tls else None
        )

    async def take(self, host: str, port: int) -> None:
        """Take the connection over without sending or reading; `connect` would also wait for the
        greeting."""
        await aioftp.BaseClient.connect(self, host, port)

    async def parse_response(self) -> tuple[aioftp.Code, list[str]]:
        """Read a reply, of at most MAX_REPLY_LINES lines."""
        self._lines = 0
        return await super().parse_response()

    async def parse_line(self) -> tuple[aioftp.Code, str]:
        self._lines += 1
        if self._lines > MAX_REPLY_LINES:
            raise ValueError(f"a reply of more than {MAX_REPLY_LINES} lines")
        code, rest = await super().parse_line()
        rest = decoded(rest.encode(_BYTES))
        if self._lines == 1 and not (len(code) == 3 and code.isdigit()):
            # the library would read "SSH-2.0" as the first of several lines, and wait for more
            raise ValueError(f"it said {quoted(f'{code}{rest}')!r}")
        return code, rest

    def check_codes(self, expected_codes: Any, received_code: aioftp.Code, info: list[str]) -> None:
        """Check a reply's code as the library does, but refuse codes without three digits: the
        library accepts a part of a code as any code that begins with it."""
        if len(received_code) != 3:
            raise ValueError(f"{received_code!r} is not a reply")
        super().check_codes(expected_codes, received_code, info)


class FtpControl:
    """Keep one control connection.

    Attributes:
        host: The server's name in the URL.
        protected: Whether TLS protects the control and the data connections.
        greeting: The server's last line before the login.
    """

    def __init__(self, spec: FtpSpec, reach: Reach, tls: ssl.SSLContext | None) -> None:
        self._spec = spec
        self._reach = reach
        self._tls = tls
        parts = urlsplit(spec.url)
        self.host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._user = named_in(parts.username or "") or _sent(spec.user or "anonymous")
        self._password = named_in(parts.password or "") or _sent(spec.password or "netmeasure@")
        self._implicit = parts.scheme == "ftps"
        self._name = f"{reach.connection} control"
        self._reached: Reached | None = None
        self._library: _Library | None = None
        self.protected = self._implicit or spec.explicit_tls
        self.greeting: str | None = None

    @property
    def library(self) -> _Library:
        assert self._library is not None, "log_in comes first"
        return self._library

    @property
    def address(self) -> Address:
        """Return the server's address of this connection."""
        assert self._reached is not None, "log_in comes first"
        return self._reached.made.address

    @property
    def tls(self) -> ssl.SSLObject | None:
        """Return the TLS session; None if the connection is plain."""
        session: ssl.SSLObject | None = self.library.stream.writer.transport.get_extra_info(
            "ssl_object"
        )
        return session

    def unwatch(self) -> None:
        """Stop watching the connection, since watching costs CPU time during the transfer."""
        if self._reached is not None:
            self._reached.unwatch()

    def close(self) -> None:
        """Close the connection at once, without QUIT, since a command may be in progress."""
        self.unwatch()
        if self._library is not None:
            with suppress(ConnectionError):  # no connection yet
                # an orderly end of TLS would wait for the server's close_notify
                self._library.stream.writer.transport.abort()

    # ---- commands --------------------------------------------------------------------------------

    async def log_in(self, phases: PhaseLog) -> None:
        """Connect, start TLS if requested, and log in. Raises MeasureError."""
        self._reached = await self._reach.connect(self.host, self._port, phases, self._name)
        self._library = _Library(self._reached, self._tls if self._implicit else None)
        if self._implicit:
            async with self.step("tls", phases):
                await self._library.take(self.host, self._port)
        else:
            await self._library.take(self.host, self._port)
        _, lines = await self.command("greeting", phases, None, "220", pending="120")
        self.greeting = quoted(lines[-1])
        if self._spec.explicit_tls and not self._implicit:
            await self._start_tls(phases)
        await self._authenticate(phases)
        if self.protected:
            for text in ("PBSZ 0", "PROT P"):
                hint = "this server does not protect data"
                await self.command("auth", phases, text, "200", hint=hint)
        await self.command("type", phases, "TYPE I", "200")

    async def _start_tls(self, phases: PhaseLog) -> None:
        hint = "this server has no explicit TLS"
        await self.command("auth", phases, "AUTH TLS", "234", hint=hint)
        async with self.step("tls", phases):
            assert self._tls is not None
            await self.library.stream.start_tls(self._tls, self.host)

    async def _authenticate(self, phases: PhaseLog) -> None:
        code, _ = await self.command(
            "login", phases, f"USER {self._user}", "230", "33x", hint=_CHECK_LOGIN
        )
        if code.matches("33x"):
            await self.command(
                "login", phases, f"PASS {self._password}", "230", "202", hint=_CHECK_LOGIN
            )

    async def command(
        self,
        step: str,
        phases: PhaseLog,
        text: str | None,
        *expected: str,
        pending: str = "",
        hint: str | None = None,
    ) -> tuple[aioftp.Code, list[str]]:
        """Send a command, wait for its reply, and record both as a phase.

        Args:
            step: The name of the phase.
            text: The command; None: only wait for a reply.
            expected: The permitted codes of the reply.
            pending: The code of replies that may precede it and are skipped.
            hint: The hint if the server refuses.

        Returns:
            The reply's code and lines.

        Raises:
            MeasureError: The server refuses, does not answer in time, or is not an FTP server.
        """
        async with self.step(step, phases, hint):
            return await self.library.command(text, expected, pending or ())

    @asynccontextmanager
    async def step(
        self, name: str, phases: PhaseLog, hint: str | None = None
    ) -> AsyncIterator[None]:
        """Record the block as a phase with its deadline, and convert its errors to MeasureError."""
        deadline_s, where = self._spec.deadlines.handshake_s, f"{self.host}:{self._port}"
        with phases.measure(name, self._name, self._reached.watched if self._reached else None):
            try:
                async with asyncio.timeout(deadline_s):
                    yield
            except TimeoutError:
                if name == "greeting":
                    raise PeerTimeoutError(
                        f"{where} accepted the connection, but sent no greeting"
                        f" in {deadline_s:g} s",
                        phase=name,
                        hint="another service may listen there: HTTP servers wait in silence",
                    ) from None
                raise PeerTimeoutError(
                    f"{where} did not do its part of the {name.replace('_', ' ')} in"
                    f" {deadline_s:g} s",
                    phase=name,
                ) from None
            except aioftp.StatusCodeError as exc:
                raise _refused(name, exc, hint) from None
            except ssl.SSLError as exc:
                raise no_tls(where, exc) from None
            except (ConnectionError, EOFError, asyncio.IncompleteReadError) as exc:
                raise PeerClosedError(
                    f"{where} closed the control connection: {plain_words(exc)}", phase=name
                ) from None
            except (ValueError, IndexError, UnicodeError) as exc:
                raise RemoteProtocolError(
                    f"{where} does not speak FTP: {plain_words(exc)}",
                    phase=name,
                    hint="another service listens on that port",
                ) from None
            except OSError as exc:
                raise MeasureError(f"{where}: {plain_words(exc)}", phase=name) from None


def named_in(part: str) -> str:
    """Return the decoded part of a URL for a command, in which each character is a byte."""
    return unquote_to_bytes(part).decode(_BYTES)


def _sent(text: str) -> str:
    """Return a text for a command: in UTF-8, with each byte as a character."""
    return text.encode(errors="surrogateescape").decode(_BYTES)


def _refused(step: str, exc: aioftp.StatusCodeError, hint: str | None) -> MeasureError:
    codes = exc.received_codes
    code = codes[-1] if isinstance(codes, tuple) else codes
    said = quoted(" ".join(map(str, exc.info or ())))
    if not str(code).isdigit():
        return RemoteProtocolError(f"not a reply of FTP: {quoted(str(code))}{said}", phase=step)
    return FileRefusedError(
        f"the server refused the {step.replace('_', ' ')}: {code} {said}".rstrip(),
        phase=step,
        hint=hint,
    )
