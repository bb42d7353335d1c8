"""Transfer files by FTP: aioftp handles the control connection; netmeasure opens the data
connections itself.

Each step has its own clock: resolve, connect, greeting, AUTH, login, SIZE, EPSV or PASV, connect of
the data connection, the reply that the transfer starts, the first byte, and the final reply after
the last (RFC 959, 2428, 4217).
"""

from __future__ import annotations

import re
import ssl
from contextlib import AbstractContextManager, nullcontext
from urllib.parse import urlsplit

from netmeasure.clock import now_ns
from netmeasure.engine.phases import PhaseLog
from netmeasure.errors import FileRefusedError, NetmeasureError, PeerRefusedError, StreamError
from netmeasure.measurement.run import LAST_REPLY
from netmeasure.result import Transfer
from netmeasure.spec import FtpSpec
from netmeasure.spec.fetch import FTP_TYPE
from netmeasure.text import quoted
from netmeasure.transfers.ftp_control import FtpControl, named_in
from netmeasure.transfers.ftp_data import FtpDataConnections
from netmeasure.transfers.reach import Reach, public_url
from netmeasure.transfers.stream import TransferStream
from netmeasure.transfers.workload import TransferWorkload


class FtpClient:
    """Make the FTP transfers of one stream, one after the other; the control connection can be
    kept."""

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
        path = re.sub(FTP_TYPE, "", urlsplit(spec.url).path)
        self._path = named_in(path).removeprefix("/") or "/"
        self._control: FtpControl | None = None
        self._data = FtpDataConnections(spec, self._reach, stream)

    async def transfer(self, phases: PhaseLog, limit: int | None) -> int:
        """Make one transfer of at most `limit` bytes, record its steps in `phases`, and return the
        number of bytes. Raises MeasureError."""
        started_ns = now_ns()
        before = self._stream.moved_bytes
        self._stream.first_byte.begin_transfer()
        keep = False
        try:
            control = self._control or await self._log_in(phases)
            clean = True
            if self._spec.direction == "upload":
                await self._upload(control, phases, limit)
            else:
                clean = await self._download(control, phases, limit)
            if not self._stream.stopping:
                self._stream.completed(started_ns)
                keep = self._spec.keep_connections and clean
        finally:
            if not keep:
                await self.close()
        return self._stream.moved_bytes - before

    async def _log_in(self, phases: PhaseLog) -> FtpControl:
        self._control = FtpControl(self._spec, self._reach, self._tls)
        await self._control.log_in(phases)
        return self._control

    async def close(self) -> None:
        """Close the control connection at once."""
        control, self._control = self._control, None
        if control is not None:
            control.close()

    # ---- download --------------------------------------------------------------------------------

    async def _download(self, control: FtpControl, phases: PhaseLog, limit: int | None) -> bool:
        """Download the file, or a part of it. Return whether the control connection can be reused.
        After a partial download, the server's final reply may be late or missing."""
        spec, stream = self._spec, self._stream
        size = await self._size(control, phases)
        first = spec.first_byte or 0
        if spec.last_byte is not None:
            part = spec.last_byte - first + 1
            limit = part if limit is None else min(part, limit)
        data = await self._data.open(control, phases)
        with data:
            if first:
                hint = "the server does not support REST, a start within the file"
                await control.command("transfer_start", phases, f"REST {first}", "350", hint=hint)
            await control.command("transfer_start", phases, f"RETR {self._path}", "1xx")
            self._note(control, size)
            self._workload.begin_body(stream)
            before = stream.moved_bytes
            await data.receive(limit, phases)
            got = stream.moved_bytes - before
        stream.end_body()
        # the data connection is closed by now: a server may send its final reply only after that
        if stream.stopping:
            return False
        wanted = None if size is None else max(0, size - first)
        if wanted is not None and limit is not None:
            wanted = min(wanted, limit)
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
            with self._last_reply(phases):
                await self._final_reply(control, phases)
        # the server had begun the transfer, and could not complete it
        except FileRefusedError as exc:
            raise StreamError(f"{public_url(spec.url)}: {exc}", phase="data") from None
        return True

    async def _size(self, control: FtpControl, phases: PhaseLog) -> int | None:
        """Return the file's length by the server; None: the server does not report it."""
        try:
            async with control.step("size", phases):
                _, lines = await control.library.command(f"SIZE {self._path}", "213")
                said = lines[-1].strip()
                if not (said.isascii() and said.isdecimal() and len(said) <= 19):
                    raise ValueError(f"the file's size is {quoted(said)!r}")
                return int(said)
        except PeerRefusedError:
            return None  # if the file can't be read, the reply to RETR gives the reason

    # ---- upload ----------------------------------------------------------------------------------

    async def _upload(self, control: FtpControl, phases: PhaseLog, limit: int | None) -> None:
        data = await self._data.open(control, phases)
        with data:
            await control.command("transfer_start", phases, f"STOR {self._path}", "1xx")
            self._note(control, None)
            self._workload.begin_body(self._stream)
            try:
                await data.send(limit, phases)
            except StreamError as exc:
                reason = await self._reason(control, phases)
                raise StreamError(f"{exc}{reason}", phase="data") from None
        self._stream.end_body()
        with self._last_reply(phases):
            await self._final_reply(control, phases)

    # ---- replies of the server -------------------------------------------------------------------

    async def _reason(self, control: FtpControl, phases: PhaseLog) -> str:
        """Return the server's reason for a failed transfer, to be added to a message; empty: the
        server gives no reason."""
        try:
            await self._final_reply(control, phases)
        except FileRefusedError as exc:
            return f": {exc}"
        except NetmeasureError:
            pass
        return ""

    async def _final_reply(self, control: FtpControl, phases: PhaseLog) -> None:
        code, _ = await control.command("final_reply", phases, None, "2xx", pending="1xx")
        if code.isdigit():
            self._stream.note_final_status(int(code))

    def _last_reply(self, phases: PhaseLog) -> AbstractContextManager[None]:
        """Tell the followers of the run that the block waits for the reply that ends this stream's
        last transfer. After any other transfer, the data phase goes on."""
        if self._spec.repeat and self._spec.direction == "download":
            return nullcontext()
        return phases.awaiting(LAST_REPLY, self._reach.connection, self._workload.flowing)

    def _note(self, control: FtpControl, size: int | None) -> None:
        transfer = Transfer(
            url=public_url(self._spec.url),
            protocol="FTP",
            server=control.greeting,
            content_bytes=size,
            encoding="identity",
        )
        self._stream.note_transfer(transfer, control.tls)
