"""Builds the Flask application: what happens around every request. Views are in ``api``, ``pages``, ``socket`` and ``health``."""

from __future__ import annotations

import re
import sys
import time
import uuid
from typing import Any

import orjson
import structlog
from apiflask import APIFlask
from flask import Response, g, request
from flask.json.provider import JSONProvider

from hockey_hub_chat import __version__, compose, config, logs, metrics
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ConfigError
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.web import api, errors, health, pages, security, socket

log = structlog.get_logger(__name__)

#: Bytes in a request body; the longest message with room to spare.
MAX_BODY_BYTES = 65_536
#: gunicorn stops trying when an application cannot be loaded.
EXIT_APP_LOAD = 4

_REQUEST_ID = re.compile(r"[A-Za-z0-9-]{8,64}", re.ASCII)
_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "POST", "PUT", "DELETE", "PATCH"})
_QUIET = frozenset({"/health", "/ready", "/metrics"})
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'self'; connect-src 'self'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
        "form-action 'self'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    "Cross-Origin-Opener-Policy": "same-origin",
}


class OrjsonProvider(JSONProvider):
    """JSON by orjson: UTC times as RFC 3339, UUIDs as text."""

    def dumps(self, obj: Any, **kwargs: Any) -> str:
        """See ``JSONProvider``."""
        return orjson.dumps(obj, option=orjson.OPT_UTC_Z).decode()

    def loads(self, s: str | bytes, **kwargs: Any) -> Any:
        """See ``JSONProvider``."""
        return orjson.loads(s)

    def response(self, *args: Any, **kwargs: Any) -> Response:
        """See ``JSONProvider``."""
        body = orjson.dumps(self._prepare_response_obj(args, kwargs), option=orjson.OPT_UTC_Z)
        return Response(body, mimetype="application/json")


class _App(APIFlask):
    def get_send_file_max_age(self, filename: str | None) -> int | None:
        """Return how long a static file stays fresh: vendored ones carry their version, the rest is asked for again."""
        return 31_536_000 if filename and filename.startswith("vendor/") else None


def create_app(settings: Settings | None = None) -> APIFlask:
    """Return the application; the entry of every server.

    Args:
        settings: None reads the environment, and ends the process with one sentence when it is bad.

    Raises:
        ConfigError: only with ``settings`` given.
    """
    if settings is not None:
        return _build(settings)
    try:
        return _build(config.load())
    except ConfigError as error:
        print(f"hockey-hub-chat: {error.message}", file=sys.stderr)
        sys.exit(EXIT_APP_LOAD)


def _build(settings: Settings) -> APIFlask:
    logs.configure(settings)
    ctx = compose.build(settings)
    app = _App(
        __name__,
        title="Hockey Hub Chat",
        version=__version__,
        spec_path="/api/openapi.json",
        docs_path=None,
        json_errors=False,
    )
    app.json = OrjsonProvider(app)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY_BYTES
    app.url_map.strict_slashes = False
    app.extensions["chat"] = ctx
    _around_requests(app, ctx)
    errors.register(app)
    api.register(app)
    pages.register(app)
    health.register(app)
    socket.register(app)
    return app


def _around_requests(app: APIFlask, ctx: AppContext) -> None:
    @app.before_request
    def _begin() -> None:
        g.started = time.perf_counter()
        structlog.contextvars.clear_contextvars()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        structlog.contextvars.bind_contextvars(request_id=g.request_id)
        if request.path.startswith("/api/"):
            security.guard_api(ctx, request)

    @app.after_request
    def _finish(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        for name, value in _HEADERS.items():
            response.headers.setdefault(name, value)
        if request.path.startswith("/api/"):
            response.headers.setdefault("Cache-Control", "no-store")
            _allow_cross_origin(ctx, response)
        _account(ctx, response)
        return response


def _allow_cross_origin(ctx: AppContext, response: Response) -> None:
    """Let pages of ``CORS_ORIGINS`` read the answer."""
    if not ctx.settings.cors_origins:
        return
    response.headers.add("Vary", "Origin")
    origin = request.headers.get("Origin", "")
    if origin.lower() in ctx.settings.origins:
        response.headers["Access-Control-Allow-Origin"] = origin
        response.headers["Access-Control-Allow-Credentials"] = "true"
        response.headers["Access-Control-Expose-Headers"] = "X-Request-ID, Retry-After"
        if request.method == "OPTIONS":
            response.headers["Access-Control-Allow-Methods"] = "GET, POST, PUT, DELETE"
            response.headers["Access-Control-Allow-Headers"] = "Authorization, Content-Type, X-Request-ID"
            response.headers["Access-Control-Max-Age"] = "600"


def _account(ctx: AppContext, response: Response) -> None:
    """Count and log one request. Of sockets there are too many to log each."""
    rule = request.url_rule.rule if request.url_rule is not None else "unmatched"
    method = request.method if request.method in _METHODS else "OTHER"  # never what anybody can make up
    is_socket = rule == "/ws" and response.status_code == 200  # what stands for the answer flask-sock gave itself
    status = "101" if is_socket else str(response.status_code)
    metrics.HTTP_REQUESTS.labels(method=method, route=rule, status=status).inc()
    if is_socket:
        return
    who = g.get("principal")
    write = log.debug if request.path in _QUIET or rule.startswith("/static/") else log.info
    write(
        "request",
        method=request.method,
        path=request.path,
        status=response.status_code,
        ms=round((time.perf_counter() - g.started) * 1000, 2),
        bytes=response.content_length,
        address=security.client_address(ctx, request),
        user_id=who.user_id if who is not None else None,
    )
