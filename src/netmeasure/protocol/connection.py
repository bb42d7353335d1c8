"""Model one end of a control connection as a state machine on bytes, without socket or clock.

Pass received bytes to `receive_data` (b"": end of file), take messages with `next_message` until it
returns NeedData, and encode messages with `send`. Steps that are not in the table of `states` raise
LocalProtocolError for this end's messages, and RemoteProtocolError for the peer's.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from typing import Any

import msgspec

from netmeasure.errors import LocalProtocolError, RemoteProtocolError
from netmeasure.protocol.messages import (
    COOKIE_BYTES,
    Announcement,
    Challenge,
    Parameters,
    PeerResults,
    Proof,
    QueuePlace,
    ServerError,
    results_limit_bytes,
)
from netmeasure.protocol.secret import NONCE_BYTES, PROOF_BYTES
from netmeasure.protocol.states import BYTES, KINDS, Kind, Side, State, expected, follow, origin
from netmeasure.protocol.strangers import likely_service

_LENGTH = struct.Struct(">I")
_ERROR = struct.Struct(">ii")

#: A JSON length below 2**24 starts with a zero byte, which is no message byte. So SERVER_ERROR or
#: CLIENT_TERMINATE instead of the expected JSON is recognised, and not read as a length.
MAX_JSON_BYTES = 2**24 - 1
MAX_PARAMETER_BYTES = 64 * 1024
#: The messages that may arrive before the step to which they belong.
MAX_AHEAD_BYTES = 128 * 1024


class Message(msgspec.Struct, frozen=True):
    """Hold a message from the peer. Payload: cookie str | Parameters | Announcement | QueuePlace |
    Challenge | Proof | PeerResults | ServerError | None."""

    kind: Kind
    payload: Any = None


class NeedData:
    """Report that the next message is incomplete and needs more bytes."""


class Closed:
    """Report that the peer has closed the connection between two messages."""


_DECODERS: dict[Kind, Callable[[bytes], Any]] = {
    Kind.PARAMETERS: Parameters.decode,
    Kind.EXTENSION: Announcement.decode,
    Kind.CLIENT_RESULTS: PeerResults.decode,
    Kind.SERVER_RESULTS: PeerResults.decode,
}


#: The fixed sizes of the payloads of these messages.
_SIZES = {
    Kind.QUEUED: _LENGTH.size,
    Kind.CHALLENGE: NONCE_BYTES,
    Kind.PROOF: PROOF_BYTES,
    Kind.SERVER_ERROR: _ERROR.size,
}
#: The messages before a proof, to which the proof is bound.
_PROVEN = frozenset({Kind.COOKIE, Kind.PARAMETERS, Kind.CHALLENGE})

Payload = (
    str
    | Parameters
    | Announcement
    | QueuePlace
    | Challenge
    | Proof
    | PeerResults
    | ServerError
    | None
)
_PAYLOADS: dict[Kind, type] = {
    Kind.COOKIE: str,
    Kind.PARAMETERS: Parameters,
    Kind.EXTENSION: Announcement,
    Kind.QUEUED: QueuePlace,
    Kind.CHALLENGE: Challenge,
    Kind.PROOF: Proof,
    Kind.CLIENT_RESULTS: PeerResults,
    Kind.SERVER_RESULTS: PeerResults,
    Kind.SERVER_ERROR: ServerError,
}


class Connection:
    """Follow the control protocol from the viewpoint of `side`."""

    def __init__(self, side: Side) -> None:
        self.side = side
        self.state = State.START
        self._buffer = bytearray()
        #: the first of the peer's bytes that violated the protocol; empty: no violation
        self.refused = b""
        self._eof = False
        self._breach: str | None = None
        self._parameters: Parameters | None = None
        self._spoken = hashlib.sha256()

    @property
    def transcript(self) -> bytes:
        """Return the digest of the cookie, the parameters and the challenge, as they were sent."""
        return self._spoken.digest()

    # ---- sending ----------------------------------------------------------------------------

    def send(self, kind: Kind, payload: Payload = None) -> bytes:
        """Return the bytes of a message, and move on to the next state."""
        after = follow(self.state, kind)
        if origin(kind) is not self.side or after is None:
            raise LocalProtocolError(f"a {self.side.value} can't send {kind.name} in {self._where}")
        data = self._encode(kind, payload)
        self.state = after
        self._note(kind, payload, data)
        return data

    def _encode(self, kind: Kind, payload: Payload) -> bytes:
        head = bytes([BYTES[kind]]) if kind in BYTES else b""
        if not isinstance(payload, _PAYLOADS.get(kind, type(None))):
            raise LocalProtocolError(f"{kind.name} can't carry {type(payload).__name__}")
        if isinstance(payload, str):
            if len(payload) != COOKIE_BYTES - 1 or not payload.isascii():
                raise LocalProtocolError(f"{payload!r} is not a cookie of 36 ASCII characters")
            return payload.encode() + b"\0"
        if isinstance(payload, ServerError):
            return head + _ERROR.pack(payload.code or 0, payload.errno or 0)
        if isinstance(payload, QueuePlace):
            return head + _LENGTH.pack(payload.position)
        if isinstance(payload, Challenge | Proof):
            data = payload.nonce if isinstance(payload, Challenge) else payload.mac
            if len(data) != _SIZES[kind]:
                raise LocalProtocolError(f"{kind.name} has {_SIZES[kind]} bytes, not {len(data)}")
            return head + data
        if payload is None:
            return head
        text = payload.encode()
        limit = self._limit(kind)
        if len(text) > limit:
            raise LocalProtocolError(f"{kind.name} of {len(text)} bytes: at most {limit} are sent")
        return head + _LENGTH.pack(len(text)) + text

    # ---- agreement of the two ends --------------------------------------------------------------

    def _note(self, kind: Kind, payload: Payload, data: bytes) -> None:
        """Store the parameters, which determine the size of the results, and the bytes to which a
        proof is bound."""
        if kind in _PROVEN:
            self._spoken.update(data)
        if isinstance(payload, Parameters):
            self._parameters = payload

    def _limit(self, kind: Kind) -> int:
        """Return the largest size of a message's JSON. Before the parameters, no results are due,
        and any size is accepted (a fuzzer starts there)."""
        if kind not in (Kind.CLIENT_RESULTS, Kind.SERVER_RESULTS):
            return MAX_PARAMETER_BYTES
        asked = self._parameters
        if asked is None or (asked.get_server_output and kind is Kind.SERVER_RESULTS):
            return MAX_JSON_BYTES  # the server's output grows with the duration of the test
        return results_limit_bytes(asked.streams)

    @property
    def announced_bytes(self) -> int:
        """Return the size of the JSON message that is arriving now; 0: none, or its size is
        unknown."""
        if not self._buffer or self._buffer[0] != 0 or len(self._buffer) < _LENGTH.size:
            return 0
        kinds = [kind for kind in expected(self.state, self.side.other) if kind not in BYTES]
        if not kinds or kinds[0] is Kind.COOKIE:
            return 0
        return int.from_bytes(self._buffer[: _LENGTH.size], "big")

    @property
    def waiting_bytes(self) -> int:
        """Return the size of the arrived JSON message that is decoded next; 0: there is none."""
        size = self.announced_bytes
        return size if len(self._buffer) >= size + _LENGTH.size else 0

    # ---- receiving ----------------------------------------------------------------------------

    def receive_data(self, data: bytes) -> None:
        """Take bytes from the peer. b"" means that the peer has closed the connection."""
        if not data:
            self._eof = True
        elif self.state is not State.OVER:
            self._buffer += data
            if len(self._buffer) > self._room():
                raise RemoteProtocolError(f"the {self._peer} sent too much in {self._where}")

    def _room(self) -> int:
        """Return how many bytes may wait in the buffer: the message that is due, and a little
        more."""
        due = expected(self.state, self.side.other)
        return max((self._limit(kind) for kind in due), default=0) + MAX_AHEAD_BYTES

    @property
    def trailing_data(self) -> bytes:
        """Return the received bytes that are not yet used."""
        return bytes(self._buffer)

    def next_message(self) -> Message | NeedData | Closed:
        """Return the next complete message of the peer. A violation of the protocol is final: every
        further call raises it again."""
        if self._breach is not None:
            raise RemoteProtocolError(self._breach)
        try:
            return self._next()
        except RemoteProtocolError as exc:
            self._breach = str(exc)
            self.refused = bytes(self._buffer[:16])
            self._buffer.clear()
            raise

    def _next(self) -> Message | NeedData | Closed:
        if self.state is State.OVER or self._gone:
            self._buffer.clear()
            return Closed() if self._eof else NeedData()
        message = self._read()
        if message is None:
            if not self._eof:
                return NeedData()
            if self._buffer:
                raise RemoteProtocolError(
                    f"the {self._peer} closed the connection in the middle of a message, in"
                    f" {self._where}, after {bytes(self._buffer[:16]).hex(' ')}"
                )
            return Closed()
        # _read returns only messages that may follow
        self.state = follow(self.state, message.kind) or self.state
        return message

    @property
    def _gone(self) -> bool:
        # bytes of an iperf3 server after DISPLAY_RESULTS (an old SERVER_ERROR) have no meaning
        return self.side is Side.CLIENT and self.state is State.DISPLAYING

    @property
    def _peer(self) -> str:
        return self.side.other.value

    @property
    def _where(self) -> str:
        return f"state {self.state.value}"

    def _read(self) -> Message | None:
        due = expected(self.state, self.side.other)
        if due == (Kind.COOKIE,):
            return self._read_cookie()
        if not self._buffer:
            return None
        for kind in due:
            if kind not in BYTES and self._buffer[0] == 0:
                return self._read_json(kind, 0)
        return self._read_state(due)

    def _read_cookie(self) -> Message | None:
        text = bytes(self._buffer[: COOKIE_BYTES - 1])
        if any(not 0x21 <= byte <= 0x7E for byte in text) or (
            len(self._buffer) >= COOKIE_BYTES and self._buffer[COOKIE_BYTES - 1] != 0
        ):
            service = likely_service(text)
            speaks = f"it speaks {service}" if service else f"it began with {text[:16].hex(' ')}"
            raise RemoteProtocolError(f"the peer does not speak iperf3's protocol: {speaks}")
        if len(self._buffer) < COOKIE_BYTES:
            return None
        return self._taken(Kind.COOKIE, COOKIE_BYTES, text.decode("ascii"))

    def _read_state(self, due: tuple[Kind, ...]) -> Message | None:
        byte = self._buffer[0]
        kind = KINDS.get(byte)
        if kind is None or origin(kind) is self.side or follow(self.state, kind) is None:
            name = f" ({kind.name})" if kind else ""
            wanted = " or ".join(k.name for k in due) or "nothing"
            raise RemoteProtocolError(
                f"the {self._peer} sent byte 0x{byte:02x}{name} in {self._where};"
                f" {wanted} was expected"
            )
        if kind is Kind.EXTENSION:
            return self._read_json(kind, 1)
        if kind is Kind.SERVER_ERROR:
            return self._read_server_error()
        end = 1 + _SIZES.get(kind, 0)
        if len(self._buffer) < end:
            return None
        body = bytes(self._buffer[1:end])
        payload: Payload = None
        if kind is Kind.QUEUED:
            payload = QueuePlace(*_LENGTH.unpack(body))
        elif kind is Kind.CHALLENGE:
            payload = Challenge(body)
        elif kind is Kind.PROOF:
            payload = Proof(body)
        return self._taken(kind, end, payload)

    def _taken(self, kind: Kind, size: int, payload: Payload) -> Message:
        """Return a message that has been read completely, and drop its bytes."""
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        self._note(kind, payload, data)
        return Message(kind, payload)

    def _read_server_error(self) -> Message | None:
        # 3.12 sometimes closes after the first of the two numbers
        if len(self._buffer) < 9 and not self._eof:
            return None
        numbers = [
            int.from_bytes(self._buffer[at : at + 4], "big", signed=True)
            for at in (1, 5)
            if len(self._buffer) >= at + 4
        ]
        code, errno = (*numbers, None, None)[:2]
        self._buffer.clear()
        return Message(Kind.SERVER_ERROR, ServerError(code, errno or None))

    def _read_json(self, kind: Kind, start: int) -> Message | None:
        limit = self._limit(kind)
        body = start + _LENGTH.size
        if len(self._buffer) < body:
            return None
        (length,) = _LENGTH.unpack(self._buffer[start:body])
        if not 0 < length <= limit:
            raise RemoteProtocolError(
                f"the {self._peer} announced {kind.value} of {length} bytes in {self._where};"
                f" 1 to {limit} are accepted"
            )
        if len(self._buffer) < body + length:
            return None
        head = bytes(self._buffer[:body])
        text = bytes(memoryview(self._buffer)[body : body + length])
        del self._buffer[: body + length]
        try:
            payload = _DECODERS[kind](text)
        except RemoteProtocolError as exc:
            raise RemoteProtocolError(f"{exc}, in {self._where}") from None
        self._note(kind, payload, head + text if kind in _PROVEN else b"")
        return Message(kind, payload)
