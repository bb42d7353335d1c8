"""Encrypt a control connection with TLS, over a socket that is already connected.

Both ends use OpenSSL without a socket (`ssl.SSLObject`), so that a server can tell by the first
bytes of a connection whether its client uses TLS, and one port serves both kinds.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

from netmeasure.errors import SpecError, TlsError

_RECEIVE_BYTES = 64 * 1024
#: The first bytes of a ClientHello (RFC 8446, 5.1): a handshake record of any version.
_CLIENT_HELLO = b"\x16\x03"
#: Messages and hints for certificate errors (X509_V_ERR_..., openssl-verification-options(1));
#: other errors have OpenSSL's message.
_NOT_TRUSTED = "if you trust the server, give its certificate or its CA's with --ca-file FILE"
_OTHER_NAME = "connect to a name in the certificate (subjectAltName), or make one for this name"
_CERTIFICATE_FAULTS = {
    9: ("its certificate is not valid yet", "compare the clocks of both hosts"),
    10: ("its certificate has expired", "renew it on the server, or set this host's clock"),
    18: ("its certificate is self-signed, and not trusted here", _NOT_TRUSTED),
    19: ("its certificate's root CA is not trusted here", _NOT_TRUSTED),
    20: ("its certificate's CA is not trusted here", _NOT_TRUSTED),
    62: ("its certificate is for another name", _OTHER_NAME),
    64: ("its certificate is for another address", _OTHER_NAME),
}
#: The record types with which a server may begin: an alert or a handshake record.
_RECORDS = (b"\x15", b"\x16")
_NO_TLS = "start it with --tls-cert and --tls-key, or leave --tls out: nothing is encrypted then"


def begins_tls(data: bytes) -> bool:
    """Return whether a client's first bytes are the start of a TLS record."""
    return data.startswith(_CLIENT_HELLO)


def client_context(ca_file: str | None, *, insecure: bool = False) -> ssl.SSLContext:
    """Return the TLS context that checks a server's certificate, against a file of CAs or the
    system's CAs; `insecure`: without a check. Raise SpecError if the file can't be used."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as exc:
        malformed = not isinstance(exc, OSError) or isinstance(exc, ssl.SSLError)
        reason = "it holds no valid certificate" if malformed else _why(exc)
        raise SpecError(
            f"can't use the CA file {ca_file}: {reason}",
            hint="give a PEM file with the certificates of CAs",
        ) from None
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Identity:
    """Hold a server's certificate and key, and reload them when the files have changed, so that a
    certificate can be renewed while the server runs."""

    def __init__(self, certificate: str, key: str | None, trouble: Callable[[str], None]) -> None:
        """Raise SpecError if the files can't be used. `trouble` is called if newer files can't be
        used."""
        self._files = [Path(certificate), *([Path(key)] if key else [])]
        self._trouble = trouble
        self._seen = self._state()
        self._context, self._binding = self._load()

    def _load(self) -> tuple[ssl.SSLContext, bytes]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        names = " and ".join(map(str, self._files))
        try:
            # OpenSSL would ask for the passphrase of an encrypted key on the terminal
            context.load_cert_chain(self._files[0], self._files[-1], password=lambda: "")
            pem = self._files[0].read_text()
            end = pem.index(ssl.PEM_FOOTER) + len(ssl.PEM_FOOTER)
            der = ssl.PEM_cert_to_DER_cert(pem[pem.index(ssl.PEM_HEADER) : end])
        except (OSError, ValueError) as exc:
            hint = "they must be PEM, the key without a passphrase, and belong together"
            raise SpecError(f"can't use {names} for TLS: {_why(exc)}", hint=hint) from None
        return context, hashlib.sha256(der).digest()

    def _state(self) -> list[tuple[int, int]]:
        """Return a value that changes when the files change."""
        try:
            return [(found.st_mtime_ns, found.st_ino) for found in map(os.stat, self._files)]
        except OSError:
            return []

    def stream(self, sock: socket.socket, received: bytes) -> TlsStream:
        """Return the server's end of a TLS connection from which some bytes were already
        received."""
        state = self._state()
        if state != self._seen:
            self._seen = state
            try:
                self._context, self._binding = self._load()
            except SpecError as exc:
                self._trouble(f"{exc}: the previous certificate stays in use")
        machine = _Machine(self._context, server_side=True)
        machine.incoming.write(received)
        return TlsStream(sock, machine, self._binding)


def client_stream(sock: socket.socket, context: ssl.SSLContext, server_name: str) -> TlsStream:
    """Return the client's end of a TLS connection to a server of that name."""
    name = server_name.partition("%")[0]  # the zone of a link-local address is local to this host
    return TlsStream(sock, _Machine(context, server_side=False, server_name=name))


