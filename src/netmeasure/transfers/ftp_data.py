"""Open the data connections of FTP transfers, and transfer files over them (RFC 959, 2428, 4217).

The native loops transfer plain files, and the library transfers files with TLS.
"""

from __future__ import annotations

import asyncio
import errno
import ssl
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from typing import Any

import aioftp

from netmeasure.clock import now_ns
from netmeasure.engine.addresses import Address
from netmeasure.engine.phases import PhaseLog
from netmeasure.errors import (
    ConnectError,
    PeerRefusedError,
    PeerTimeoutError,
    StreamError,
    TlsError,
    UnreachableError,
)
from netmeasure.spec import FtpSpec
from netmeasure.transfers import library
from netmeasure.transfers.ftp_control import FtpControl
from netmeasure.transfers.reach import Reach, Reached, plain_words
from netmeasure.transfers.stream import TransferStream

_READ_BYTES = 1 << 20


class FtpDataConnections:
    """Open the data connections of one stream, and remember whether the server supports EPSV."""

    def __init__(self, spec: FtpSpec, reach: Reach, stream: TransferStream) -> None:
        self._spec = spec
        self._reach = reach
        self._stream = stream
        self._has_epsv = spec.passive != "pasv"
        self._name = f"{reach.connection} data"

    async def open(self, control: FtpControl, phases: PhaseLog) -> FtpDataConnection:
        """Return a new data connection. Raises MeasureError."""
        port = await self._epsv(control, phases) if self._has_epsv else None
        if port is None:
            port = await self._pasv(control, phases)
        # The address in PASV's answer is ignored: behind NAT it is wrong, and a server could direct
        # the connection to any host by it
        address = control.address
        host, _, *rest = address.sockaddr
        there: Any = (host, port, *rest)
        try:
            reached = await self._reach.connect_again(
                Address(address.family, there), phases, self._name
            )
        except ConnectError as exc:
            hint = "its passive ports must be open, too: check the firewall before the server"
            raise type(exc)(
                f"the server's FTP data connection: {exc}",
                phase=exc.phase,
                hint=exc.hint if isinstance(exc, UnreachableError) else hint,
                reason=exc.reason,
            ) from None
        if not control.protected:
            reached.unwatch()  # the native loop records when its bytes arrive
        made = reached.made
        self._stream.note_socket(made.sock, made.syn_retransmits, control.address)
        deadline_s = self._spec.deadlines.handshake_s
        return FtpDataConnection(self._name, reached, control, self._stream, deadline_s)

    async def _epsv(self, control: FtpControl, phases: PhaseLog) -> int | None:
        """Return the server's port by EPSV; None: the server has no EPSV, and PASV may be used."""
        try:
            async with control.step("passive", phases):
                _, lines = await control.library.command("EPSV", "229")
                return passive_port(control.library.parse_epsv_response(lines[-1]))
        except PeerRefusedError:
            if self._spec.passive == "epsv":
                raise
            self._has_epsv = False
            return None

    async def _pasv(self, control: FtpControl, phases: PhaseLog) -> int:
        """Return the port on which the server listens."""
        async with control.step("passive", phases, hint="this server has no passive mode"):
            _, lines = await control.library.command("PASV", "227")
            return passive_port(control.library.parse_pasv_response(lines[-1]))


def passive_port(parsed: tuple[str | None, int]) -> int:
    """Return the port in a server's reply. Raises ValueError if it is not a port."""
    if not 0 < parsed[1] < 65_536:
        raise ValueError(f"{parsed[1]} is not a port")
    return parsed[1]


