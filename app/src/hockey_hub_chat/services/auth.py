"""Who somebody is: log-in, access tokens, rotating refresh tokens, log-out.

A session is a row; every access token names it, so that its end is everybody's knowledge at the next request. A refresh token
counts once. The one before it still earns an access token for ``REUSE_GRACE`` (two tabs that refresh at once, of which one
has the older cookie); any other use of a token that was rotated out means that somebody copied it: the session ends.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from uuid import UUID, uuid4

import structlog

from hockey_hub_chat import metrics, passwords, tokens
from hockey_hub_chat.errors import AuthenticationError, InvalidCredentialsError, TokenInvalidError
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import sessions, users
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.tokens import AccessClaims

log = structlog.get_logger(__name__)

REUSE_GRACE = timedelta(seconds=10)
_MAX_USER_AGENT = 300


@dataclass(frozen=True, slots=True)
class Principal:
    """Who makes a request."""

    user_id: int
    username: str
    session_id: UUID
    is_admin: bool
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Tokens:
    """What a client is handed. ``refresh_token`` is None when the one it holds, or another tab's, stays in force."""

    principal: Principal
    access_token: str
    refresh_token: str | None
    refresh_expires_at: datetime


def login(ctx: AppContext, username: str, password: str, *, address: str, user_agent: str = "") -> Tokens:
    """Begin a session.

    Args:
        address: where the request came from; tries are limited per account and address.

    Raises:
        InvalidCredentialsError: wrong name or password, or a disabled account; never says which.
        RateLimitedError: too many tries.
    """
    name = users.normalise(username)
    count_try(ctx, name, address)
    with reading(ctx.engine) as conn:
        user = users.find(conn, name)
    right = passwords.verify_password(user.password_hash if user else None, password)
    if user is None or not right or user.disabled_at is not None:
        raise _refusal(address)
    now = ctx.clock()
    refresh = tokens.new_refresh_token(uuid4())
    expires_at = now + timedelta(days=ctx.settings.session_ttl_days)
    with writing(ctx.engine) as conn:
        # Checking took a while. A password changed meanwhile has ended all sessions: none may begin with the old one after that.
        if users.hold_password(conn, user.id) != user.password_hash:
            raise _refusal(address)
        sessions.create(
            conn,
            session_id=refresh.session_id,
            user_id=user.id,
            refresh_hash=refresh.hash,
            user_agent=user_agent.replace("\x00", "")[:_MAX_USER_AGENT],
            now=now,
            expires_at=expires_at,
        )
    log.info("logged_in", user_id=user.id, session_id=str(refresh.session_id))
    return _hand_out(ctx, user.id, user.username, user.is_admin, refresh, expires_at, now)


def refresh(ctx: AppContext, refresh_token: str | None) -> Tokens:
    """Renew a session's tokens.

    Raises:
        AuthenticationError: no token was sent.
        TokenInvalidError: it is not ours, its session is over, or it was used before (which ends the session).
    """
    if not refresh_token:
        raise AuthenticationError("Nobody is logged in.")
    token = tokens.read_refresh_token(refresh_token)
    now = ctx.clock()
    expires_at = now + timedelta(days=ctx.settings.session_ttl_days)
    reused = False
    fresh: tokens.RefreshToken | None = None
    with writing(ctx.engine) as conn:
        session = sessions.get(conn, token.session_id, for_update=True)
        if session is None or not session.is_live(now):
            raise TokenInvalidError("The session is over.")
        if hmac.compare_digest(session.refresh_hash, token.hash):
            fresh = tokens.new_refresh_token(session.id)
            sessions.rotate(conn, session, fresh.hash, now=now, expires_at=expires_at)
        elif not _is_in_grace(session, token, now):
            reused = True
            sessions.revoke(conn, session.id)
    if reused:
        log.warning("refresh_token_reused", user_id=session.user_id, session_id=str(session.id))
        ctx.bus.publish([SessionEnded(session.id)])
        raise TokenInvalidError("The session is over.")
    if fresh is None:
        expires_at = session.expires_at
    return _hand_out(ctx, session.user_id, session.username, session.is_admin, fresh, expires_at, now, session.id)


