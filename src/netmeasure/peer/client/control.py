"""Exchange messages with a server on the control connection: the handshake and its errors."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from netmeasure.clock import nanoseconds, now_ns, seconds
from netmeasure.engine.addresses import Address
from netmeasure.engine.control import ControlChannel
from netmeasure.errors import (
    AuthenticationError,
    BusyError,
    MeasureError,
    PeerClosedError,
    PeerRefusedError,
    PeerTerminatedError,
    PeerTimeoutError,
    RemoteProtocolError,
)
from netmeasure.protocol import (
    Announcement,
    ErrorCode,
    Kind,
    Message,
    Parameters,
    Payload,
    Proof,
    Side,
    State,
    error_text,
    likely_service,
)
from netmeasure.protocol.error_codes import UNAUTHORIZED
from netmeasure.protocol.secret import is_proof, proof
from netmeasure.spec import Deadlines, Secret

#: Hints if another service answers.
_ADVICE = {
    "HTTP": "to measure a download from it, write http://HOST:PORT/FILE",
    "TLS": "to measure a download from it, write https://HOST:PORT/FILE",
    "iperf 2": "iperf 2 does not understand iperf3: start netmeasure server or iperf3 -s there",
    "FTP or mail": "to measure a download from an FTP server, write ftp://HOST/FILE",
}
#: Hints if a server refuses this client.
_REMEDIES: dict[int, str] = {
    ErrorCode.SECRET_WANTED: "give the server's secret with --secret-file, or in NETMEASURE_SECRET",
    ErrorCode.SECRET_WRONG: "compare the files of both ends: they must have the same content",
    ErrorCode.TLS_WANTED: "add --tls, and --ca-file if its certificate is signed by a CA of yours",
    ErrorCode.TOO_MANY_FAILURES: "wait for a minute, then try with the right secret or password",
    ErrorCode.UNAUTHORIZED: "check user, password, key and both clocks; the server's log says why",
    ErrorCode.STREAMS: "use fewer streams (-P), or start the server with a higher --max-streams",
    ErrorCode.FRESH_PORT: "if the server has --crr-port, another test or program may use that port",
}
#: The hint if the client gives no user.
_USER_WANTED = "it serves known users: give --auth-user, --auth-key, and NETMEASURE_PASSWORD"
#: How long to try to tell a server that the client leaves.
LEAVE_S = 1.0
#: Places in the queue that are reported for each second of the wait, and at its beginning: a server
#: could send thousands. It repeats the present one every few seconds.
PLACES_PER_S = 10


class ClientControl:
    """Send a client's messages and wait for the server's, each within its deadline."""

    def __init__(
        self,
        channel: ControlChannel,
        server: Address,
        deadlines: Deadlines,
        on_queued: Callable[[int], None],
        *,
        secret: Secret | None = None,
        has_user: bool = True,
    ) -> None:
        self.channel = channel
        #: called with the client's place in the queue of a full server
        self.on_queued = on_queued
        #: a netmeasure server's announcement; None: a plain iperf3, or before the handshake
        self.announcement: Announcement | None = None
        self._server = server
        self._deadlines = deadlines
        self._secret = secret
        self._has_user = has_user

    @property
    def extended(self) -> bool:
        """Return whether the server is netmeasure as well."""
        return self.announcement is not None

    @property
    def kinds(self) -> tuple[str, ...]:
        """Return the kinds of test that the server supports in addition to TCP and UDP."""
        return self.announcement.kinds if self.announcement is not None else ()

    @property
    def concurrent_tests(self) -> int:
        """Return how many tests the server runs, including this one; 1 if it does not say."""
        return (self.announcement and self.announcement.concurrent_tests) or 1

    @property
    def finite(self) -> bool:
        """Return whether the server sends a file, so that its streams end at the end of the
        file."""
        return self.announcement is not None and self.announcement.finite

    async def send(
        self, kind: Kind, payload: Payload = None, *, deadline_s: float | None = None
    ) -> None:
        """Send a message within a deadline, by default that of the handshake."""
        await self.channel.send(kind, payload, deadline_s=self._within(deadline_s))

    async def expect(self, *kinds: Kind, deadline_s: float | None = None) -> Message:
        """Return the server's next message, which must be of one of these kinds.

        If the message is of another kind, the error that it means is raised. The default deadline
        is that of the handshake.
        """
        message = await self.channel.receive(deadline_s=self._within(deadline_s))
        if message.kind in kinds:
            return message
        raise self.failure(message)

    def failure(self, message: Message) -> MeasureError:
        """Return the error for a message that ends the test."""
        if message.kind is Kind.ACCESS_DENIED:
            return BusyError(
                f"{self._server} is busy with another test",
                phase="control",
                hint="try again later; a netmeasure server can run several tests at once",
            )
        if message.kind is Kind.SERVER_ERROR and message.payload.code in UNAUTHORIZED:
            number = message.payload.code
            hint = _REMEDIES[number]
            if number == ErrorCode.UNAUTHORIZED and not self._has_user:
                hint = _USER_WANTED
            return AuthenticationError(
                f"{self._server} refused this client: {error_text(message.payload)}",
                phase="control",
                number=number,
                hint=hint,
            )
        if message.kind is Kind.SERVER_ERROR:
            return PeerRefusedError(
                f"the server gave up: {error_text(message.payload)}",
                number=message.payload.code,
                hint=_REMEDIES.get(message.payload.code),
            )
        if message.kind is Kind.SERVER_TERMINATE:
            return PeerTerminatedError("the server was told to terminate")
        return RemoteProtocolError(f"the server sent {message.kind.name} too early")

    def _within(self, deadline_s: float | None) -> float:
        return self._deadlines.handshake_s if deadline_s is None else deadline_s

    # ---- the handshake --------------------------------------------------------------------------

    async def introduce(self, cookie: str) -> None:
        """Send the cookie, and wait until the server requests the parameters."""
        with self._handshake():
            await self.send(Kind.COOKIE, cookie)
            await self.expect(Kind.PARAM_EXCHANGE)

    async def propose(self, parameters: Parameters) -> None:
        """Send the parameters of the test."""
        with self._handshake():
            await self.send(Kind.PARAMETERS, parameters)

    async def agree(self) -> None:
        """Wait until the server requests the data streams. A netmeasure server announces itself
        before."""
        with self._handshake():
            if self._secret is not None:
                await self._prove(self._secret)
            message = await self._turn()
            if message.kind is Kind.EXTENSION:
                if self._secret is not None:
                    self._check_proof(self._secret, message.payload)
                self.announcement = message.payload
                await self.expect(Kind.CREATE_STREAMS)

    async def _prove(self, secret: Secret) -> None:
        """Answer the server's challenge. Raise AuthenticationError if the server sends no
        challenge: it then can't prove that it knows the secret."""
        kinds = (Kind.CHALLENGE, Kind.EXTENSION, Kind.CREATE_STREAMS, Kind.QUEUED)
        if (await self.expect(*kinds)).kind is not Kind.CHALLENGE:
            raise AuthenticationError(
                f"{self._server} does not ask for the secret, so it may be another server",
                phase="control",
                hint="start it with --secret-file, or give this client no secret",
            )
        mac = proof(
            secret.key,
            Side.CLIENT,
            self.channel.connection.transcript,
            self.channel.binding,
        )
        await self.send(Kind.PROOF, Proof(mac))

    def _check_proof(self, secret: Secret, announcement: Announcement) -> None:
        """Raise AuthenticationError if the server does not prove that it knows the secret
        itself."""
        try:
            mac = bytes.fromhex(announcement.proof or "")
        except ValueError:
            mac = b""
        channel = self.channel
        transcript, binding = channel.connection.transcript, channel.binding
        if not is_proof(mac, secret.key, Side.SERVER, transcript, binding):
            raise AuthenticationError(
                f"{self._server} asks for the secret and does not know it itself",
                phase="control",
                hint="it is another server than the one you mean: check its address",
            )

    async def _turn(self) -> Message:
        """Return the server's answer to the parameters. A full server first keeps the client in a
        queue; raise BusyError if the wait exceeds the user's limit."""
        kinds = (Kind.EXTENSION, Kind.CREATE_STREAMS, Kind.QUEUED)
        message = await self.expect(*kinds)
        began_ns, reported = now_ns(), 0
        end_ns = began_ns + nanoseconds(self._deadlines.queue_s)
        while message.kind is Kind.QUEUED:
            if reported < PLACES_PER_S * (1 + seconds(now_ns() - began_ns)):
                reported += 1
                self.on_queued(message.payload.position)
            await asyncio.sleep(0)  # the next messages may have arrived already
            left_s = seconds(end_ns - now_ns())
            try:
                if left_s <= 0:
                    raise PeerTimeoutError("the time in the queue is over", phase="control")
                deadline_s = min(left_s, self._deadlines.handshake_s)
                message = await self.expect(*kinds, deadline_s=deadline_s)
            except PeerTimeoutError:
                if left_s > self._deadlines.handshake_s:
                    raise  # the server sends nothing
                raise BusyError(
                    f"{self._server} is still full: number {message.payload.position} in its"
                    f" queue after {self._deadlines.queue_s:g} s",
                    phase="control",
                    hint="try again later, or wait longer in the queue",
                ) from None
        return message

    @contextmanager
    def _handshake(self) -> Iterator[None]:
        """Explain a failure by the service that probably listens there instead of a server."""
        try:
            yield
        except RemoteProtocolError as exc:
            service = likely_service(self.channel.connection.refused)
            if service is None:
                raise RemoteProtocolError(
                    f"{self._server} is not an iperf3 or netmeasure server: {exc}",
                    phase="control",
                    hint="another service listens on that port",
                ) from None
            raise RemoteProtocolError(
                f"{self._server} is not an iperf3 or netmeasure server: it speaks {service}",
                phase="control",
                hint=_ADVICE.get(service, "give the port of a server with -p"),
            ) from None
        except PeerClosedError as exc:
            hint = "it may be busy with another test, or be a TLS or HTTP server, not iperf3"
            if self.channel.connection.state is not State.IDENTIFIED:
                exc.hint = hint
                raise
            raise PeerClosedError(
                f"{self._server} closed the connection without an answer",
                phase="control",
                hint=hint,
                reason=exc.reason,
            ) from None
        except PeerTimeoutError as exc:
            hint = (
                "it may hang, or not be an iperf3 server: iperf2 and HTTP servers wait in silence"
            )
            if self.channel.connection.state is not State.IDENTIFIED:
                exc.hint = hint
                raise
            raise PeerTimeoutError(
                f"{self._server} accepted the connection, but was silent"
                f" for {self._deadlines.handshake_s:g} s",
                phase="control",
                hint=hint,
                reason=exc.reason,
            ) from None

    # ---- the end --------------------------------------------------------------------------------

    async def leave(self) -> None:
        """Tell the server if the test ended early, and close the connection."""
        if self.channel.connection.state not in (State.OVER, State.START):
            try:
                await self.channel.send(Kind.CLIENT_TERMINATE, deadline_s=LEAVE_S)
            except MeasureError:
                pass  # the server is already gone
        await self.channel.close()