class FtpDataConnection:
    """Transfer one file over a data connection, which is closed when the `with` block is left."""

    def __init__(
        self,
        name: str,
        reached: Reached,
        control: FtpControl,
        stream: TransferStream,
        deadline_s: float,
    ) -> None:
        self._name = name
        self._reached = reached
        self._control = control
        self._stream = stream
        self._deadline_s = deadline_s

    def __enter__(self) -> None: ...

    def __exit__(self, *_: object) -> None:
        self._reached.close()

    async def receive(self, limit: int | None, phases: PhaseLog) -> None:
        """Receive `limit` bytes of the file, or all. Raises StreamError if the connection
        breaks."""
        if self._control.protected:
            await self._receive_through_library(limit, phases)
            return
        sock = self._reached.made.sock
        sock.setblocking(True)
        with self._first_byte(phases), self._awaited(phases):
            loop = await self._stream.native.receive(sock, limit)
        if failure := self._stream.failure(loop):
            raise StreamError(failure, phase="data")

    async def send(self, limit: int | None, phases: PhaseLog) -> None:
        """Send a file of `limit` bytes, or send until the stream is stopped. Raises StreamError if
        the connection breaks."""
        if self._control.protected:
            await self._send_through_library(limit, phases)
            return
        sock = self._reached.made.sock
        sock.setblocking(True)
        with self._first_byte(phases, "acknowledged"):
            loop = await self._stream.native.send(sock, limit, half_close=True)
        if failure := self._stream.failure(loop):
            raise StreamError(failure, phase="data")

    @contextmanager
    def _first_byte(self, phases: PhaseLog, detail: str | None = None) -> Iterator[None]:
        """Record the wait for the first byte of the block, even if the block fails later."""
        began_ns = now_ns()
        self._control.unwatch()
        try:
            yield
        finally:
            first_ns = self._stream.first_byte.arrived_ns
            if first_ns is not None:
                end_ns = max(began_ns, first_ns)
                phases.add("first_byte", self._name, began_ns, end_ns, detail=detail)

    def _awaited(self, phases: PhaseLog) -> AbstractContextManager[None]:
        """Tell the followers of the run that set-up waits for the first byte of a file."""
        return phases.awaiting("first_byte", self._name, self._stream.has_begun)

    # ---- TLS -------------------------------------------------------------------------------------

    async def _receive_through_library(self, limit: int | None, phases: PhaseLog) -> None:
        stream = self._stream
        reader, writer = await self._protect(phases)
        try:
            stream.first_byte.expect(self._reached.watched, now_ns())
            with self._first_byte(phases), self._awaited(phases):
                await library.receive(stream, partial(reader.read, _READ_BYTES), limit)
        except OSError as exc:
            raise _broken(exc) from None
        finally:
            writer.transport.abort()

    async def _send_through_library(self, limit: int | None, phases: PhaseLog) -> None:
        _, writer = await self._protect(phases)
        library.flush_each_write(writer.transport)

        async def write(piece: bytes) -> None:
            if writer.is_closing():  # uvloop raises RuntimeError where asyncio drops the bytes
                raise ConnectionResetError(errno.ECONNRESET, "the server has closed")
            writer.write(piece)
            await writer.drain()

        try:
            with self._first_byte(phases, "sent"):
                await library.send(self._stream, write, limit)
            writer.close()
            with suppress(ssl.SSLError):  # some servers answer close_notify with a FIN
                await writer.wait_closed()
        except OSError as exc:
            raise _broken(exc) from None
        finally:
            writer.transport.abort()

    async def _protect(self, phases: PhaseLog) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Start TLS in the session of the control connection, which servers require."""
        session: Any = self._control.tls
        context = aioftp.common.SSLSessionBoundContext(
            ssl.PROTOCOL_TLS_CLIENT, context=session.context, session=session.session
        )
        try:
            with phases.measure("tls", self._name, self._reached.watched):
                async with asyncio.timeout(self._deadline_s):
                    return await asyncio.open_connection(
                        sock=self._reached.made.sock,
                        ssl=context,
                        server_hostname=self._control.host,
                        limit=_READ_BYTES,
                    )
        except TimeoutError:
            raise PeerTimeoutError(
                f"no TLS on the data connection in {self._deadline_s:g} s",
                phase="tls",
            ) from None
        except (ssl.SSLError, OSError) as exc:
            raise TlsError(
                f"no TLS on the data connection: {plain_words(exc)}", phase="tls"
            ) from None


def _broken(exc: OSError) -> StreamError:
    return StreamError(f"the data connection broke off: {plain_words(exc)}", phase="data")
