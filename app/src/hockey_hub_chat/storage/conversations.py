"""Conversations and who is in them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from hockey_hub_chat.storage.messages import StoredMessage
from hockey_hub_chat.storage.tables import UTC, conversation_participants, conversations, messages, users

Kind = Literal["direct", "group"]


@dataclass(frozen=True, slots=True)
class Member:
    """Someone who is in a conversation now."""

    id: int
    username: str
    display_name: str


@dataclass(frozen=True, slots=True)
class Conversation:
    """A conversation as one of its members sees it."""

    id: int
    kind: Kind
    name: str | None
    last_seq: int
    read_seq: int
    created_by: int | None
    created_at: datetime
    members: tuple[Member, ...]
    last_message: StoredMessage | None


def direct_key(one: int, other: int) -> str:
    """Return what makes the direct conversation of two people unique."""
    return f"{min(one, other)}:{max(one, other)}"


def memberships(conn: sa.Connection, user_id: int) -> dict[int, int]:
    """Return conversation id → newest seq of every conversation the person is in now."""
    query = (
        sa.select(conversations.c.id, conversations.c.last_seq)
        .join(conversation_participants, conversation_participants.c.conversation_id == conversations.c.id)
        .where(conversation_participants.c.user_id == user_id, conversation_participants.c.left_at.is_(None))
    )
    return {row.id: row.last_seq for row in conn.execute(query)}


def memberships_of(conn: sa.Connection, user_ids: Iterable[int]) -> dict[int, dict[int, int]]:
    """Return user id → (conversation id → newest seq) of the conversations these people are in now."""
    table = conversation_participants
    query = (
        sa.select(table.c.user_id, conversations.c.id, conversations.c.last_seq)
        .join(conversations, table.c.conversation_id == conversations.c.id)
        .where(table.c.user_id.in_(list(user_ids)), table.c.left_at.is_(None))
    )
    found: dict[int, dict[int, int]] = {}
    for row in conn.execute(query):
        found.setdefault(row.user_id, {})[row.id] = row.last_seq
    return found


def rosters(conn: sa.Connection, conversation_ids: Iterable[int]) -> dict[int, dict[int, int]]:
    """Return conversation id → (user id → read seq) of the people who are in these conversations now."""
    table = conversation_participants
    query = sa.select(table.c.conversation_id, table.c.user_id, table.c.read_seq).where(
        table.c.conversation_id.in_(list(conversation_ids)), table.c.left_at.is_(None)
    )
    found: dict[int, dict[int, int]] = {}
    for row in conn.execute(query):
        found.setdefault(row.conversation_id, {})[row.user_id] = row.read_seq
    return found


def is_member(conn: sa.Connection, conversation_id: int, user_id: int) -> bool:
    """Whether the person is in the conversation now."""
    return conn.execute(sa.select(_membership(conversation_id, user_id).exists())).scalar_one()


def member_ids(conn: sa.Connection, conversation_id: int) -> list[int]:
    """Return the people in the conversation now, in ascending id."""
    table = conversation_participants
    query = (
        sa.select(table.c.user_id)
        .where(table.c.conversation_id == conversation_id, table.c.left_at.is_(None))
        .order_by(table.c.user_id)
    )
    return list(conn.execute(query).scalars())


def move_read(conn: sa.Connection, conversation_id: int, user_id: int, seq: int) -> int | None:
    """Move a read marker forward, never past the newest message.

    Returns:
        The new marker when it moved; None when it did not, or the person is not a member.
    """
    last_seq = conn.execute(
        sa.select(conversations.c.last_seq).where(conversations.c.id == conversation_id)
    ).scalar_one_or_none()
    if last_seq is None:
        return None
    table = conversation_participants
    target = min(seq, last_seq)
    statement = (
        sa.update(table)
        .where(
            table.c.conversation_id == conversation_id,
            table.c.user_id == user_id,
            table.c.left_at.is_(None),
            table.c.read_seq < target,
        )
        .values(read_seq=target)
        .returning(table.c.read_seq)
    )
    return conn.execute(statement).scalar_one_or_none()


def list_for(conn: sa.Connection, user_id: int) -> list[Conversation]:
    """Return the person's conversations, in ascending id."""
    return _load(conn, user_id, None)


def get(conn: sa.Connection, conversation_id: int, user_id: int) -> Conversation | None:
    """Return one conversation of the person, None when there is none such for them."""
    found = _load(conn, user_id, conversation_id)
    return found[0] if found else None


def find_direct(conn: sa.Connection, one: int, other: int) -> int | None:
    """Return the direct conversation of two people."""
    query = sa.select(conversations.c.id).where(conversations.c.direct_key == direct_key(one, other))
    return conn.execute(query).scalar_one_or_none()


def create_direct(conn: sa.Connection, creator_id: int, other_id: int) -> tuple[int, bool]:
    """Return (id of the direct conversation of two people, whether it was made now). Safe when both start it at once."""
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    made = conn.execute(
        insert(conversations)
        .values(kind="direct", direct_key=direct_key(creator_id, other_id), created_by=creator_id)
        .on_conflict_do_nothing(index_elements=[conversations.c.direct_key])
        .returning(conversations.c.id)
    ).scalar_one_or_none()
    if made is None:
        found = find_direct(conn, creator_id, other_id)
        if found is None:
            raise LookupError("a direct conversation vanished while it was opened")
        return found, False
    _insert_members(conn, made, [creator_id, other_id])
    return made, True


def create_group(conn: sa.Connection, creator_id: int, name: str | None, member_ids: Sequence[int]) -> int:
    """Make a group of the creator and the members given, and return its id."""
    made: int = conn.execute(
        sa.insert(conversations).values(kind="group", name=name, created_by=creator_id).returning(conversations.c.id)
    ).scalar_one()
    _insert_members(conn, made, {creator_id, *member_ids})
    return made


