"""People and their accounts."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

import sqlalchemy as sa

from hockey_hub_chat.storage.tables import UTC, messages, users


@dataclass(frozen=True, slots=True)
class User:
    """An account."""

    id: int
    username: str
    display_name: str
    password_hash: str
    is_admin: bool
    is_probe: bool
    disabled_at: datetime | None
    created_at: datetime


def normalise(username: str) -> str:
    """Return the form in which a user name is stored and looked up."""
    return username.strip().casefold()


def add(
    conn: sa.Connection,
    *,
    username: str,
    display_name: str,
    password_hash: str,
    is_admin: bool = False,
    is_probe: bool = False,
) -> int:
    """Make an account and return its id.

    Raises:
        sqlalchemy.exc.IntegrityError: the name is taken.
    """
    statement = (
        sa.insert(users)
        .values(
            username=normalise(username),
            display_name=display_name,
            password_hash=password_hash,
            is_admin=is_admin,
            is_probe=is_probe,
        )
        .returning(users.c.id)
    )
    made: int = conn.execute(statement).scalar_one()
    return made


def get(conn: sa.Connection, user_id: int) -> User | None:
    """Return an account by id."""
    return _one(conn, users.c.id == user_id)


def find(conn: sa.Connection, username: str) -> User | None:
    """Return an account by its name, however it is capitalised."""
    return _one(conn, users.c.username == normalise(username))


def list_all(conn: sa.Connection) -> list[User]:
    """Return every account, in ascending id."""
    return [User(*row) for row in conn.execute(sa.select(*_COLUMNS).order_by(users.c.id))]


def count(conn: sa.Connection) -> int:
    """Return how many accounts there are."""
    return conn.execute(sa.select(sa.func.count()).select_from(users)).scalar_one()


def search(conn: sa.Connection, query: str, *, except_id: int, limit: int, probes: bool = False) -> list[User]:
    """Return people whose user or display name holds the text; never the disabled.

    Args:
        except_id: the person who asks.
        probes: look among the probe accounts instead of the people; neither sees the other.
    """
    pattern = "%" + query.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_") + "%"
    statement = (
        sa.select(*_COLUMNS)
        .where(
            users.c.id != except_id,
            users.c.disabled_at.is_(None),
            users.c.is_probe.is_(probes),
            sa.or_(users.c.username.ilike(pattern, escape="\\"), users.c.display_name.ilike(pattern, escape="\\")),
        )
        .order_by(users.c.display_name, users.c.id)
        .limit(limit)
    )
    return [User(*row) for row in conn.execute(statement)]


def find_active(conn: sa.Connection, ids: Sequence[int]) -> list[User]:
    """Return those of the accounts that exist and are not disabled."""
    statement = sa.select(*_COLUMNS).where(users.c.id.in_(ids), users.c.disabled_at.is_(None)).order_by(users.c.id)
    return [User(*row) for row in conn.execute(statement)]


def hold_password(conn: sa.Connection, user_id: int) -> str | None:
    """Return the hash of the password and keep it as it is until the transaction ends; None for the missing and disabled."""
    query = sa.select(users.c.password_hash).where(users.c.id == user_id, users.c.disabled_at.is_(None))
    found: str | None = conn.execute(query.with_for_update(read=True)).scalar_one_or_none()
    return found


def set_password(conn: sa.Connection, user_id: int, password_hash: str, *, replacing: str) -> bool:
    """Give somebody another password.

    Args:
        replacing: the hash it takes the place of.

    Returns:
        False when theirs is another one meanwhile, or the account is disabled.
    """
    statement = (
        sa.update(users)
        .where(users.c.id == user_id, users.c.password_hash == replacing, users.c.disabled_at.is_(None))
        .values(password_hash=password_hash)
    )
    return conn.execute(statement).rowcount == 1


def disable(conn: sa.Connection, user_id: int) -> None:
    """Close an account; its messages stay."""
    conn.execute(
        sa.update(users)
        .where(users.c.id == user_id, users.c.disabled_at.is_(None))
        .values(disabled_at=datetime.now(UTC))
    )


def probe_ids(conn: sa.Connection) -> list[int]:
    """Return the accounts made by probes."""
    return list(conn.execute(sa.select(users.c.id).where(users.c.is_probe.is_(True))).scalars())


def delete(conn: sa.Connection, ids: Iterable[int]) -> None:
    """Remove accounts with their sessions and messages (probes only; people's are disabled)."""
    gone = list(ids)
    conn.execute(sa.delete(messages).where(messages.c.sender_id.in_(gone)))
    conn.execute(sa.delete(users).where(users.c.id.in_(gone)))


_COLUMNS = (
    users.c.id,
    users.c.username,
    users.c.display_name,
    users.c.password_hash,
    users.c.is_admin,
    users.c.is_probe,
    users.c.disabled_at,
    users.c.created_at,
)


def _one(conn: sa.Connection, where: sa.ColumnElement[bool]) -> User | None:
    row = conn.execute(sa.select(*_COLUMNS).where(where)).one_or_none()
    return User(*row) if row else None