class _NotTlsError(OSError):
    """Report that a server answers in plain text."""


class _Machine:
    """Hold OpenSSL's state of one end, and its encrypted input and output."""

    def __init__(
        self, context: ssl.SSLContext, *, server_side: bool, server_name: str | None = None
    ) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(
            self.incoming, self.outgoing, server_side=server_side, server_hostname=server_name
        )


class TlsStream:
    """Send and receive bytes over TLS. The socket belongs to the caller."""

    def __init__(self, sock: socket.socket, machine: _Machine, binding: bytes = b"") -> None:
        self._sock = sock
        self._machine = machine
        self._sending = asyncio.Lock()
        self._heard = machine.tls.server_side
        #: the identifier of the session at both ends: the digest of the server's certificate
        self.binding = binding

    async def shake_hands(self) -> None:
        """Agree on keys, and check the server's certificate. Raise OSError (ssl.SSLError is one) if
        that fails; the peer is told."""
        tls = self._machine.tls
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except ssl.SSLError:
                await self._flush()
                raise
            else:
                await self._flush()
                certificate = tls.getpeercert(binary_form=True)
                if certificate is not None:
                    self.binding = hashlib.sha256(certificate).digest()
                return

    async def receive(self, size: int) -> bytes:
        """Return the received bytes; b"": the end of the connection. Cancelling the call loses no
        byte."""
        while True:
            try:
                return self._machine.tls.read(size)
            except ssl.SSLWantReadError:
                await self._flush()
                await self._fill()
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                return b""

    async def receive_exactly(self, count: int) -> bytes:
        """Return `count` bytes, or fewer at the end of the connection."""
        data = b""
        while len(data) < count and (piece := await self.receive(count - len(data))):
            data += piece
        return data

    async def send(self, data: bytes) -> None:
        """Send bytes."""
        self._machine.tls.write(data)
        await self._flush()

    def say_goodbye(self) -> None:
        """Tell the peer that no more data follow (close_notify), as far as the socket accepts the
        bytes."""
        try:
            self._machine.tls.unwrap()
        except (OSError, ValueError):
            pass  # the peer has not sent its close_notify yet, or the session was already broken
        try:
            self._sock.send(self._machine.outgoing.read())
        except OSError:
            pass  # the peer is gone, or does not read

    async def _flush(self) -> None:
        async with self._sending:
            data = self._machine.outgoing.read()
            if data:
                await asyncio.get_running_loop().sock_sendall(self._sock, data)

    async def _fill(self) -> None:
        data = await asyncio.get_running_loop().sock_recv(self._sock, _RECEIVE_BYTES)
        if not self._heard and data and data[:1] not in _RECORDS:
            # OpenSSL would wait for the rest of a record's head
            raise _NotTlsError("plain text instead of TLS")
        self._heard = True
        if data:
            self._machine.incoming.write(data)
        else:
            self._machine.incoming.write_eof()


def is_plain_text(exc: BaseException) -> bool:
    """Return whether an error of `TlsStream.shake_hands` means an answer in plain text."""
    return isinstance(exc, _NotTlsError)


def tls_error(where: str, exc: OSError) -> TlsError:
    """Return the error of a client whose TLS handshake with a server failed."""
    hint: str | None = None
    if isinstance(exc, ssl.SSLCertVerificationError):
        said, hint = _CERTIFICATE_FAULTS.get(
            exc.verify_code, (f"its certificate was rejected: {exc.verify_message}", _NOT_TRUSTED)
        )
    elif is_plain_text(exc):
        said, hint = "it answers in plain text", _NO_TLS
    elif isinstance(exc, ssl.SSLEOFError) or not isinstance(exc, ssl.SSLError):
        said, hint = "it closed the connection instead", _NO_TLS
    else:
        said = _why(exc)
        hint = "the two ends have no TLS version or cipher in common"
    return TlsError(f"no TLS with {where}: {said}", phase="tls", hint=hint)


def tls_trouble(exc: ssl.SSLError) -> str:
    """Return why a client's handshake failed, for the server's log."""
    return f"the TLS handshake failed: {_why(exc)}"


def _why(exc: Exception) -> str:
    """Return the message of a system call's or OpenSSL's error."""
    if isinstance(exc, ssl.SSLError):
        return (exc.reason or str(exc)).replace("_", " ").lower()
    return getattr(exc, "strerror", None) or str(exc)
