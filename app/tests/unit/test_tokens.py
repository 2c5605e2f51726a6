"""Access and refresh tokens, and the keys behind them."""

from __future__ import annotations

import base64
import json
import threading
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import uuid4

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from hockey_hub_chat import tokens
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ConfigError, TokenExpiredError, TokenInvalidError

NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)
SESSION = uuid4()


def make_keys(directory: Path, public: list[Path] | None = None, issuer: str = "us") -> tokens.Keys:
    private, _ = tokens.generate_keys(directory)
    return tokens.Keys(private.read_bytes(), [path.read_bytes() for path in public or []], issuer)


def sign(keys: tokens.Keys, minutes: int = 10) -> str:
    return keys.sign(user_id=7, session_id=SESSION, now=NOW, expires_at=NOW + timedelta(minutes=minutes))


def test_what_is_signed_is_read(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    read = keys.read(sign(keys), now=NOW)
    assert (read.user_id, read.session_id, read.expires_at) == (7, SESSION, NOW + timedelta(minutes=10))


def test_it_ends_on_time(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    token = sign(keys)
    keys.read(token, now=NOW + timedelta(minutes=9, seconds=59))
    for late in (timedelta(minutes=10), timedelta(days=4000)):
        with pytest.raises(TokenExpiredError):
            keys.read(token, now=NOW + late)


def test_another_key_or_issuer_does_not_count(tmp_path: Path) -> None:
    keys = make_keys(tmp_path / "a")
    others = [make_keys(tmp_path / "b"), make_keys(tmp_path / "a", issuer="them")]
    for other in others:
        with pytest.raises(TokenInvalidError):
            keys.read(sign(other), now=NOW)


def test_a_rotated_key_is_believed_while_it_is_listed(tmp_path: Path) -> None:
    old = make_keys(tmp_path / "old")
    new = make_keys(tmp_path / "new", [tmp_path / "old" / "jwt_public.pem"])
    assert new.kid != old.kid
    assert new.read(sign(old), now=NOW).user_id == 7
    assert new.read(sign(new), now=NOW).user_id == 7


def segment(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


def test_forgeries_are_refused(tmp_path: Path) -> None:
    keys = make_keys(tmp_path)
    header, claims, signature = sign(keys).split(".")
    facts = json.loads(base64.urlsafe_b64decode(claims + "=="))
    forged = [
        "",
        "x",
        "a.b.c",
        "é.é.é",
        f"{header}.{claims}.",
        f"{header}.{claims}.{signature[:-4]}AAAA",
        f"{header}.{segment({**facts, 'sub': '1'})}.{signature}",
        f"{segment({'alg': 'none', 'typ': 'at+jwt', 'kid': keys.kid})}.{claims}.",
        f"{segment({'alg': 'HS256', 'typ': 'at+jwt', 'kid': keys.kid})}.{claims}.{signature}",
        sign(keys) + "A" * 5000,
    ]
    for token in forged:
        with pytest.raises(TokenInvalidError):
            keys.read(token, now=NOW)


def test_claims_that_are_missing_or_odd_are_refused(tmp_path: Path) -> None:
    from joserfc import jwt
    from joserfc.jwk import RSAKey

    keys = make_keys(tmp_path)
    key = RSAKey.import_key((tmp_path / "jwt_private.pem").read_bytes())
    good = {"iss": "us", "aud": tokens.AUDIENCE, "sub": "7", "sid": str(SESSION), "exp": int(NOW.timestamp()) + 60}
    header = {"alg": "RS256", "typ": "at+jwt", "kid": keys.kid}

    def read(claims: dict[str, object], **changed: str) -> None:
        keys.read(jwt.encode({**header, **changed}, claims, key), now=NOW)

    read(good)
    for name in good:
        with pytest.raises(TokenInvalidError):
            read({key: value for key, value in good.items() if key != name})
    for odd in (
        {"sub": "x"},
        {"sid": "x"},
        {"exp": "soon"},
        {"exp": None},
        {"exp": 10**30},
        {"aud": "else"},
        {"sub": 7},
    ):
        with pytest.raises(TokenInvalidError):
            read({**good, **odd})
    for changed in ({"typ": "JWT"}, {"kid": "other"}):
        with pytest.raises(TokenInvalidError):
            read(good, **changed)


def test_refresh_tokens_name_their_session_and_nothing_else_is_one() -> None:
    made = tokens.new_refresh_token(SESSION)
    assert tokens.read_refresh_token(made.text) == made and made.session_id == SESSION
    assert made.hash != tokens.new_refresh_token(SESSION).hash
    for text in ("", "x", "é", made.text[:-1], made.text + "AAAA", "A" * 10_000, "!" * 64):
        with pytest.raises(TokenInvalidError):
            tokens.read_refresh_token(text)


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path / "data")
    kids: list[str] = []
    threads = [threading.Thread(target=lambda: kids.append(tokens.load_keys(settings).kid)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kids) == 4 and len(set(kids)) == 1
    private = tmp_path / "data" / "jwt_private.pem"
    assert private.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in private.parent.iterdir()) == ["jwt_private.pem", "jwt_public.pem"]


def test_generating_keeps_a_key_unless_told_otherwise(tmp_path: Path) -> None:
    private, _ = tokens.generate_keys(tmp_path)
    before = private.read_bytes()
    tokens.generate_keys(tmp_path)
    assert private.read_bytes() == before
    tokens.generate_keys(tmp_path, replace=True)
    assert private.read_bytes() != before


def test_bad_key_files_are_a_sentence(tmp_path: Path) -> None:
    short = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505  # that is the point
    weak = tmp_path / "weak.pem"
    weak.write_bytes(
        short.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    text = tmp_path / "text.pem"
    text.write_text("not a key")
    _, public = tokens.generate_keys(tmp_path / "good")
    for path in (weak, text, public, tmp_path / "absent.pem", tmp_path):
        with pytest.raises(ConfigError, match="JWT_PRIVATE_KEY_PATH"):
            tokens.load_keys(Settings(jwt_private_key_path=path))
    good = tmp_path / "good" / "jwt_private.pem"
    with pytest.raises(ConfigError, match="JWT_PUBLIC_KEY_PATH"):
        tokens.load_keys(Settings(jwt_private_key_path=good, jwt_public_key_path=tmp_path / "absent.pem"))
