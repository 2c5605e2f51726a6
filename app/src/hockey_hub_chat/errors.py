"""The errors the application raises on purpose, and nothing else.

Each carries a stable ``code`` (the contract: clients switch on it), the HTTP status it becomes, and whether the same
request may succeed later unchanged (``retryable``). The tree::

    ChatError                     code              HTTP  retryable
    ├── ConfigError               bad_config         -    no    all bad settings at once; the process does not start
    ├── BadRequestError           bad_request       400   no    malformed body or frame
    │   ├── ValidationError       validation_failed 422   no    well-formed, but a field is wrong; details names it
    │   └── UnknownFrameError     unknown_type      400   no
    ├── AuthenticationError       not_authenticated 401   no
    │   ├── InvalidCredentialsError invalid_credentials 401 no
    │   ├── TokenExpiredError     token_expired     401   no    refresh, then try again
    │   └── TokenInvalidError     token_invalid     401   no
    ├── PermissionDeniedError     forbidden         403   no
    │   ├── NotAMemberError       not_a_member      403   no
    │   ├── WrongPasswordError    wrong_password    403   no    the session goes on: it is no 401
    │   └── OriginError           bad_origin        403   no    cross-site request refused
    ├── NotFoundError             not_found         404   no
    ├── ConflictError             conflict          409   no
    ├── TooLargeError             too_large         413   no
    ├── RateLimitedError          rate_limited      429   yes   details.retry_after_ms
    └── UnavailableError          unavailable       503   yes   database or bus away, or draining
"""

from __future__ import annotations

from typing import Any, ClassVar


class ChatError(Exception):
    """Base of every error the application raises on purpose.

    Args:
        message: one sentence for a person, in English, without secrets or internals.
        details: JSON-serialisable facts for a program, e.g. ``{"field": "body", "max": 8000}``.
    """

    code: ClassVar[str] = "internal"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details = details or {}

    def as_dict(self) -> dict[str, Any]:
        """Return the wire form: ``{"code", "message", "retryable", "details"}``."""
        return {
            "code": self.code,
            "message": self.message,
            "retryable": self.retryable,
            "details": self.details,
        }


class ConfigError(ChatError):
    """The environment holds bad settings; ``details["settings"]`` lists every one."""

    code = "bad_config"


class BadRequestError(ChatError):
    """The body or frame could not be read at all."""

    code = "bad_request"
    http_status = 400


class ValidationError(BadRequestError):
    """Well-formed, but a field is missing or wrong; ``details["fields"]`` names each."""

    code = "validation_failed"
    http_status = 422


class UnknownFrameError(BadRequestError):
    """A frame of a type this protocol version does not have."""

    code = "unknown_type"


class AuthenticationError(ChatError):
    """Nobody is logged in on this request."""

    code = "not_authenticated"
    http_status = 401


class InvalidCredentialsError(AuthenticationError):
    """Wrong user name or password; never says which."""

    code = "invalid_credentials"


class TokenExpiredError(AuthenticationError):
    """The access token is past its time; refresh and try again."""

    code = "token_expired"


class TokenInvalidError(AuthenticationError):
    """The token is not ours, was revoked, or was tampered with."""

    code = "token_invalid"


class PermissionDeniedError(ChatError):
    """Logged in, but not allowed."""

    code = "forbidden"
    http_status = 403


class NotAMemberError(PermissionDeniedError):
    """The conversation does not exist for this person: unknown and foreign ones answer alike."""

    code = "not_a_member"


class WrongPasswordError(PermissionDeniedError):
    """Who is logged in gave a wrong current password. Not a 401, by which clients would take the session for ended."""

    code = "wrong_password"


class OriginError(PermissionDeniedError):
    """The request came from another site (CSRF, cross-site WebSocket)."""

    code = "bad_origin"


class NotFoundError(ChatError):
    """No such thing."""

    code = "not_found"
    http_status = 404


class ConflictError(ChatError):
    """The request contradicts what is stored."""

    code = "conflict"
    http_status = 409


class TooLargeError(ChatError):
    """Over a size limit; ``details["max"]`` says which, in bytes or characters."""

    code = "too_large"
    http_status = 413


class RateLimitedError(ChatError):
    """Too many in too short a time; ``details["retry_after_ms"]`` says when to try again."""

    code = "rate_limited"
    http_status = 429
    retryable = True


class UnavailableError(ChatError):
    """A part we depend on is away for the moment, or this worker is draining. Safe to retry with the same client_id."""

    code = "unavailable"
    http_status = 503
    retryable = True
