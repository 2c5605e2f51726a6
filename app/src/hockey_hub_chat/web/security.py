"""Who a request is from and whether it may come at all: tokens, origins, addresses, rate. Decides nothing about content."""

from __future__ import annotations

import contextlib
import ipaddress
from typing import cast
from urllib.parse import urlsplit

from flask import Request, current_app, g, request

from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import AuthenticationError, BadRequestError, OriginError
from hockey_hub_chat.services import auth
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext

ACCESS_COOKIE = "hhc_access"
REFRESH_COOKIE = "hhc_refresh"
REFRESH_PATH = "/api/auth"

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})


def context() -> AppContext:
    """Return the parts of the running application."""
    return cast(AppContext, current_app.extensions["chat"])


def access_token(req: Request) -> str | None:
    """Return the access token a request carries: a program's ``Authorization: Bearer``, or a browser's cookie."""
    kind, _, token = req.headers.get("Authorization", "").partition(" ")
    if kind.lower() == "bearer" and token.strip():
        return token.strip()
    return req.cookies.get(ACCESS_COOKIE)


def principal() -> Principal:
    """Return who makes this request.

    Raises:
        AuthenticationError: nobody, or with a token that does not count.
        UnavailableError: the database cannot be asked.
    """
    if "principal" not in g:
        g.principal = auth.authenticate(context(), access_token(request))
    return cast(Principal, g.principal)


def client_address(ctx: AppContext, req: Request) -> str:
    """Return where a request came from.

    In production only our own nginx reaches the application (a unix socket, or a port the firewall opens to nginx alone), and
    nginx replaces ``X-Real-IP``; elsewhere the header is anybody's claim.
    """
    if ctx.settings.is_production:
        try:
            return str(ipaddress.ip_address(req.headers.get("X-Real-IP", "").strip()))
        except ValueError:
            pass  # not through nginx: the connection's own address counts
    return req.remote_addr or "local"


def check_origin(ctx: AppContext, req: Request) -> None:
    """Refuse a browser's request from another site.

    Without ``PUBLIC_URL`` (development) the origin must name the host that was asked. A request without ``Origin`` is a
    program's: it has no ambient cookie that another site could abuse.

    Raises:
        OriginError: from another site.
    """
    headers = req.headers
    if not is_own_origin(ctx.settings, headers.get("Origin"), headers.get("Sec-Fetch-Site", "none"), req.host):
        raise OriginError("The request came from another site.")


def is_own_origin(settings: Settings, origin: str | None, fetch_site: str, host: str) -> bool:
    """Whether a request may act here, by its headers ``Origin``, ``Sec-Fetch-Site`` (default "none") and ``Host``."""
    if origin is None:
        return fetch_site in ("none", "same-origin")
    if origin.lower() in settings.origins:
        return True
    try:
        return not settings.public_url and urlsplit(origin).netloc.lower() == host.lower()
    except ValueError:  # no address at all
        return False


def guard_api(ctx: AppContext, req: Request) -> None:
    """Let an API request in.

    Raises:
        OriginError: a state-changing request from another site.
        BadRequestError: a body that is not JSON.
        RateLimitedError: too many of one person, or of one address while nobody is logged in.
    """
    if req.method == "OPTIONS":
        return
    who = client_address(ctx, req)
    token = access_token(req)
    if token:
        with contextlib.suppress(AuthenticationError):  # counted by address; the view says what is wrong with the token
            who = f"user-{ctx.keys.read(token, now=ctx.clock()).user_id}"
    ctx.limits.hit("http", who, limit=ctx.settings.rate_limit_max_requests, window_ms=ctx.settings.rate_limit_window_ms)
    if req.method not in SAFE_METHODS:
        check_origin(ctx, req)
        has_body = bool(req.content_length) or "chunked" in req.headers.get("Transfer-Encoding", "").lower()
        if has_body and req.mimetype != "application/json":
            raise BadRequestError("The body must be JSON, sent as application/json.")
