"""Turns whatever a view raises into the one documented JSON shape. The only place that does."""

from __future__ import annotations

import math
from typing import Any

import structlog
from apiflask import APIFlask, HTTPError
from flask import Response, g, jsonify
from werkzeug.exceptions import HTTPException

from hockey_hub_chat.errors import (
    AuthenticationError,
    BadRequestError,
    ChatError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
    ValidationError,
)

log = structlog.get_logger(__name__)

_BY_STATUS: dict[int, type[ChatError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    413: TooLargeError,
    422: ValidationError,
    429: RateLimitedError,
    503: UnavailableError,
}


def register(app: APIFlask) -> None:
    """Answer every error of ``app`` in the documented shape."""
    app.register_error_handler(ChatError, answer)
    app.register_error_handler(HTTPError, _answer_invalid)
    app.register_error_handler(HTTPException, _answer_http)
    app.register_error_handler(Exception, _answer_unexpected)


def _answer(body: dict[str, Any], status: int, headers: dict[str, str] | None = None) -> Response:
    response = jsonify({"error": {**body, "request_id": g.get("request_id", "")}})
    response.status_code = status
    response.headers.update(headers or {})
    response.headers["Cache-Control"] = "no-store"
    return response


def answer(error: ChatError) -> Response:
    """Return the answer to an error of our own."""
    headers: dict[str, str] = {}
    if isinstance(error, RateLimitedError):
        headers["Retry-After"] = str(max(1, math.ceil(error.details.get("retry_after_ms", 1000) / 1000)))
    elif isinstance(error, UnavailableError):
        headers["Retry-After"] = "2"
        cause = getattr(error.__cause__, "orig", None) or error.__cause__
        log.warning("unavailable", message=error.message, cause=type(cause).__name__ if cause else None)
    elif type(error) is ChatError or error.http_status >= 500:
        log.error("internal_error", exc_info=error)
    return _answer(error.as_dict(), error.http_status, headers)


def _answer_invalid(error: HTTPError) -> Response:
    """APIFlask's: a body or a query that does not fit its model."""
    problems: dict[str, str] = {}
    detail = error.detail if isinstance(error.detail, dict) else {}
    for fields in detail.values():
        for name, messages in fields.items():
            problems[name] = "; ".join(messages)
    if error.status_code != 422:
        return _answer_status(error.status_code, str(error.message), {})
    if set(problems) == {"_schema"}:
        return answer(BadRequestError("The body must be a JSON object."))
    listed = ", ".join(sorted(problems))
    return answer(ValidationError(f"Not valid: {listed}.", {"fields": problems}))


def _answer_http(error: HTTPException) -> Response:
    """Werkzeug's: no such route, wrong method, unreadable JSON, a body over the limit."""
    if error.response is not None or error.code is None or error.code < 400:
        return error.get_response()  # type: ignore[return-value]  # a redirect to the canonical path
    kept = {name: value for name, value in error.get_headers() if name in ("Allow", "Retry-After")}
    return _answer_status(error.code, _SENTENCES.get(error.code, error.name + "."), kept)


_SENTENCES = {
    400: "The request could not be read.",
    404: "There is no such thing.",
    405: "This method is not possible here.",
    413: "The body is too large.",
}


def _answer_status(status: int, message: str, headers: dict[str, str]) -> Response:
    kind = _BY_STATUS.get(status, BadRequestError if status < 500 else ChatError)
    return _answer(kind(message).as_dict(), status, headers)


def _answer_unexpected(error: Exception) -> Response:
    log.error("unexpected_error", exc_info=error)
    return _answer(ChatError("Something went wrong on our side.").as_dict(), 500)
