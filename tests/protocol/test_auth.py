"""iperf3's authentication without a network: tokens, users, and what is refused."""

from __future__ import annotations

import base64
import builtins
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from netmeasure.errors import RefusedTestError, SpecError
from netmeasure.protocol.auth import Gatekeeper, make_token, password_hash, read_users
from netmeasure.spec import Credentials, Padding
from support.keys import KEYS, OTHER_KEYS, SMALL_KEYS

NOW = 1_764_000_000.25
USERS = {"mia": password_hash("mia", "s3cret"), "ben": password_hash("ben", "pw")}
PADDINGS: list[Padding] = ["oaep", "pkcs1"]


def credentials(
    user: str = "mia", password: str = "s3cret", padding: Padding = "oaep", key: bytes | None = None
) -> Credentials:
    public = KEYS.public if key is None else key
    return Credentials(user=user, password=password, public_key=public, padding=padding)


def gatekeeper(padding: Padding = "oaep", **more: Any) -> Gatekeeper:
    return Gatekeeper(KEYS.private, USERS, padding=padding, **more)


def refusal(token: str | None, keeper: Gatekeeper | None = None, now: float = NOW) -> str:
    with pytest.raises(RefusedTestError) as caught:
        (keeper or gatekeeper()).check(token, now)
    assert caught.value.number == 142
    assert "s3cret" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("padding", PADDINGS)
def test_a_client_with_the_password_is_accepted(padding: Padding) -> None:
    token = make_token(credentials(padding=padding), NOW)
    assert gatekeeper(padding).check(token, NOW) == "mia"
    assert token != make_token(credentials(padding=padding), NOW)  # padding is random
    assert "\n" not in token


@pytest.mark.parametrize("padding", PADDINGS)
def test_openssl_reads_our_token(padding: Padding, tmp_path: Path) -> None:
    """Decrypt a token with another program, as iperf3 would."""
    (tmp_path / "key.pem").write_bytes(KEYS.private)
    (tmp_path / "token").write_bytes(
        base64.b64decode(make_token(credentials(padding=padding), NOW))
    )
    words = ["openssl", "pkeyutl", "-decrypt", "-inkey", "key.pem", "-in", "token"]
    words += ["-pkeyopt", f"rsa_padding_mode:{padding}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True)
    assert done.stdout == b"user: mia\npwd:  s3cret\nts:   1764000000"


@pytest.mark.parametrize("padding", PADDINGS)
def test_we_read_openssl_s_token(padding: Padding, tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(KEYS.public)
    (tmp_path / "text").write_bytes(b"user: ben\npwd:  pw\nts:   1764000000")
    words = ["openssl", "pkeyutl", "-encrypt", "-pubin", "-inkey", "key.pem", "-in", "text"]
    words += ["-pkeyopt", f"rsa_padding_mode:{padding}"]
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True)
    token = base64.b64encode(done.stdout).decode()
    assert gatekeeper(padding).check(token, NOW) == "ben"


@pytest.mark.parametrize("age_s", [0, 10, -9.5])
def test_clocks_may_differ_a_little(age_s: float) -> None:
    token = make_token(credentials(), 1_764_000_000)
    assert gatekeeper().check(token, 1_764_000_000 + age_s) == "mia"


@pytest.mark.parametrize(("age_s", "said"), [(11, "+11 s"), (-11, "-11 s"), (10**9, "clocks")])
def test_an_old_token_is_refused(age_s: float, said: str) -> None:
    token = make_token(credentials(), 1_764_000_000)
    assert said in refusal(token, now=1_764_000_000 + age_s)
    assert gatekeeper(skew_s=2e9).check(token, 1_764_000_000 + age_s) == "mia"


def test_a_token_can_be_used_once() -> None:
    """A token is not bound to a connection, so a second use is a replay or a mistake."""
    keeper, token = gatekeeper(), make_token(credentials(), NOW)
    assert keeper.check(token, NOW) == "mia"
    with pytest.raises(RefusedTestError, match="used before"):
        keeper.check(token, NOW + 5)


@pytest.mark.parametrize(
    ("user", "password"),
    [("mia", "wrong"), ("mia", "S3cret"), ("eve", "s3cret"), ("ben", "s3cret")],
)
def test_the_wrong_password(user: str, password: str) -> None:
    said = refusal(make_token(credentials(user, password), NOW))
    assert said == "authorization failed: unknown user or wrong password"


def test_a_client_without_credentials_is_refused() -> None:
    assert "did not say" in refusal(None)


def test_a_token_for_another_key_or_padding() -> None:
    assert "key" in refusal(make_token(credentials(key=OTHER_KEYS.public), NOW))
    # PKCS#1 is opened to random bytes where the padding is wrong (implicit rejection)
    refusal(make_token(credentials(), NOW), gatekeeper("pkcs1"))
    refusal(make_token(credentials(padding="pkcs1"), NOW), gatekeeper("oaep"))


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"user: mia\npwd:  s3cret\n",
        b"user: mia\npwd:  s3cret\nts:   now",
        b"user: mia\npwd:  s3cret\nts:   " + b"9" * 30,
        b"user: mia s3cret\npwd:  s3cret\nts:   1764000000",
        b"name: mia\npwd:  s3cret\nts:   1764000000",
        b"\xff\xfe",
    ],
)
def test_an_open_token_that_says_something_else(text: bytes) -> None:
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    from netmeasure.protocol import auth

    key: Any = load_pem_public_key(KEYS.public)
    sealed = base64.b64encode(key.encrypt(text, auth._padding("oaep"))).decode()
    assert refusal(sealed).startswith("authorization failed")


