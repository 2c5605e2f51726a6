"""Access tokens (RS256 JWTs, RFC 7519 and RFC 9068) and refresh tokens (opaque). Knows no database and no HTTP."""

from __future__ import annotations

import base64
import binascii
import hashlib
import os
import secrets
import tempfile
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from uuid import UUID

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet, RSAKey

from hockey_hub_chat.config import JWT_PRIVATE_FILE, JWT_PUBLIC_FILE, Settings
from hockey_hub_chat.errors import ConfigError, TokenExpiredError, TokenInvalidError

ALGORITHM = "RS256"
AUDIENCE = "hockey-hub-chat"
KEY_BITS = 2048
_MAX_TOKEN_CHARS = 4096
_SECRET_BYTES = 32
#: RS256 (RFC 7518 §3.3).
_PADDING = padding.PKCS1v15()
_HASH = hashes.SHA256()


@dataclass(frozen=True, slots=True)
class AccessClaims:
    """What an access token says."""

    user_id: int
    session_id: UUID
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class RefreshToken:
    """An opaque refresh token; only its hash is ever stored."""

    session_id: UUID
    text: str

    @property
    def hash(self) -> bytes:
        """SHA-256 of the token (its secret part is 256 random bits, so no slow hash is needed)."""
        return hashlib.sha256(self.text.encode()).digest()


