"""Prove that both ends know the same secret, without sending it.

A server chooses 32 random bytes for each connection (CHALLENGE). The client answers with an HMAC
(RFC 2104, SHA-256) of everything that both have said so far: its cookie, which is random too, its
parameters, and the server's bytes. The server answers with one of its own. So a proof is worth
nothing on another connection, at another time, or with other parameters, and no clock is needed.
On a TLS connection the certificate is part of it, so that none between the two can pass it on.

Who hears a proof can try secrets against it: a secret must be as long as a key, not a word.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets

from netmeasure.protocol.states import Side

NONCE_BYTES = 32
PROOF_BYTES = hashlib.sha256().digest_size


def new_nonce() -> bytes:
    """Return the random bytes of a challenge."""
    return secrets.token_bytes(NONCE_BYTES)


def proof(key: bytes, side: Side, transcript: bytes, binding: bytes = b"") -> bytes:
    """Return what proves that an end knows a secret.

    Args:
        key: The secret.
        side: The end that proves it: no end can send the other's proof back.
        transcript: The digest of what both have said (`Connection.transcript`).
        binding: What the TLS connection is known by; empty without TLS.
    """
    spoken = b"netmeasure secret 1 %s\0" % side.value.encode()
    return hmac.digest(key, spoken + transcript + binding, "sha256")


def is_proof(mac: bytes, key: bytes, side: Side, transcript: bytes, binding: bytes = b"") -> bool:
    """Return whether `mac` is the proof of that end."""
    return hmac.compare_digest(mac, proof(key, side, transcript, binding))
