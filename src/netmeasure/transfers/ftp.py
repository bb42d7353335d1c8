"""Transfer files by FTP: aioftp handles the control connection; data connections are our own
sockets.

Each step has its own clock: resolve, connect, greeting, AUTH, login, SIZE, EPSV or PASV, connect of
the data connection, the mark that the transfer starts, the first byte, and the final reply after
the last (RFC 959, 2428, 4217).
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

import aioftp

from netmeasure.clock import now_ns
from netmeasure.engine import sockets
from netmeasure.engine.payload import random_bytes
from netmeasure.engine.phases import PhaseLog
from netmeasure.engine.tasks import first_of
from netmeasure.engine.watch import Watched
from netmeasure.errors import (
    FileRefusedError,
    MeasureError,
    NetmeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTimeoutError,
    RemoteProtocolError,
    StreamError,
    TlsError,
)
from netmeasure.result import Transfer
from netmeasure.spec import FtpSpec
from netmeasure.spec.fetch import FTP_TYPE
from netmeasure.text import quoted
from netmeasure.transfers.reach import Reach, Reached, no_tls, plain_words, public_url
from netmeasure.transfers.transfer import TransferStream, TransferWorkload

_PORTS = {"ftp": 21, "ftps": 990}
_READ_BYTES = 1 << 20
#: A reply may have several lines (RFC 959 section 4.2), such as a greeting; no honest one has more.
MAX_REPLY_LINES = 1000


class _Control(aioftp.Client):
    """Run aioftp's client on a connection that we have opened."""

    def __init__(self, made: sockets.Connected, tls: ssl.SSLContext | None, **options: Any) -> None:
        super().__init__(**options)
        self._made = made
        self._from_the_start = tls
        self._lines = 0

    async def _open_connection(
        self, host: str, port: int
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        tls = self._from_the_start
        return await asyncio.open_connection(
            sock=self._made.sock, ssl=tls, server_hostname=host if tls else None
        )

    async def take(self, host: str, port: int) -> None:
        """Take the connection over, without a word: `connect` would wait for the greeting, too."""
        await aioftp.BaseClient.connect(self, host, port)

    async def parse_response(self) -> tuple[aioftp.Code, list[str]]:
        """Read a reply, of at most MAX_REPLY_LINES lines."""
        self._lines = 0
        return await super().parse_response()

    async def parse_line(self) -> tuple[aioftp.Code, str]:
        self._lines += 1
        if self._lines > MAX_REPLY_LINES:
            raise ValueError(f"a reply of more than {MAX_REPLY_LINES} lines")
        return await super().parse_line()

    def check_codes(self, expected_codes: Any, received_code: aioftp.Code, info: list[str]) -> None:
        """Check reply codes as the library does, which takes a part of a code for all that begin
        like it."""
        if len(received_code) != 3:
            raise ValueError(f"{received_code!r} is not a reply")
        super().check_codes(expected_codes, received_code, info)


class FtpClient:
    """Make the transfers of one stream, one after the other; the control connection can be kept."""

    def __init__(
        self,
        spec: FtpSpec,
        stream: TransferStream,
        workload: TransferWorkload,
        tls: ssl.SSLContext | None,
    ) -> None:
        self._spec = spec
        self._stream = stream
        self._workload = workload
        self._tls = tls
        self._reach = Reach(spec, stream.id - 1)
        parts = urlsplit(spec.url)
        self._host = parts.hostname or ""
        self._port = parts.port or _PORTS[parts.scheme]
        self._implicit = parts.scheme == "ftps"
        self._path = unquote(FTP_TYPE.sub("", parts.path)).removeprefix("/") or "/"
        self._user = unquote(parts.username or "") or spec.user or "anonymous"
        self._password = unquote(parts.password or "") or spec.password or "netmeasure@"
        self._control: _Control | None = None
        self._address: sockets.Address | None = None
        self._name = f"{self._reach.connection} control"
        self._data_name = f"{self._reach.connection} data"
        self._greeting: str | None = None
        self._passive = spec.passive
        self._watched: Watched | None = None

    async def transfer(self, phases: PhaseLog, limit: int | None) -> int:
        """Make one transfer of at most `limit` bytes, and log its steps in `phases`. Returns the
        bytes. Raises MeasureError."""
        started = now_ns()
        before = self._stream.moved_bytes
        self._stream.begin_transfer()
        keep = False
        try:
            control = self._control or await self._log_in(phases)
            clean = True
            if self._spec.direction == "upload":
                await self._upload(control, phases, limit)
            else:
                clean = await self._download(control, phases, limit)
            if not self._stream.stopping:
                self._stream.completed(started)
                keep = self._spec.keep_connections and clean
        finally:
            if not keep:
                await self.close()
        return self._stream.moved_bytes - before

    def _unwatch(self) -> None:
        """Stop looking at the control connection: payload flows, and every look costs."""
        if self._watched is not None:
            self._watched.remove()

    async def close(self) -> None:
        """Close the control connection, without a word: what it was in may not be over."""
        self._unwatch()
        control, self._control = self._control, None
        if control is not None:
            with suppress(ConnectionError):  # it never came to a connection
                # an orderly end of TLS would wait for the server's part of it
                control.stream.writer.transport.abort()

    # ---- the control connection -----------------------------------------------------------------

    async def _log_in(self, phases: PhaseLog) -> _Control:
        reached = await self._reach.connect(self._host, self._port, phases, self._name)
        made, self._watched = reached.made, reached.watched
        self._address = made.address
        control = self._control = _Control(made, self._tls if self._implicit else None)
        if self._implicit:
            async with self._step("tls", phases):
                await control.take(self._host, self._port)
        else:
            await control.take(self._host, self._port)
        async with self._step("greeting", phases):
            _, lines = await control.command(None, "220", "120")
            self._greeting = " ".join(lines[-1].split())
        if self._spec.explicit_tls and not self._implicit:
            async with self._step("auth", phases, hint="this server has no explicit TLS"):
                await control.command("AUTH TLS", "234")
            async with self._step("tls", phases):
                assert self._tls is not None
                await control.stream.start_tls(self._tls, self._host)
        async with self._step(
            "login", phases, hint="check user and password: --user NAME:PASSWORD"
        ):
            code, _ = await control.command(f"USER {self._user}", ("230", "33x"))
        if code.matches("33x"):
            async with self._step(
                "login", phases, hint="check user and password: --user NAME:PASSWORD"
            ):
                await control.command(f"PASS {self._password}", ("230", "202"))
        if self._protected:
            for command in ("PBSZ 0", "PROT P"):
                async with self._step("auth", phases, hint="this server does not protect data"):
                    await control.command(command, "200")
        async with self._step("type", phases):
            await control.command("TYPE I", "200")
        return control

    @property
    def _protected(self) -> bool:
        return self._implicit or self._spec.explicit_tls

    @asynccontextmanager
    async def _step(
        self, name: str, phases: PhaseLog, hint: str | None = None
    ) -> AsyncIterator[None]:
        """Log a phase on the control connection, with its deadline; errors in our own words."""
        deadline_s, where = self._spec.deadlines.handshake_s, f"{self._host}:{self._port}"
        with phases.measure(name, self._name, self._watched):
            try:
                async with asyncio.timeout(deadline_s):
                    yield
            except TimeoutError:
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
                    f"{where} does not speak FTP: {plain_words(exc)}", phase=name
                ) from None
            except OSError as exc:
                raise MeasureError(f"{where}: {plain_words(exc)}", phase=name) from None

    # ---- the data connection --------------------------------------------------------------------

    async def _data_connection(self, control: _Control, phases: PhaseLog) -> Reached:
        assert self._address is not None
        port = None
        if self._passive != "pasv":
            try:
                async with self._step("passive", phases):
                    _, lines = await control.command("EPSV", "229")
                    port = _port(control.parse_epsv_response(lines[-1]))
            except PeerRefusedError:
                if self._spec.passive == "epsv":
                    raise
                self._passive = "pasv"
        if port is None:
            # the address in the answer is not believed: behind NAT it is wrong, and a server could
            # send us anywhere with it
            async with self._step("passive", phases, hint="this server has no passive mode"):
                _, lines = await control.command("PASV", "227")
                port = _port(control.parse_pasv_response(lines[-1]))
        host, _, *rest = self._address.sockaddr
        there: Any = (host, port, *rest)
        reached = await self._reach.connect_again(
            sockets.Address(self._address.family, there), phases, self._data_name
        )
        if not self._protected:
            reached.unwatch()  # the native loop sees when its bytes come
        self._stream.note_socket(reached.made.sock, reached.made.syn_retransmits)
        return reached

    async def _size(self, control: _Control, phases: PhaseLog) -> int | None:
        """Return what the server says the file's length is; None where it does not say."""
        try:
            async with self._step("size", phases):
                _, lines = await control.command(f"SIZE {self._path}", "213")
                return int(lines[-1].strip())
        except PeerRefusedError:
            return None  # the transfer itself will tell what is wrong

    async def _download(self, control: _Control, phases: PhaseLog, limit: int | None) -> bool:
        """Return whether the control connection is good for another transfer: after a part of a
        file the server's last word is still to come, or never will."""
        spec, stream = self._spec, self._stream
        size = await self._size(control, phases)
        reached = await self._data_connection(control, phases)
        with reached:
            first = spec.first_byte or 0
            if spec.last_byte is not None:
                part = spec.last_byte - first + 1
                limit = part if limit is None else min(part, limit)
            wanted = None if size is None else max(0, size - first)
            if wanted is not None and limit is not None:
                wanted = min(wanted, limit)
            if first:
                async with self._step("transfer_start", phases, hint="the server has no REST"):
                    await control.command(f"REST {first}", "350")
            async with self._step("transfer_start", phases):
                await control.command(f"RETR {self._path}", "1xx")
            self._note(control, size)
            self._workload.begin(self._stream)
            before = stream.moved_bytes
            await self._drain(reached, control, limit, phases)
            got = stream.moved_bytes - before
        # the data connection is closed first: a server may wait for that with its last word
        if stream.stopping:
            return False
        if wanted is not None and got < wanted:
            reason = await self._reason(control, phases)
            raise StreamError(
                f"{public_url(spec.url)} ended early: {got} of {wanted} bytes were received"
                + reason,
                phase="data",
            )
        if limit is not None and got == limit:
            return False
        try:
            await self._final_reply(control, phases)
        except FileRefusedError as exc:  # it had agreed, and something went wrong on the way
            raise StreamError(f"{public_url(spec.url)}: {exc}", phase="data") from None
        return True

    async def _reason(self, control: _Control, phases: PhaseLog) -> str:
        """Return what the server says of a transfer that broke off, if anything."""
        try:
            await self._final_reply(control, phases)
        except FileRefusedError as exc:
            return f": {exc}"
        except NetmeasureError:
            pass
        return ""

    @contextmanager
    def _first_byte(self, phases: PhaseLog, detail: str | None = None) -> Iterator[None]:
        """Record the wait for the first byte of the block, also where that fails later on."""
        began_ns = now_ns()
        self._unwatch()
        try:
            yield
        finally:
            first_ns = self._stream.arrived_of_transfer_ns
            if first_ns is not None:
                end_ns = max(began_ns, first_ns)
                phases.add("first_byte", self._data_name, began_ns, end_ns, detail=detail)

    async def _drain(
        self, reached: Reached, control: _Control, limit: int | None, phases: PhaseLog
    ) -> None:
        stream = self._stream
        if not self._protected:
            reached.made.sock.setblocking(True)
            with self._first_byte(phases):
                await stream.receive(reached.made.sock, limit=limit)
            return
        reader, writer = await self._protect(reached, control, phases)
        try:
            stream.expect(reached.watched, now_ns())
            with self._first_byte(phases):
                await first_of(self._through_library(reader, limit), stream.stopped.wait())
        finally:
            writer.transport.abort()

    async def _protect(
        self, reached: Reached, control: _Control, phases: PhaseLog
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Start TLS on the data connection, in the control connection's session: servers insist on
        it."""
        session = control.stream.writer.transport.get_extra_info("ssl_object")
        context = aioftp.common.SSLSessionBoundContext(
            ssl.PROTOCOL_TLS_CLIENT, context=session.context, session=session.session
        )
        try:
            with phases.measure("tls", self._data_name, reached.watched):
                async with asyncio.timeout(self._spec.deadlines.handshake_s):
                    return await asyncio.open_connection(
                        sock=reached.made.sock,
                        ssl=context,
                        server_hostname=self._host,
                        limit=_READ_BYTES,
                    )
        except TimeoutError:
            raise PeerTimeoutError("no TLS on the data connection in time", phase="tls") from None
        except (ssl.SSLError, OSError) as exc:
            raise TlsError(
                f"no TLS on the data connection: {plain_words(exc)}", phase="tls"
            ) from None

    async def _through_library(self, reader: asyncio.StreamReader, limit: int | None) -> None:
        try:
            await self._stream.count_read(partial(reader.read, _READ_BYTES), limit)
        except OSError as exc:
            raise _broken(exc) from None

    async def _upload(self, control: _Control, phases: PhaseLog, limit: int | None) -> None:
        stream = self._stream
        reached = await self._data_connection(control, phases)
        with reached:
            async with self._step("transfer_start", phases):
                await control.command(f"STOR {self._path}", "1xx")
            self._note(control, None)
            self._workload.begin(self._stream)
            if self._protected:
                await self._send_through_library(reached, control, limit, phases)
            else:
                reached.made.sock.setblocking(True)
                with self._first_byte(phases, "acknowledged"):
                    loop = await stream.send(reached.made.sock, limit=limit, half_close=True)
                if loop.reason == "error":
                    failure = f"sending to {stream.remote} failed: {stream.error}"
                    reason = await self._reason(control, phases)
                    raise StreamError(failure + reason, phase="data")
        await self._final_reply(control, phases)

    async def _send_through_library(
        self, reached: Reached, control: _Control, limit: int | None, phases: PhaseLog
    ) -> None:
        stream = self._stream
        block = random_bytes(stream.plan.block_bytes)
        _, writer = await self._protect(reached, control, phases)
        # asyncio's TLS pauses at a limit, not above it: with 0 it would never go on
        writer.transport.set_write_buffer_limits(1, 0)
        left = limit
        try:
            with self._first_byte(phases, "sent"):
                while not stream.stopping and left != 0:
                    piece = block if left is None else block[: min(left, len(block))]
                    writer.write(piece)
                    await writer.drain()
                    stream.count(len(piece))
                    left = None if left is None else left - len(piece)
            writer.close()
            with suppress(ssl.SSLError):  # a server that answers close_notify with a FIN
                await writer.wait_closed()
        except OSError as exc:
            raise _broken(exc) from None
        finally:
            writer.transport.abort()

    async def _final_reply(self, control: _Control, phases: PhaseLog) -> None:
        async with self._step("final_reply", phases):
            code, _ = await control.command(None, "2xx", "1xx")
        if self._stream.transfer is not None and code.isdigit():
            self._stream.final_status(int(code))

    def _note(self, control: _Control, size: int | None) -> None:
        transfer = Transfer(
            url=public_url(self._spec.url),
            protocol="FTP",
            server=self._greeting,
            content_bytes=size,
            encoding="identity",
        )
        tls = control.stream.writer.transport.get_extra_info("ssl_object")
        self._stream.note_transfer(transfer, tls)


def _port(parsed: tuple[str | None, int]) -> int:
    """Return the port that a server names. Raises ValueError for what is none."""
    if not 0 < parsed[1] < 65_536:
        raise ValueError(f"{parsed[1]} is not a port")
    return parsed[1]


def _refused(step: str, exc: aioftp.StatusCodeError, hint: str | None) -> MeasureError:
    codes = exc.received_codes
    code = codes[-1] if isinstance(codes, tuple) else codes
    said = quoted(" ".join(map(str, exc.info or ())))
    if not str(code).isdigit():
        return RemoteProtocolError(f"no answer of FTP: {quoted(str(code))}{said}", phase=step)
    return FileRefusedError(
        f"the server refused the {step.replace('_', ' ')}: {code} {said}".rstrip(),
        phase=step,
        hint=hint,
    )


def _broken(exc: OSError) -> StreamError:
    return StreamError(f"the data connection broke off: {plain_words(exc)}", phase="data")
