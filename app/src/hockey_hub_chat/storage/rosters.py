"""Who is where, asked for many at once: what the realtime hub compares itself with."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from hockey_hub_chat.storage.tables import conversation_participants, conversations


def memberships_of(conn: sa.Connection, user_ids: Iterable[int]) -> dict[int, dict[int, int]]:
    """Return {user_id: {conversation_id: last_seq}} of current memberships; people in none are missing."""
    table = conversation_participants
    query = (
        sa.select(table.c.user_id, conversations.c.id, conversations.c.last_seq)
        .join(conversations, conversations.c.id == table.c.conversation_id)
        .where(table.c.user_id.in_(list(user_ids)), table.c.left_at.is_(None))
    )
    found: dict[int, dict[int, int]] = {}
    for row in conn.execute(query):
        found.setdefault(row.user_id, {})[row.id] = row.last_seq
    return found


def read_seqs_of(conn: sa.Connection, conversation_ids: Iterable[int]) -> dict[int, dict[int, int]]:
    """Return {conversation_id: {user_id: read_seq}} of current members."""
    table = conversation_participants
    query = sa.select(table.c.conversation_id, table.c.user_id, table.c.read_seq).where(
        table.c.conversation_id.in_(list(conversation_ids)), table.c.left_at.is_(None)
    )
    found: dict[int, dict[int, int]] = {}
    for row in conn.execute(query):
        found.setdefault(row.conversation_id, {})[row.user_id] = row.read_seq
    return found
