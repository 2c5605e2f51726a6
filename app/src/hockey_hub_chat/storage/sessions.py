"""Log-in sessions: which refresh token is current, and what was revoked. Holds hashes, never tokens."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import sqlalchemy as sa

from hockey_hub_chat.storage.tables import UTC, sessions, users


@dataclass(frozen=True, slots=True)
class Device:
    """A session as its person sees it."""

    id: UUID
    user_agent: str
    created_at: datetime
    renewed_at: datetime | None
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A session with what is needed of its person."""

    id: UUID
    user_id: int
    username: str
    is_admin: bool
    refresh_hash: bytes
    previous_refresh_hash: bytes | None
    rotated_at: datetime | None
    expires_at: datetime
    revoked_at: datetime | None
    disabled_at: datetime | None

    def is_live(self, now: datetime) -> bool:
        """Whether the session still counts."""
        return self.revoked_at is None and self.disabled_at is None and now < self.expires_at


def create(
    conn: sa.Connection,
    *,
    session_id: UUID,
    user_id: int,
    refresh_hash: bytes,
    user_agent: str,
    now: datetime,
    expires_at: datetime,
) -> None:
    """Begin a session."""
    conn.execute(
        sa.insert(sessions).values(
            id=session_id,
            user_id=user_id,
            refresh_hash=refresh_hash,
            user_agent=user_agent,
            created_at=now,
            expires_at=expires_at,
        )
    )


_WITH_PERSON = sa.select(
    sessions.c.id,
    sessions.c.user_id,
    users.c.username,
    users.c.is_admin,
    sessions.c.refresh_hash,
    sessions.c.previous_refresh_hash,
    sessions.c.rotated_at,
    sessions.c.expires_at,
    sessions.c.revoked_at,
    users.c.disabled_at,
).join(users, users.c.id == sessions.c.user_id)


def get(conn: sa.Connection, session_id: UUID, *, for_update: bool = False) -> Session | None:
    """Return a session, held until the transaction ends when asked for."""
    query = _WITH_PERSON.where(sessions.c.id == session_id)
    if for_update:
        query = query.with_for_update(of=sessions)
    row = conn.execute(query).one_or_none()
    return Session(**row._mapping) if row else None


def get_many(conn: sa.Connection, session_ids: Iterable[UUID]) -> dict[UUID, Session]:
    """Return those of the sessions that exist."""
    ids = list(session_ids)
    if conn.dialect.name == "postgresql":
        # As text, with one array: everybody who comes back after a restart is asked for here, and putting the statement together
        # takes longer than PostgreSQL does.
        rows: Iterable[Sequence[Any]] = conn.exec_driver_sql(_MANY, (ids,))
    else:
        rows = conn.execute(_WITH_PERSON.where(sessions.c.id.in_(ids)))
    return {row[0]: Session(*row) for row in rows}


_MANY = """
SELECT s.id, s.user_id, u.username, u.is_admin, s.refresh_hash, s.previous_refresh_hash, s.rotated_at, s.expires_at, s.revoked_at,
  u.disabled_at
FROM sessions s JOIN users u ON u.id = s.user_id WHERE s.id = ANY(%s)
"""


def rotate(conn: sa.Connection, session: Session, refresh_hash: bytes, *, now: datetime, expires_at: datetime) -> None:
    """Make another refresh token the current one and remember the last."""
    conn.execute(
        sa.update(sessions)
        .where(sessions.c.id == session.id)
        .values(
            refresh_hash=refresh_hash,
            previous_refresh_hash=session.refresh_hash,
            rotated_at=now,
            expires_at=expires_at,
        )
    )


def revoke(conn: sa.Connection, session_id: UUID) -> bool:
    """End a session.

    Returns:
        False when it had ended already.
    """
    statement = (
        sa.update(sessions)
        .where(sessions.c.id == session_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
    )
    return conn.execute(statement).rowcount == 1


def of_person(conn: sa.Connection, user_id: int, now: datetime) -> list[Device]:
    """Return a person's sessions that are not over, the newest first."""
    query = (
        sa.select(
            sessions.c.id,
            sessions.c.user_agent,
            sessions.c.created_at,
            sessions.c.rotated_at,
            sessions.c.expires_at,
        )
        .where(*_live_of(user_id, now))
        .order_by(sessions.c.created_at.desc(), sessions.c.id.desc())
    )
    return [Device(*row) for row in conn.execute(query)]


def revoke_own(conn: sa.Connection, session_id: UUID, user_id: int, now: datetime) -> bool:
    """End a session of this person.

    Returns:
        False when it is somebody else's, over already, or there is none.
    """
    statement = sa.update(sessions).where(sessions.c.id == session_id, *_live_of(user_id, now)).values(revoked_at=now)
    return conn.execute(statement).rowcount == 1


def revoke_others(conn: sa.Connection, user_id: int, keep: UUID, now: datetime) -> list[UUID]:
    """End every session of a person that is not over, but one; return which."""
    statement = (
        sa.update(sessions)
        .where(sessions.c.id != keep, *_live_of(user_id, now))
        .values(revoked_at=now)
        .returning(sessions.c.id)
    )
    return list(conn.execute(statement).scalars())


def _live_of(user_id: int, now: datetime) -> tuple[sa.ColumnElement[bool], ...]:
    return (sessions.c.user_id == user_id, sessions.c.revoked_at.is_(None), sessions.c.expires_at > now)


def revoke_all(conn: sa.Connection, user_id: int) -> list[UUID]:
    """End every session of a person and return which."""
    statement = (
        sa.update(sessions)
        .where(sessions.c.user_id == user_id, sessions.c.revoked_at.is_(None))
        .values(revoked_at=datetime.now(UTC))
        .returning(sessions.c.id)
    )
    return list(conn.execute(statement).scalars())


def live(conn: sa.Connection, session_ids: Iterable[UUID]) -> set[UUID]:
    """Return those of the sessions that still count."""
    query = (
        sa.select(sessions.c.id)
        .join(users, users.c.id == sessions.c.user_id)
        .where(
            sessions.c.id.in_(list(session_ids)),
            sessions.c.revoked_at.is_(None),
            sessions.c.expires_at > datetime.now(UTC),
            users.c.disabled_at.is_(None),
        )
    )
    return set(conn.execute(query).scalars())


def prune(conn: sa.Connection, ended_before: datetime, limit: int) -> int:
    """Remove at most ``limit`` sessions that were revoked or ran out before a time; return how many.

    A row that somebody holds at this moment is left for the next time: nobody waits for this.
    """
    over = sa.or_(sessions.c.revoked_at < ended_before, sessions.c.expires_at < ended_before)
    chosen = list(
        conn.execute(sa.select(sessions.c.id).where(over).limit(limit).with_for_update(skip_locked=True)).scalars()
    )
    conn.execute(sa.delete(sessions).where(sessions.c.id.in_(chosen)))
    return len(chosen)