def lock(conn: sa.Connection, conversation_id: int) -> int | None:
    """Hold the conversation's row until the transaction ends, and return its ``last_seq``.

    A change of membership takes this first: so it lies before or after each message, never beside one.
    """
    query = (
        sa.select(conversations.c.last_seq).where(conversations.c.id == conversation_id).with_for_update(key_share=True)
    )
    return conn.execute(query).scalar_one_or_none()


def add_member(conn: sa.Connection, conversation_id: int, user_id: int, last_seq: int) -> bool:
    """Let a person in, or in again; what was said before counts as read.

    Returns:
        False when they were in already.
    """
    table = conversation_participants
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = (
        insert(table)
        .values(conversation_id=conversation_id, user_id=user_id, read_seq=last_seq)
        .on_conflict_do_update(
            index_elements=[table.c.conversation_id, table.c.user_id],
            set_={"left_at": None, "joined_at": datetime.now(UTC), "read_seq": last_seq},
            where=table.c.left_at.is_not(None),
        )
        .returning(table.c.user_id)
    )
    return conn.execute(statement).scalar_one_or_none() is not None


def remove_member(conn: sa.Connection, conversation_id: int, user_id: int) -> bool:
    """End a membership; the row stays.

    Returns:
        False when there was none.
    """
    table = conversation_participants
    statement = (
        sa.update(table)
        .where(table.c.conversation_id == conversation_id, table.c.user_id == user_id, table.c.left_at.is_(None))
        .values(left_at=datetime.now(UTC))
    )
    return conn.execute(statement).rowcount == 1


def delete(conn: sa.Connection, conversation_ids: Iterable[int]) -> None:
    """Remove conversations with all they hold (probes only; people's are kept)."""
    ids = sorted(set(conversation_ids))
    # Locked first: a send under way is waited for, and the next one finds no conversation.
    conn.execute(
        sa.select(conversations.c.id).where(conversations.c.id.in_(ids)).order_by(conversations.c.id).with_for_update()
    )
    conn.execute(sa.delete(messages).where(messages.c.conversation_id.in_(ids)))
    conn.execute(sa.delete(conversations).where(conversations.c.id.in_(ids)))


def _membership(conversation_id: int, user_id: int) -> sa.Select[tuple[int]]:
    table = conversation_participants
    return sa.select(table.c.user_id).where(
        table.c.conversation_id == conversation_id, table.c.user_id == user_id, table.c.left_at.is_(None)
    )


def _insert_members(conn: sa.Connection, conversation_id: int, user_ids: Iterable[int]) -> None:
    rows = [{"conversation_id": conversation_id, "user_id": key} for key in sorted(set(user_ids))]
    conn.execute(sa.insert(conversation_participants), rows)


def _load(conn: sa.Connection, user_id: int, conversation_id: int | None) -> list[Conversation]:
    mine = conversation_participants.alias("mine")
    query = (
        sa.select(conversations, mine.c.read_seq)
        .join(mine, mine.c.conversation_id == conversations.c.id)
        .where(mine.c.user_id == user_id, mine.c.left_at.is_(None))
        .order_by(conversations.c.id)
    )
    if conversation_id is not None:
        query = query.where(conversations.c.id == conversation_id)
    rows = conn.execute(query).all()
    members = _load_members(conn, user_id, conversation_id)
    newest = _load_newest(conn, user_id, conversation_id)
    return [
        Conversation(
            id=row.id,
            kind=row.kind,
            name=row.name,
            last_seq=row.last_seq,
            read_seq=row.read_seq,
            created_by=row.created_by,
            created_at=row.created_at,
            members=tuple(members.get(row.id, ())),
            last_message=newest.get(row.id),
        )
        for row in rows
    ]


def _load_members(conn: sa.Connection, user_id: int, conversation_id: int | None) -> dict[int, list[Member]]:
    mine, theirs = conversation_participants.alias("mine"), conversation_participants.alias("theirs")
    query = (
        sa.select(theirs.c.conversation_id, users.c.id, users.c.username, users.c.display_name)
        .join(mine, mine.c.conversation_id == theirs.c.conversation_id)
        .join(users, users.c.id == theirs.c.user_id)
        .where(mine.c.user_id == user_id, mine.c.left_at.is_(None), theirs.c.left_at.is_(None))
        .order_by(theirs.c.conversation_id, users.c.id)
    )
    if conversation_id is not None:
        query = query.where(theirs.c.conversation_id == conversation_id)
    found: dict[int, list[Member]] = {}
    for row in conn.execute(query):
        found.setdefault(row.conversation_id, []).append(Member(row.id, row.username, row.display_name))
    return found


def _load_newest(conn: sa.Connection, user_id: int, conversation_id: int | None) -> dict[int, StoredMessage]:
    mine = conversation_participants.alias("mine")
    query = (
        sa.select(
            messages.c.conversation_id,
            messages.c.seq,
            messages.c.sender_id,
            messages.c.client_id,
            messages.c.body,
            messages.c.created_at,
        )
        .join(
            conversations,
            sa.and_(conversations.c.id == messages.c.conversation_id, conversations.c.last_seq == messages.c.seq),
        )
        .join(mine, mine.c.conversation_id == conversations.c.id)
        .where(mine.c.user_id == user_id, mine.c.left_at.is_(None))
    )
    if conversation_id is not None:
        query = query.where(conversations.c.id == conversation_id)
    return {row.conversation_id: StoredMessage(*row) for row in conn.execute(query)}
