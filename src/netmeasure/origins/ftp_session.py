"""Serve one FTP client: its commands in order, and at most one transfer at a time."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import posixpath
import socket
from collections.abc import Callable, Coroutine, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

from netmeasure.engine.sockopts import try_set
from netmeasure.engine.tasks import cancel_and_wait, uninterrupted
from netmeasure.errors import BusyOriginError
from netmeasure.origins.catalog import DIRECTORIES, SAMPLES, size_of
from netmeasure.origins.ftp_ports import DataListener, PassivePorts
from netmeasure.origins.transfers import Transfers
from netmeasure.spec import OriginLimits

LINE_BYTES = 4096
_FEATURES = ("EPSV", "REST STREAM", "SIZE", "TVFS", "UTF8")
#: The commands that need no login.
_WITHOUT_LOGIN = frozenset({"USER", "PASS", "QUIT", "FEAT", "OPTS", "NOOP", "SYST", "AUTH"})
#: The network protocols of EPSV (RFC 2428).
_EPSV_FAMILY = {"1": socket.AF_INET, "2": socket.AF_INET6}

Command = Callable[[str], Coroutine[Any, Any, None]]


class _EndOfSession(Exception):  # noqa: N818  (no error)
    """End the session: the last reply has been sent."""


class _RefusedError(Exception):
    """Refuse a command with a reply."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code


class Shared(NamedTuple):
    """Hold what all sessions of a server share."""

    limits: OriginLimits
    transfers: Transfers
    ports: PassivePorts
    passive_address: str | None
    users: Mapping[str, str] | None