@settings(max_examples=40)
@given(st.text(max_size=400) | st.binary(max_size=300).map(lambda b: base64.b64encode(b).decode()))
def test_any_text_is_refused(token: str) -> None:
    refusal(token)


@settings(max_examples=20)
@given(st.integers(0, 343), st.characters(codec="ascii"))
def test_a_token_with_one_character_changed(position: int, character: str) -> None:
    token = make_token(credentials(), NOW)
    changed = token[:position] + character + token[position + 1 :]
    if _sealed(changed) != _sealed(token):
        refusal(changed)


def _sealed(token: str) -> bytes | None:
    """Return the bytes of a token: the last letter has bits that mean nothing."""
    try:
        return base64.b64decode(token)
    except ValueError:
        return None


# ---- users --------------------------------------------------------------------------------------


def test_the_hash_is_sha256_of_user_in_braces_and_password() -> None:
    done = subprocess.run(["sha256sum"], input=b"{mia}s3cret", capture_output=True, check=True)
    assert password_hash("mia", "s3cret") == done.stdout.split()[0].decode()


def test_a_users_file() -> None:
    text = "# user,hash\n#eve,1\nmia,aa\n\nno comma\nben, bb \r\nmia,cc\n,dd\nzoë,ee"
    assert read_users(text) == {"mia": "aa", "ben": "bb", "zoë": "ee"}


@given(st.text())
def test_any_users_file(text: str) -> None:
    for user, digest in read_users(text).items():
        assert user
        assert not user.startswith("#")
        assert f"{user}," in text
        assert digest in text


# ---- what is given ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [b"", b"no key", KEYS.public[:100], b"-----BEGIN PUBLIC KEY-----"],
    ids=["empty", "words", "cut", "begin"],
)
def test_files_that_are_no_key_are_refused(text: bytes) -> None:
    with pytest.raises(SpecError, match="not a private RSA key"):
        Gatekeeper(text, USERS)
    if text:
        with pytest.raises(SpecError, match="not a public RSA key"):
            make_token(credentials(key=text), NOW)


def test_a_key_with_a_passphrase_is_no_key(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_bytes(KEYS.private)
    words = ["openssl", "rsa", "-in", "key.pem", "-aes128", "-passout", "pass:x"]
    locked = subprocess.run(words, cwd=tmp_path, capture_output=True, check=True).stdout
    with pytest.raises(SpecError, match="private RSA key") as caught:
        Gatekeeper(locked, USERS)
    assert "without a passphrase" in str(caught.value.hint)


def test_more_than_the_key_holds() -> None:
    with pytest.raises(SpecError, match="too long for the server's key"):
        make_token(credentials(password="x" * 100, key=SMALL_KEYS.public), NOW)


@pytest.mark.parametrize("password", ["", "two words", "tab\t", "line\n"])
def test_passwords_that_the_protocol_can_t_carry(password: str) -> None:
    with pytest.raises(SpecError) as caught:
        credentials(password=password)
    assert not password or password not in str(caught.value)


def test_a_password_is_not_shown() -> None:
    assert "s3cret" not in repr(credentials())
    assert "s3cret" not in str(credentials())


def test_without_the_package_there_is_one_clear_line(monkeypatch: pytest.MonkeyPatch) -> None:
    imported = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        if name.startswith("cryptography"):
            raise ImportError(name)
        return imported(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    for use in (lambda: make_token(credentials(), NOW), gatekeeper):
        with pytest.raises(SpecError, match="needs the package `cryptography`") as caught:
            use()
        assert caught.value.hint == "pip install 'netmeasure[auth]'"