class Keys:
    """The signing key and every key that is believed.

    Args:
        private_pem: RSA private key, PKCS#8 or PKCS#1.
        public_pems: further RSA public keys whose signatures count: the previous one during a rotation.
        issuer: the ``iss`` of our tokens.
    """

    def __init__(self, private_pem: bytes, public_pems: list[bytes], issuer: str) -> None:
        self._signing = _import(private_pem)
        if not self._signing.is_private:
            raise ValueError("not a private key")
        believed = {key.thumbprint(): key for key in (self._signing, *map(_import, public_pems))}
        for kid, key in believed.items():
            key.ensure_kid()
            if key.kid != kid:
                raise ValueError("key id is not the thumbprint")
        self._believed = KeySet(list(believed.values()))
        self._kids = frozenset(believed)
        self._issuer = issuer
        # The first segment of every token we sign, and the key that proves it: see _read_own.
        epoch = datetime.fromtimestamp(0, timezone.utc)
        self._own_head = self.sign(user_id=0, session_id=UUID(int=0), now=epoch, expires_at=epoch).partition(".")[0]
        self._own_key: rsa.RSAPublicKey = self._signing.public_key

    @property
    def kid(self) -> str:
        """The signing key's id: its RFC 7638 thumbprint."""
        return self._signing.thumbprint()

    def sign(self, *, user_id: int, session_id: UUID, now: datetime, expires_at: datetime) -> str:
        """Return an access token."""
        header = {"alg": ALGORITHM, "kid": self.kid, "typ": "at+jwt"}
        claims = {
            "iss": self._issuer,
            "aud": AUDIENCE,
            "sub": str(user_id),
            "sid": str(session_id),
            "iat": int(now.timestamp()),
            "exp": int(expires_at.timestamp()),
        }
        return jwt.encode(header, claims, self._signing, algorithms=[ALGORITHM])

    def read(self, token: str, *, now: datetime) -> AccessClaims:
        """Return what a token of ours says.

        Raises:
            TokenExpiredError: it was ours and is past its time.
            TokenInvalidError: it is not ours.
        """
        if len(token) > _MAX_TOKEN_CHARS:
            raise TokenInvalidError("The access token is not valid.")
        read = self._read_own(token) or self._read_any(token, now)
        if read.expires_at <= now:
            raise TokenExpiredError("The access token is past its time.")
        return read

    def _read_own(self, token: str) -> AccessClaims | None:
        """Read a token exactly as ``sign`` makes it, which nearly all are; None for ``_read_any`` to judge.

        After a restart everybody comes back at once, and through the library a token costs five times its signature. Nothing is
        decided here but that: our own header, our own signature over these very bytes, our own claims.
        """
        signed, _, signature = token.rpartition(".")
        head, _, body = signed.partition(".")
        if head != self._own_head:
            return None
        try:
            self._own_key.verify(_decode(signature), signed.encode(), _PADDING, _HASH)
            claims = orjson.loads(_decode(body))
            if (claims["iss"], claims["aud"]) != (self._issuer, AUDIENCE):
                return None
            if type(claims["exp"]) is not int or type(claims["sub"]) is not str:
                return None
            return AccessClaims(
                user_id=int(claims["sub"]),
                session_id=UUID(claims["sid"]),
                expires_at=datetime.fromtimestamp(claims["exp"], timezone.utc),
            )
        except (InvalidSignature, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            return None

    def _read_any(self, token: str, now: datetime) -> AccessClaims:
        """Read whatever this is by the book."""
        try:
            decoded = jwt.decode(token, self._believed, algorithms=[ALGORITHM])
            if decoded.header.get("typ") != "at+jwt" or decoded.header.get("kid") not in self._kids:
                raise TokenInvalidError("The access token is not valid.")
            claims = decoded.claims
            jwt.JWTClaimsRegistry(
                now=int(now.timestamp()),
                iss={"essential": True, "value": self._issuer},
                aud={"essential": True, "value": AUDIENCE},
                sub={"essential": True},
                exp={"essential": True},
            ).validate({**claims, "exp": max(int(claims["exp"]), int(now.timestamp()) + 1)})
            return AccessClaims(
                user_id=int(claims["sub"]),
                session_id=UUID(claims["sid"]),
                expires_at=datetime.fromtimestamp(int(claims["exp"]), timezone.utc),
            )
        except (JoseError, ValueError, KeyError, TypeError, AttributeError, OverflowError):
            raise TokenInvalidError("The access token is not valid.") from None


def load_keys(settings: Settings) -> Keys:
    """Read the keys of a site; the embedded default makes its own at first start.

    Raises:
        ConfigError: a file cannot be read, written or is not an RSA key.
    """
    private = settings.jwt_private_key
    name = "JWT_PRIVATE_KEY_PATH"
    try:
        if not settings.jwt_private_key_path and not private.exists():
            generate_keys(private.parent)
        private_pem = private.read_bytes()
        name = "JWT_PUBLIC_KEY_PATH"
        public_pems = _split(settings.jwt_public_key_path.read_bytes()) if settings.jwt_public_key_path else []
        name = "JWT_PRIVATE_KEY_PATH"
        return Keys(private_pem, public_pems, settings.service_name)
    except OSError as error:
        what = f"{error.filename} cannot be used: {error.strerror}"
    except (ValueError, TypeError, JoseError):
        what = "does not hold the PEM of an RSA key of at least 2048 bits"
    raise ConfigError(f"Bad settings: {name}: {what}", {"settings": {name: what}})


def generate_keys(directory: Path, *, replace: bool = False) -> tuple[Path, Path]:
    """Make an RSA key pair and return (private, public) file; an existing private key is kept unless ``replace``.

    Complete or not at all, also when several processes start at once: the first one's key counts.
    """
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    private, public = directory / JWT_PRIVATE_FILE, directory / JWT_PUBLIC_FILE
    if replace or not private.exists():
        made = rsa.generate_private_key(public_exponent=65537, key_size=KEY_BITS)
        pem = made.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        _put(private, pem, 0o600, replace=replace)
    key = serialization.load_pem_private_key(private.read_bytes(), password=None)
    public_pem = key.public_key().public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    _put(public, public_pem, 0o644, replace=True)
    return private, public


def new_refresh_token(session_id: UUID) -> RefreshToken:
    """Return a fresh refresh token of a session."""
    raw = session_id.bytes + secrets.token_bytes(_SECRET_BYTES)
    return RefreshToken(session_id, base64.urlsafe_b64encode(raw).decode())


def read_refresh_token(text: str) -> RefreshToken:
    """Return the parts of a refresh token; whether it counts is the session's to say.

    Raises:
        TokenInvalidError: it is not of our form.
    """
    try:
        raw = base64.b64decode(text.encode("ascii"), altchars=b"-_", validate=True)
    except (UnicodeEncodeError, binascii.Error):
        raw = b""
    if len(raw) != 16 + _SECRET_BYTES:
        raise TokenInvalidError("The refresh token is not valid.")
    return RefreshToken(UUID(bytes=raw[:16]), text)


def _decode(segment: str) -> bytes:
    """Return the bytes of one base64url segment (RFC 7515 §2: without padding).

    Raises:
        ValueError: it is none.
    """
    return base64.b64decode(segment + "=" * (-len(segment) % 4), altchars=b"-_", validate=True)


def _import(pem: bytes) -> RSAKey:
    is_public = b"-----BEGIN PUBLIC KEY-----" in pem
    key = (
        serialization.load_pem_public_key(pem) if is_public else serialization.load_pem_private_key(pem, password=None)
    )
    if not isinstance(key, rsa.RSAPublicKey | rsa.RSAPrivateKey) or key.key_size < KEY_BITS:
        raise ValueError("not an RSA key, or too short")
    named: RSAKey = RSAKey.import_key(key, {"kid": RSAKey.import_key(key).thumbprint(), "use": "sig"})
    return named


def _split(pems: bytes) -> list[bytes]:
    """Return each PEM block of a file that may hold several keys."""
    end = b"-----END PUBLIC KEY-----"
    blocks = [part + end for part in pems.split(end)[:-1]]
    if not blocks:
        raise ValueError("no public key")
    return blocks


def _put(path: Path, content: bytes, mode: int, *, replace: bool) -> None:
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", delete=False) as file:
        temporary = Path(file.name)
        file.write(content)
    try:
        temporary.chmod(mode)
        if replace:
            temporary.replace(path)
        else:
            try:
                os.link(temporary, path)
            except FileExistsError:  # another process was quicker: its key counts
                return
    finally:
        temporary.unlink(missing_ok=True)
