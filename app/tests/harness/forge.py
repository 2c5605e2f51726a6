"""Tokens the application must refuse, and good ones with chosen claims. Written by hand so that no library objects."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from typing import Any

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa


def encode(data: bytes) -> str:
    """Base64url without padding (RFC 7515, 2)."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def decode(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return (header, claims) of a token without looking at its signature."""
    header, claims = (
        json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))) for part in token.split(".")[:2]
    )
    return header, claims


def _join(header: dict[str, Any], claims: dict[str, Any]) -> str:
    return f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}"


def sign(header: dict[str, Any], claims: dict[str, Any], private_pem: str) -> str:
    """Return an RS256 token."""
    key = serialization.load_pem_private_key(private_pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    text = _join(header, claims)
    return f"{text}.{encode(key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256()))}"


def stranger_pem() -> str:
    """Return the private key of somebody else."""
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    ).decode()


def refused_tokens(good: str, private_pem: str, public_pem: str) -> dict[str, tuple[str, str]]:
    """Return name -> (token, the error code it must get), made from a good token."""
    header, claims = decode(good)
    head, body, signature = good.split(".")
    now = int(time.time())
    none_header = {**header, "alg": "none"}
    mac_header = {**header, "alg": "HS256"}
    mac_text = _join(mac_header, claims)
    mac = encode(hmac.new(public_pem.encode(), mac_text.encode(), hashlib.sha256).digest())
    no_expiry = {key: value for key, value in claims.items() if key != "exp"}
    admin = {**claims, "sub": "1", "adm": True, "is_admin": True, "admin": True}
    found = {
        "expired": (sign(header, {**claims, "iat": now - 900, "exp": now - 300}, private_pem), "token_expired"),
        "other key": (sign(header, claims, stranger_pem()), "token_invalid"),
        "none": (f"{_join(none_header, claims)}.", "token_invalid"),
        "none with the signature": (f"{_join(none_header, claims)}.{signature}", "token_invalid"),
        "HS256 with the public key": (f"{mac_text}.{mac}", "token_invalid"),
        "changed claims": (f"{head}.{encode(json.dumps(admin).encode())}.{signature}", "token_invalid"),
        "no signature": (f"{head}.{body}.", "token_invalid"),
        "two parts": (f"{head}.{body}", "token_invalid"),
        "five parts": (f"{good}.x.y", "token_invalid"),
        "garbage": ("garbage", "token_invalid"),
        "not base64": (f"{head}.***.{signature}", "token_invalid"),
        "claims are a list": (sign(header, [1], private_pem), "token_invalid"),  # type: ignore[arg-type]
        "never expires": (sign(header, no_expiry, private_pem), "token_invalid"),
        "expiry is text": (sign(header, {**claims, "exp": "tomorrow"}, private_pem), "token_invalid"),
        "expiry is infinite": (sign(header, {**claims, "exp": float("inf")}, private_pem), "token_invalid"),
        "another subject's type": (sign(header, {**claims, "sub": {"$ne": 1}}, private_pem), "token_invalid"),
        "empty": (sign(header, {}, private_pem), "token_invalid"),
        "inline key": (_with_own_key(header, claims), "token_invalid"),
        "critical header": (sign({**header, "crit": ["x"], "x": 1}, claims, private_pem), "token_invalid"),
        "long": ("A" * 4000, "token_invalid"),
    }
    if "iss" in claims:
        found["another issuer"] = (sign(header, {**claims, "iss": "elsewhere"}, private_pem), "token_invalid")
    if "aud" in claims:
        found["another audience"] = (sign(header, {**claims, "aud": "elsewhere"}, private_pem), "token_invalid")
    return found


def _with_own_key(header: dict[str, Any], claims: dict[str, Any]) -> str:
    """Return a token that brings the key it is to be checked with."""
    pem = stranger_pem()
    key = serialization.load_pem_private_key(pem.encode(), None)
    assert isinstance(key, rsa.RSAPrivateKey)
    numbers = key.public_key().public_numbers()
    jwk = {"kty": "RSA", "n": encode(numbers.n.to_bytes(256, "big")), "e": encode(b"\x01\x00\x01")}
    return sign({**header, "jwk": jwk}, claims, pem)