class FtpSession:
    """Serve one client on its control connection."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, shared: Shared
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._shared = shared
        self._limits = shared.limits
        self._transfers = shared.transfers
        self._local = writer.get_extra_info("sockname")
        peer = writer.get_extra_info("peername")
        self._peer_host: str = peer[0] if peer else ""  # empty if the client has already closed
        self._reading: asyncio.Task[bytes] | None = None
        self._listener: DataListener | None = None
        self._user: str | None = None
        self._logged_in = False
        self._directory = "/"
        self._restart = 0
        self._commands: dict[str, Command] = {
            "USER": self._user_name,
            "PASS": self._password,
            "QUIT": self._quit,
            "SYST": self._always(215, "UNIX Type: L8"),
            "NOOP": self._always(200, "done"),
            "ALLO": self._always(202, "not needed"),
            "OPTS": self._options,
            "FEAT": self._features,
            "TYPE": self._one_of("A", "A N", "I", "L 8"),
            "MODE": self._one_of("S"),
            "STRU": self._one_of("F"),
            "PWD": self._print_directory,
            "XPWD": self._print_directory,
            "CWD": self._change_directory,
            "CDUP": self._directory_up,
            "SIZE": self._size,
            "REST": self._restart_at,
            "EPSV": self._extended_passive,
            "PASV": self._passive,
            "ABOR": self._always(226, "no transfer is running"),
            "RETR": self._retrieve,
            "STOR": self._store,
            "APPE": self._store,
            "LIST": self._list,
            "NLST": self._name_list,
        }

    # ---- the control connection -----------------------------------------------------------------

    async def run(self, *, crowded: bool) -> None:
        """Serve the client until it leaves or the server ends it. Raises only CancelledError."""
        ended = False
        try:
            self._set_up()
            if crowded:
                await self._reply(421, "too many connections, try again later")
            else:
                await self._reply(220, "netmeasure: a file's name is its size, such as 10M.dat")
                while (line := await self._command()) is not None:
                    await self._obey(line)
            ended = True
        except _EndOfSession:
            ended = True
        except OSError:
            pass  # the client has closed or does not read the reply (TimeoutError is an OSError)
        finally:
            if self._reading is not None:
                await cancel_and_wait(self._reading)
            self._stop_listening()
            if ended:
                self._writer.close()
            else:
                self._writer.transport.abort()

    def _set_up(self) -> None:
        sock = self._writer.get_extra_info("socket")
        # clients send ABOR as urgent data, of which recv() would otherwise skip the last byte
        try_set(sock, socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)
        try_set(sock, socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._writer.transport.set_write_buffer_limits(0)  # drain() waits until all is sent

    async def _reply(self, code: int, text: str, *lines: str) -> None:
        """Send a reply of one line, or one of several that begins with `text` (RFC 959, 4.2)."""
        reply = f"{code} {text}\r\n"
        if lines:
            reply = f"{code}-{text}\r\n" + "".join(f" {line}\r\n" for line in lines)
            reply += f"{code} end\r\n"
        if self._writer.is_closing():  # uvloop raises RuntimeError where asyncio drops the bytes
            raise ConnectionResetError(errno.ECONNRESET, "the client has closed")
        self._writer.write(reply.encode())
        async with asyncio.timeout(self._limits.stall_s):
            await self._writer.drain()

    def _read(self) -> asyncio.Task[bytes]:
        """Return the task that reads the next command, which may have begun during a transfer."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._reader.readline())
        return self._reading

    async def _command(self) -> str | None:
        """Return the next command line; None if the client closed or sent none in time."""
        reading = self._read()
        await asyncio.wait({reading}, timeout=self._limits.idle_s)
        if not reading.done():
            await self._reply(421, f"no command for {self._limits.idle_s:g} s")
            return None
        self._reading = None
        try:
            line = reading.result()
        except ValueError:
            await self._reply(500, f"the command has more than {LINE_BYTES} bytes")
            return None
        return _text(line) if line.endswith(b"\n") else None

    async def _obey(self, line: str) -> None:
        word, _, rest = line.partition(" ")
        name = word.upper()
        command = self._commands.get(name)
        try:
            if command is None:
                raise _RefusedError(502, "unknown command")
            if not self._logged_in and name not in _WITHOUT_LOGIN:
                raise _RefusedError(530, "log in first")
            await command(rest)
        except _RefusedError as refusal:
            await self._reply(refusal.code, str(refusal))
        except BusyOriginError:
            await self._reply(450, "too many transfers, try again later")
        if name not in ("REST", "TYPE", "MODE", "STRU", "PASV", "EPSV", "NOOP", "SIZE"):
            self._restart = 0  # REST counts only for the next transfer

    # ---- simple commands ------------------------------------------------------------------------

    def _always(self, code: int, text: str) -> Command:
        async def command(_: str) -> None:
            await self._reply(code, text)

        return command

    def _one_of(self, *values: str) -> Command:
        async def command(value: str) -> None:
            if value.upper() not in values:
                raise _RefusedError(504, f"only {' or '.join(values)}")
            await self._reply(200, "done")

        return command

    async def _user_name(self, name: str) -> None:
        self._user, self._logged_in = name, False
        await self._reply(
            331, "any password will do" if self._shared.users is None else "password?"
        )

    async def _password(self, password: str) -> None:
        if self._user is None:
            raise _RefusedError(503, "USER first")
        users = self._shared.users
        if users is not None and users.get(self._user) != password:
            raise _RefusedError(530, "wrong name or password")
        self._logged_in = True
        await self._reply(230, "welcome")

    async def _quit(self, _: str) -> None:
        await self._reply(221, "goodbye")
        raise _EndOfSession

    async def _options(self, option: str) -> None:
        if option.upper() != "UTF8 ON":
            raise _RefusedError(501, "no such option")
        await self._reply(200, "UTF-8 is always on")

    async def _features(self, _: str) -> None:
        await self._reply(211, "features", *_FEATURES)

    # ---- names ----------------------------------------------------------------------------------

    def _path(self, name: str) -> str:
        path = posixpath.normpath(posixpath.join(self._directory, name))
        return "/" + path.lstrip("/")

    def _file_size(self, name: str) -> int:
        size = size_of(self._path(name), self._limits.max_bytes)
        if size is None:
            raise _RefusedError(550, "no such file: a name is a size, such as 10M.dat")
        return size

    async def _print_directory(self, _: str) -> None:
        await self._reply(257, f'"{self._directory}"')

    async def _change_directory(self, name: str) -> None:
        path = self._path(name)
        if path not in DIRECTORIES:
            raise _RefusedError(550, "no such directory")
        self._directory = path
        await self._reply(250, path)

    async def _directory_up(self, _: str) -> None:
        await self._change_directory("..")

    async def _size(self, name: str) -> None:
        await self._reply(213, str(self._file_size(name)))

    async def _restart_at(self, offset: str) -> None:
        if not (offset.isascii() and offset.isdecimal() and len(offset) <= 19):
            raise _RefusedError(501, "not an offset")
        self._restart = int(offset)
        await self._reply(350, f"the next transfer starts at {self._restart}")

    # ---- data connections -----------------------------------------------------------------------

    async def _extended_passive(self, protocol: str) -> None:
        family = self._family()
        if protocol.upper() == "ALL":  # the client will use EPSV only (RFC 2428, 4)
            await self._reply(200, "done")
            return
        if protocol and _EPSV_FAMILY.get(protocol) != family:
            ours = next(number for number, kind in _EPSV_FAMILY.items() if kind == family)
            raise _RefusedError(522, f"use protocol ({ours})")
        port = self._listen()
        await self._reply(229, f"entering extended passive mode (|||{port}|)")

    async def _passive(self, _: str) -> None:
        if self._family() != socket.AF_INET:
            raise _RefusedError(425, "PASV is for IPv4, use EPSV")
        port = self._listen()
        host = self._shared.passive_address or self._local[0]
        numbers = (*ipaddress.IPv4Address(host).packed, port >> 8, port & 0xFF)
        await self._reply(227, f"entering passive mode ({','.join(map(str, numbers))})")

    def _family(self) -> int:
        return int(self._writer.get_extra_info("socket").family)

    def _listen(self) -> int:
        self._stop_listening()
        try:
            sock = self._shared.ports.open(self._family(), self._local)
        except OSError:
            sock = None
        if sock is None:
            raise _RefusedError(425, "no port is free")
        self._listener = DataListener(sock, self._peer_host)
        return self._listener.port

    def _stop_listening(self) -> None:
        if self._listener is not None:
            self._listener.close()
            self._listener = None

    async def _data_connection(self) -> socket.socket:
        listener = self._listener
        if listener is None:
            raise _RefusedError(425, "PASV or EPSV first")
        try:
            return await listener.connection(self._limits.connect_s)
        except TimeoutError:
            raise _RefusedError(425, "no data connection came") from None
        finally:
            self._stop_listening()

    # ---- transfers ------------------------------------------------------------------------------

    async def _abortable(self, transfer: Coroutine[Any, Any, None]) -> None:
        """Run a transfer until its end, ABOR, or the end of the control connection. Any other
        command waits until the transfer has ended."""
        task = asyncio.create_task(transfer)
        reading = self._read()
        try:
            await asyncio.wait({task, reading}, return_when=asyncio.FIRST_COMPLETED)
            if not task.done() and not _must_end(reading):
                await asyncio.wait({task})
        finally:
            task.cancel()
            await uninterrupted(_ended(task))
        if task.cancelled():
            await self._reply(426, "the transfer was aborted")
        else:
            task.result()

    async def _retrieve(self, name: str) -> None:
        size, offset = self._file_size(name), self._restart
        if offset > size:
            raise _RefusedError(554, f"the file has only {size} bytes")
        with self._transfers.slot():
            await self._abortable(self._send(offset, size - offset))

    async def _send(self, offset: int, length: int) -> None:
        with await self._data_connection() as sock:
            await self._reply(150, f"sending {length} bytes")
            end = await self._transfers.send(sock, offset, length, close=True)
        if end != "complete":
            raise _RefusedError(426, f"the transfer {end}")
        await self._reply(226, f"{length} bytes sent")

    async def _store(self, _: str) -> None:
        with self._transfers.slot():
            await self._abortable(self._receive())

    async def _receive(self) -> None:
        with await self._data_connection() as sock:
            await self._reply(150, "ready to receive")
            end, count = await self._transfers.receive(sock)
        if end != "complete":
            raise _RefusedError(426, f"the transfer {end} after {count} bytes")
        await self._reply(226, f"{count} bytes received and discarded")

    async def _list(self, options: str) -> None:
        await self._abortable(self._send_listing(self._listed(options), _long))

    async def _name_list(self, options: str) -> None:
        await self._abortable(self._send_listing(self._listed(options), lambda name, _: name))

    def _listed(self, options: str) -> dict[str, int]:
        """Return names and sizes for LIST and NLST. Words with a dash are options of ls(1)."""
        name = " ".join(word for word in options.split() if not word.startswith("-"))
        path = self._path(name)
        if path == "/":
            return {sample: self._file_size(f"/{sample}") for sample in SAMPLES}
        return {} if path in DIRECTORIES else {name: self._file_size(name)}

    async def _send_listing(self, files: dict[str, int], line: Callable[[str, int], str]) -> None:
        text = "".join(f"{line(name, size)}\r\n" for name, size in files.items())
        with await self._data_connection() as sock:
            await self._reply(150, "sending the listing")
            sock.setblocking(False)
            try:
                async with asyncio.timeout(self._limits.stall_s):
                    await asyncio.get_running_loop().sock_sendall(sock, text.encode())
            except OSError:
                raise _RefusedError(426, "the listing failed") from None
        await self._reply(226, "done")


def _long(name: str, size: int) -> str:
    """Format a line of LIST as `ls -l` does, which is the format that all clients know."""
    return f"-r--r--r-- 1 ftp ftp {size:>14} Jan  1  2024 {name}"


def _text(line: bytes) -> str:
    """Return a command line without its line end and the Telnet controls before an ABOR."""
    return line.lstrip(bytes(range(0xF0, 0x100))).decode(errors="replace").strip("\r\n")


def _must_end(reading: asyncio.Task[bytes]) -> bool:
    """Return whether the transfer must end: the client has sent ABOR or closed."""
    if reading.exception() is not None:
        return True
    line = reading.result()
    return not line.endswith(b"\n") or _text(line).upper() == "ABOR"


async def _ended(task: asyncio.Task[None]) -> None:
    with suppress(asyncio.CancelledError):
        await asyncio.wait({task})
