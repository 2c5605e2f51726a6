"""What somebody does about their own account: see where they are logged in, end that, take another password.

And what becomes of sessions that are over: they are kept for a while, then removed.
"""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID

import structlog

from hockey_hub_chat import passwords
from hockey_hub_chat.errors import NotFoundError, TokenInvalidError, ValidationError, WrongPasswordError
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services import people
from hockey_hub_chat.services.auth import Principal, count_try
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import sessions, users
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.storage.sessions import Device

log = structlog.get_logger(__name__)

#: How long a session that is over is remembered, so that the use of its tokens is still seen for what it is.
KEEP_ENDED = timedelta(days=30)
#: Rows removed in one transaction: its locks are short, and a standby follows easily.
_PRUNE_BATCH = 1_000


def list_sessions(ctx: AppContext, principal: Principal) -> list[Device]:
    """Return one's own sessions that are not over, the newest first."""
    with reading(ctx.engine) as conn:
        return sessions.of_person(conn, principal.user_id, ctx.clock())


def end_session(ctx: AppContext, principal: Principal, session_id: UUID) -> None:
    """End a session of one's own, its sockets included; it may be the one that asks.

    Raises:
        NotFoundError: there is none, it is over, or it is somebody else's; never says which.
    """
    with writing(ctx.engine) as conn:
        ended = sessions.revoke_own(conn, session_id, principal.user_id, ctx.clock())
    if not ended:
        raise NotFoundError("There is no such log-in. It may have ended already.")
    log.info("session_ended", session_id=str(session_id), by_session_id=str(principal.session_id))
    ctx.bus.publish([SessionEnded(session_id)])


def end_other_sessions(ctx: AppContext, principal: Principal) -> int:
    """End every session of one's own except the one that asks; return how many those were."""
    with writing(ctx.engine) as conn:
        ended = sessions.revoke_others(conn, principal.user_id, principal.session_id, ctx.clock())
    _tell_ended(ctx, principal, ended)
    return len(ended)


def change_password(ctx: AppContext, principal: Principal, current: str, new: str, *, address: str) -> None:
    """Take another password; every other session ends, the one that asks goes on.

    Args:
        address: where the request came from; tries are counted together with those of logging in.

    Raises:
        ValidationError: ``details["fields"]["new"]`` is the rule that the new one breaks.
        WrongPasswordError: the current one is wrong, or was changed in this moment.
        RateLimitedError: too many tries.
        TokenInvalidError: the session was ended meanwhile.
    """
    problem = people.password_problem(new)
    if problem is not None:
        raise ValidationError(f"The new password does not fit: it needs {problem}.", {"fields": {"new": problem}})
    count_try(ctx, principal.username, address)
    with reading(ctx.engine) as conn:
        user = users.get(conn, principal.user_id)
    right = passwords.verify_password(user.password_hash if user else None, current)
    if user is None or not right:
        log.info("password_change_refused", user_id=principal.user_id, address=address)
        raise WrongPasswordError("The current password is wrong.")
    password_hash = passwords.hash_password(new)
    with writing(ctx.engine) as conn:
        if not users.set_password(conn, user.id, password_hash, replacing=user.password_hash):
            raise WrongPasswordError("The current password is wrong.")
        session = sessions.get(conn, principal.session_id, for_update=True)
        if session is None or not session.is_live(ctx.clock()):
            raise TokenInvalidError(
                "The session is over."
            )  # ended from elsewhere while we computed: it changes nothing
        ended = sessions.revoke_others(conn, user.id, principal.session_id, ctx.clock())
    log.info("password_changed", user_id=user.id)
    _tell_ended(ctx, principal, ended)


def prune_sessions(ctx: AppContext) -> int:
    """Remove the sessions that were over more than ``KEEP_ENDED`` ago, batch by batch; return how many.

    Safe to repeat, to interrupt, and to run in several places at once.
    """
    before = ctx.clock() - KEEP_ENDED
    removed = 0
    while True:
        with writing(ctx.engine) as conn:
            batch = sessions.prune(conn, before, _PRUNE_BATCH)
        removed += batch
        if batch < _PRUNE_BATCH:
            return removed


def _tell_ended(ctx: AppContext, principal: Principal, ended: list[UUID]) -> None:
    if ended:
        log.info("other_sessions_ended", count=len(ended), by_session_id=str(principal.session_id))
        ctx.bus.publish([SessionEnded(session_id) for session_id in ended])
