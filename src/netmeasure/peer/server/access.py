"""Authenticate clients, by a shared secret and by iperf3's tokens."""

from __future__ import annotations

from typing import NoReturn

from netmeasure.clock import unix_s
from netmeasure.engine.control import ControlChannel
from netmeasure.errors import RefusedTestError, RemoteProtocolError
from netmeasure.peer.server.options import ServerOptions
from netmeasure.peer.server.shares import LoginBrake
from netmeasure.protocol import Challenge, ErrorCode, Kind, Parameters, Proof, Side
from netmeasure.protocol.secret import is_proof, new_nonce, proof


class Access:
    """Authenticate one client, unless its network has failed too often."""

    def __init__(self, options: ServerOptions, brake: LoginBrake, network: str) -> None:
        self._options = options
        self._brake = brake
        self._network = network
        self._challenged = False

    async def check(
        self, control: ControlChannel, parameters: Parameters, deadline_s: float
    ) -> None:
        """Raise RefusedTestError if a client's authentication fails."""
        options, plain = self._options, parameters.netmeasure is None
        if options.tls is not None and options.tls.required and not control.is_encrypted:
            raise _refused("the client does not speak TLS", plain, ErrorCode.TLS_WANTED)
        if options.secret is not None and not (plain and options.allow_iperf3):
            self._check_brake(plain=plain)
            if parameters.netmeasure is None:
                raise _refused(
                    "iperf3 clients can't know the secret (--allow-iperf3 serves them)", plain
                )
            if not parameters.netmeasure.secret:
                raise _refused("the client has no secret", plain, ErrorCode.SECRET_WANTED)
            await self._challenge(control, options.secret.key, deadline_s)
        if options.gatekeeper is not None:
            self._check_brake(plain=plain)
            try:
                options.gatekeeper.check(parameters.authtoken, unix_s())
            except RefusedTestError:
                self._brake.note(self._network)
                raise

    def _check_brake(self, *, plain: bool) -> None:
        if self._brake.holds(self._network):
            why = "too many failed logins from its address"
            raise _refused(why, plain, ErrorCode.TOO_MANY_FAILURES)

    async def _challenge(self, control: ControlChannel, key: bytes, deadline_s: float) -> None:
        await control.send(Kind.CHALLENGE, Challenge(new_nonce()), deadline_s=deadline_s)
        transcript = control.connection.transcript
        message = await control.receive(deadline_s=deadline_s)
        if not isinstance(message.payload, Proof):
            self._give_up(message.kind)
        if not is_proof(message.payload.mac, key, Side.CLIENT, transcript, control.binding):
            self._brake.note(self._network)
            raise _refused("the client has a different secret", False, ErrorCode.SECRET_WRONG)
        self._challenged = True

    def _give_up(self, kind: Kind) -> NoReturn:
        raise RemoteProtocolError(f"the client answered the challenge with {kind.name}")

    def own_proof(self, control: ControlChannel) -> str | None:
        """Return the proof for the client that this server knows the secret, in hexadecimal; None:
        there was no challenge."""
        if not self._challenged or self._options.secret is None:
            return None
        transcript = control.connection.transcript
        return proof(self._options.secret.key, Side.SERVER, transcript, control.binding).hex()


def _refused(why: str, plain: bool, number: ErrorCode = ErrorCode.UNAUTHORIZED) -> RefusedTestError:
    """Return the refusal of a client. The reason is for the server's log only; the client gets a
    number, which a plain iperf3 must know."""
    number = ErrorCode.UNAUTHORIZED if plain else number
    return RefusedTestError(f"authorization failed: {why}", number=number)
