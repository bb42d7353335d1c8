"""Prove that both ends know the same secret, without sending it.

A server chooses 32 random bytes for each connection (CHALLENGE). The client answers with an HMAC
(RFC 2104, SHA-256) of all messages so far: its cookie, which is also random, its parameters, and
the server's bytes. The server answers with its own HMAC. A proof is therefore useless on another
connection, at another time, or with other parameters, and no clock is needed. On a TLS connection
the proof includes the certificate, so that a man in the middle can't forward it.

An eavesdropper can try secrets against a proof, so a secret must be as long as a key, not a word.
"""

from __future__ import annotations

import hashlib
import hmac
import os

from netmeasure.protocol.states import Side

NONCE_BYTES = 32
PROOF_BYTES = hashlib.sha256().digest_size


def new_nonce() -> bytes:
    """Return the random bytes of a challenge."""
    return os.urandom(NONCE_BYTES)


def proof(key: bytes, side: Side, transcript: bytes, binding: bytes = b"") -> bytes:
    """Return the proof that an end knows a secret.

    Args:
        key: The secret.
        side: The end that proves the secret, so that no end can return the other's proof.
        transcript: The digest of all messages so far (`Connection.transcript`).
        binding: The digest of the TLS certificate; empty without TLS.
    """
    spoken = b"netmeasure secret 1 %s\0" % side.value.encode()
    return hmac.digest(key, spoken + transcript + binding, "sha256")


def is_proof(mac: bytes, key: bytes, side: Side, transcript: bytes, binding: bytes = b"") -> bool:
    """Return whether `mac` is the proof of the given end."""
    return hmac.compare_digest(mac, proof(key, side, transcript, binding))
