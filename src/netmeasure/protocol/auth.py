"""Authenticate clients as iperf3 does: make tokens, and check them against a server's users.

A token is a user, a password and the time, encrypted with the server's public RSA key. It proves
only that its sender knew the password at that time: it is not bound to a connection, and nothing
else of a test is encrypted. A server accepts each token once, so an eavesdropper can use a token
only at another server with the same key, until it is too old (`Gatekeeper.skew_s`). Passwords never
appear in netmeasure's error messages.

The `cryptography` package is imported when it is needed: ``pip install netmeasure[auth]``.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Mapping
from typing import TYPE_CHECKING

from netmeasure.errors import RefusedTestError, SpecError
from netmeasure.protocol.error_codes import ErrorCode
from netmeasure.spec import Credentials, Padding

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.padding import AsymmetricPadding
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey

DEFAULT_SKEW_S = 10.0
MAX_TOKEN = 4096


def make_token(credentials: Credentials, unix_s: float) -> str:
    """Return the token of a client at a time (seconds since 1970). Raise SpecError for a bad
    key.
    """
    key = _public_key(credentials.public_key)
    text = f"user: {credentials.user}\npwd:  {credentials.password}\nts:   {int(unix_s)}"
    try:
        sealed = key.encrypt(text.encode(), _padding(credentials.padding))
    except ValueError:
        raise SpecError(
            "user and password are too long for the server's key", hint="use a larger RSA key"
        ) from None
    return base64.b64encode(sealed).decode("ascii")


def password_hash(user: str, password: str) -> str:
    """Return the hash of a password in a users file: SHA-256 of "{user}password", in
    hexadecimal."""
    return hashlib.sha256(f"{{{user}}}{password}".encode()).hexdigest()


def read_users(text: str) -> dict[str, str]:
    """Return the hash of each user, from the lines "user,hash" of a users file. As in iperf3, lines
    that begin with # or have no comma are ignored, and only the first line of a user counts.
    """
    users: dict[str, str] = {}
    for line in text.splitlines():
        user, comma, digest = line.partition(",")
        if comma and user and not line.startswith("#"):
            users.setdefault(user, digest.strip())
    return users


class Gatekeeper:
    """Admit clients whose token belongs to a known user.

    private_key   the server's private key, PEM without a passphrase
    users         as `read_users` returns them
    skew_s        how far a token's time may be from this host's clock
    padding       oaep: iperf3 since 3.17; pkcs1: iperf3 before
    """

    def __init__(
        self,
        private_key: bytes,
        users: Mapping[str, str],
        *,
        skew_s: float = DEFAULT_SKEW_S,
        padding: Padding = "oaep",
    ) -> None:
        self._key = _private_key(private_key)
        self._users = dict(users)
        self._skew_s = skew_s
        self._padding = padding
        #: digests and times of the accepted tokens; older tokens are refused because of their age
        self._used: OrderedDict[bytes, float] = OrderedDict()

    def check(self, token: str | None, unix_s: float) -> str:
        """Return the user of a token. Raise RefusedTestError if the user is unknown or the token is
        too old."""
        if token is None:
            raise _refused("the client did not say who it is")
        sealed = _sealed(token)
        user, password, stamp = _parse(self._open(sealed))
        if abs(unix_s - stamp) > self._skew_s:
            raise _refused(f"the token is {unix_s - stamp:+.0f} s old: compare the clocks")
        # an unknown user takes as long as a wrong password
        known = self._users.get(user, "")
        if not hmac.compare_digest(password_hash(user, password).encode(), known.encode()):
            raise _refused("unknown user or wrong password")
        self._use(hashlib.sha256(sealed).digest(), unix_s)
        return user

    def _use(self, digest: bytes, unix_s: float) -> None:
        """Raise RefusedTestError if a token has been used. Encryption adds random bytes, so no two
        tokens are equal."""
        while self._used and next(iter(self._used.values())) < unix_s - 2 * self._skew_s:
            self._used.popitem(last=False)
        if digest in self._used:
            raise _refused("the token has been used before: it was overheard, or sent twice")
        self._used[digest] = unix_s

    def _open(self, sealed: bytes) -> bytes:
        try:
            return self._key.decrypt(sealed, _padding(self._padding))
        except ValueError:
            raise _refused("the token is not for this server's key") from None


def _sealed(token: str) -> bytes:
    try:
        return base64.b64decode(token[:MAX_TOKEN].replace("\n", ""), validate=True)
    except (ValueError, binascii.Error):
        raise _refused("the token is not for this server's key") from None


def _refused(why: str) -> RefusedTestError:
    """Return the refusal of a client. The reason is for the server's own log: the client gets the
    number only."""
    return RefusedTestError(f"authorization failed: {why}", number=ErrorCode.UNAUTHORIZED)


def _parse(text: bytes) -> tuple[str, str, int]:
    """Return user, password and time from a token's three lines."""
    try:
        words = text.decode().split()
    except UnicodeDecodeError:
        raise _refused("the token is not for this server's key") from None
    names = ("user:", "pwd:", "ts:")
    stamp = words[5] if len(words) == 6 else ""
    if tuple(words[::2]) != names or not (stamp.isascii() and stamp.isdigit() and len(stamp) < 16):
        raise _refused("the token does not hold a user, a password and a time")
    return words[1], words[3], int(stamp)


def _padding(name: Padding) -> AsymmetricPadding:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding

    if name == "pkcs1":
        return padding.PKCS1v15()
    # iperf3 uses SHA-1 here, which is safe for OAEP: its security does not depend on collisions
    sha1 = hashes.SHA1()
    return padding.OAEP(padding.MGF1(sha1), sha1, None)


def _public_key(pem: bytes) -> RSAPublicKey:
    _check_available()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPublicKey):
        raise SpecError("not a public RSA key", hint="PEM, as `openssl rsa -pubout` writes it")
    return key


def _private_key(pem: bytes) -> RSAPrivateKey:
    _check_available()
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, RSAPrivateKey):
        raise SpecError("not a private RSA key", hint="PEM, without a passphrase")
    return key


def _check_available() -> None:
    try:
        import cryptography  # noqa: F401
    except ImportError:
        raise SpecError(
            "authentication needs the package `cryptography`",
            hint="pip install 'netmeasure[auth]'",
        ) from None
