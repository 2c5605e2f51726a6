"""What somebody does about their own account: see where they are logged in, and end that."""

from __future__ import annotations

from uuid import UUID

import structlog

from hockey_hub_chat.errors import NotFoundError
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import sessions
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.storage.sessions import Device

log = structlog.get_logger(__name__)


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


def _tell_ended(ctx: AppContext, principal: Principal, ended: list[UUID]) -> None:
    if ended:
        log.info("other_sessions_ended", count=len(ended), by_session_id=str(principal.session_id))
        ctx.bus.publish([SessionEnded(session_id) for session_id in ended])