def logout(ctx: AppContext, *, access_token: str | None, refresh_token: str | None) -> None:
    """End the session that either token names, sockets included. Silent when there is none: the outcome is the same."""
    for session_id in {_session_of_access(ctx, access_token), _session_of_refresh(ctx, refresh_token)} - {None}:
        if session_id is not None:
            end_session(ctx, session_id)


def end_session(ctx: AppContext, session_id: UUID) -> None:
    """End a session and its sockets."""
    with writing(ctx.engine) as conn:
        ended = sessions.revoke(conn, session_id)
    if ended:
        log.info("session_ended", session_id=str(session_id))
        ctx.bus.publish([SessionEnded(session_id)])


def authenticate(ctx: AppContext, token: str | None) -> Principal:
    """Return who holds an access token.

    Raises:
        AuthenticationError: there is no token.
        TokenExpiredError: refresh, then try again.
        TokenInvalidError: not ours, or its session is over.
        UnavailableError: the database cannot be asked.
    """
    return confirm(ctx, read_token(ctx, token))


def read_token(ctx: AppContext, token: str | None) -> AccessClaims:
    """Return what an access token of ours says; whether its session still counts is for ``confirm`` to say. Does not wait.

    Raises:
        AuthenticationError: there is no token.
        TokenExpiredError: refresh, then try again.
        TokenInvalidError: not ours.
    """
    if not token:
        raise AuthenticationError("Nobody is logged in.")
    return ctx.keys.read(token, now=ctx.clock())


def confirm(ctx: AppContext, claims: AccessClaims) -> Principal:
    """Return who that is, if the session counts; asked together with whoever else asks now.

    Raises:
        TokenInvalidError: its session is over.
        UnavailableError: the database cannot be asked.
    """
    session = ctx.sessions.get(claims.session_id)
    if session is None or session.user_id != claims.user_id or not session.is_live(ctx.clock()):
        raise TokenInvalidError("The session is over.")
    return Principal(session.user_id, session.username, session.id, session.is_admin, claims.expires_at)


def count_try(ctx: AppContext, username: str, address: str) -> None:
    """Count one try at somebody's password, at whichever door.

    Args:
        username: in its stored form.
        address: where the request came from.

    Raises:
        RateLimitedError: too many for this account from this address.
    """
    ctx.limits.hit("login", _login_key(username, address), limit=ctx.settings.login_rate_limit)


def _refusal(address: str) -> InvalidCredentialsError:
    metrics.LOGIN_FAILURES.inc()
    log.info("login_failed", address=address)
    return InvalidCredentialsError("Wrong user name or password.")


def _login_key(name: str, address: str) -> str:
    return hashlib.blake2b(f"{name} {address}".encode(errors="replace"), digest_size=16).hexdigest()


def _is_in_grace(session: sessions.Session, token: tokens.RefreshToken, now: datetime) -> bool:
    return (
        session.previous_refresh_hash is not None
        and session.rotated_at is not None
        and hmac.compare_digest(session.previous_refresh_hash, token.hash)
        and now - session.rotated_at <= REUSE_GRACE
    )


def _hand_out(
    ctx: AppContext,
    user_id: int,
    username: str,
    is_admin: bool,
    refresh_token: tokens.RefreshToken | None,
    refresh_expires_at: datetime,
    now: datetime,
    session_id: UUID | None = None,
) -> Tokens:
    session = refresh_token.session_id if refresh_token else session_id
    if session is None:
        raise ValueError("a session is needed")
    expires_at = now + timedelta(seconds=ctx.settings.jwt_access_ttl_seconds)
    access = ctx.keys.sign(user_id=user_id, session_id=session, now=now, expires_at=expires_at)
    principal = Principal(user_id, username, session, is_admin, expires_at)
    return Tokens(principal, access, refresh_token.text if refresh_token else None, refresh_expires_at)


def _session_of_access(ctx: AppContext, token: str | None) -> UUID | None:
    if not token:
        return None
    try:
        return authenticate(ctx, token).session_id
    except AuthenticationError:
        return None


def _session_of_refresh(ctx: AppContext, text: str | None) -> UUID | None:
    if not text:
        return None
    try:
        token = tokens.read_refresh_token(text)
    except AuthenticationError:
        return None
    with reading(ctx.engine) as conn:
        session = sessions.get(conn, token.session_id)
    if session is None or token.hash not in (session.refresh_hash, session.previous_refresh_hash):
        return None
    return session.id
