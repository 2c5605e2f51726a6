"""Messages in the database: what one is, how a batch is stored, the history.

``append_batch`` is the write path on SQLite and the plain statement of its rules; ``appender`` is the same for PostgreSQL in one
round trip. Nothing else assigns ``seq``.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql

from hockey_hub_chat.errors import ChatError, ConflictError, NotAMemberError, ValidationError
from hockey_hub_chat.storage.tables import UTC, UtcDateTime, conversation_participants, conversations, messages

#: Rows in one page of history.
MAX_PAGE = 200


class NewMessage(NamedTuple):
    """A message that wants to be stored."""

    conversation_id: int
    sender_id: int
    client_id: UUID
    body: str


class StoredMessage(NamedTuple):
    """A stored message; ``is_new`` is False when it answers a retry."""

    conversation_id: int
    seq: int
    sender_id: int
    client_id: UUID
    body: str
    created_at: datetime
    is_new: bool = True


_COLUMNS = (
    messages.c.conversation_id,
    messages.c.seq,
    messages.c.sender_id,
    messages.c.client_id,
    messages.c.body,
    messages.c.created_at,
)


def append_batch(conn: sa.Connection, batch: Sequence[NewMessage]) -> list[StoredMessage | ChatError]:
    """Store messages in the order given, in the caller's transaction, which the caller commits.

    Locks the conversations in ascending id, so that batches of several nodes never wait for each other in a ring. Result ``i``
    answers ``batch[i]``; one bad message fails alone:

    - a retry (same sender and ``client_id``) is the first result with ``is_new=False``, also inside one batch and also when the
      sender has left since; ``ConflictError`` when it names another conversation or body;
    - ``NotAMemberError`` for an unknown conversation as for one of others;
    - ``ValidationError`` for text that PostgreSQL cannot hold.

    Raises:
        sqlalchemy.exc.IntegrityError: the same retry was stored by another node in another conversation at this moment; roll
            back and do the whole batch again.
    """
    last_seqs = _lock_conversations(conn, {new.conversation_id for new in batch})
    first_results = _find_stored(conn, batch)
    members, now = _find_members(conn, batch)
    results: list[StoredMessage | ChatError] = []
    inserts: list[dict[str, Any]] = []
    moved: set[int] = set()
    for new in batch:
        key = (new.sender_id, new.client_id)
        first = first_results.get(key)
        if not is_storable(new.body):
            results.append(not_storable())
        elif first is not None:
            results.append(answer_retry(new, first))
        elif new.conversation_id not in last_seqs or (new.conversation_id, new.sender_id) not in members:
            results.append(not_a_member())
        else:
            last_seqs[new.conversation_id] = seq = last_seqs[new.conversation_id] + 1
            stored = StoredMessage(new.conversation_id, seq, new.sender_id, new.client_id, new.body, now)
            first_results[key] = stored
            moved.add(new.conversation_id)
            inserts.append(
                {
                    "conversation_id": stored.conversation_id,
                    "seq": seq,
                    "sender_id": stored.sender_id,
                    "client_id": stored.client_id,
                    "body": stored.body,
                    "created_at": now,
                }
            )
            results.append(stored)
    if inserts:
        conn.execute(sa.insert(messages), inserts)
        conn.execute(
            sa.update(conversations)
            .where(conversations.c.id == sa.bindparam("moved_id"))
            .values(last_seq=sa.bindparam("new_last_seq")),
            [{"moved_id": key, "new_last_seq": last_seqs[key]} for key in sorted(moved)],
        )
    return results


def page(
    conn: sa.Connection, conversation_id: int, *, after_seq: int | None, before_seq: int | None, limit: int
) -> list[StoredMessage]:
    """Return at most ``limit`` messages in ascending ``seq``.

    Args:
        after_seq: the oldest ones past this seq; None together with ``before_seq=None``: the newest ones.
        before_seq: the newest ones below this seq; with ``after_seq`` an upper bound only.
    """
    query = sa.select(*_COLUMNS).where(messages.c.conversation_id == conversation_id).limit(limit)
    if before_seq is not None:
        query = query.where(messages.c.seq < before_seq)
    if after_seq is not None:
        rows = conn.execute(query.where(messages.c.seq > after_seq).order_by(messages.c.seq)).all()
    else:
        rows = conn.execute(query.order_by(messages.c.seq.desc())).all()[::-1]
    return [StoredMessage(*row) for row in rows]


def last_seqs(conn: sa.Connection, conversation_ids: Iterable[int]) -> dict[int, int]:
    """Return the newest seq of each of these conversations that exists."""
    query = sa.select(conversations.c.id, conversations.c.last_seq).where(
        conversations.c.id.in_(list(conversation_ids))
    )
    return {row.id: row.last_seq for row in conn.execute(query)}


def find_retried(conn: sa.Connection, batch: Sequence[NewMessage]) -> list[StoredMessage | ChatError | None]:
    """Return for each message what it was stored as, with ``is_new=False``; None when it was not; ConflictError when its
    ``client_id`` names another."""
    stored = _find_stored(conn, batch)
    firsts = [stored.get((new.sender_id, new.client_id)) for new in batch]
    return [first and answer_retry(new, first) for new, first in zip(batch, firsts, strict=True)]


def is_storable(text: str) -> bool:
    """Whether PostgreSQL can hold the text: no NUL, no lone surrogate."""
    if "\x00" in text:
        return False
    if text.isascii():  # known to the string: nothing is looked through
        return True
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def conflict(new: NewMessage) -> ConflictError:
    """Return the error for a ``client_id`` that is another message's."""
    return ConflictError("This client_id already names another message.", {"client_id": str(new.client_id)})


def not_a_member() -> NotAMemberError:
    """Return the error for a conversation that does not exist for the sender."""
    return NotAMemberError("You are not a member of this conversation.")


def not_storable() -> ValidationError:
    """Return the error for text that PostgreSQL cannot hold."""
    problem = "holds characters that cannot be stored"
    return ValidationError("The message holds characters that cannot be stored.", {"fields": {"body": problem}})


def _lock_conversations(conn: sa.Connection, ids: set[int]) -> dict[int, int]:
    # FOR NO KEY UPDATE: writers take turns, while inserts that merely refer to the row (memberships) are not held up.
    query = (
        sa.select(conversations.c.id, conversations.c.last_seq)
        .where(conversations.c.id.in_(sorted(ids)))
        .order_by(conversations.c.id)
        .with_for_update(key_share=True)
    )
    return {row.id: row.last_seq for row in conn.execute(query)}


def _find_stored(conn: sa.Connection, batch: Sequence[NewMessage]) -> dict[tuple[int, UUID], StoredMessage]:
    keys = sorted({(new.sender_id, new.client_id) for new in batch})
    query = sa.select(*_COLUMNS)
    if conn.dialect.name == "postgresql":
        # One statement text for batches of every size: planned once, an index probe a key.
        wanted = (
            sa.func.unnest(
                sa.bindparam("senders", [key[0] for key in keys], postgresql.ARRAY(sa.BigInteger)),
                sa.bindparam("clients", [key[1] for key in keys], postgresql.ARRAY(sa.Uuid)),
            )
            .table_valued("sender_id", "client_id")
            .render_derived()
        )
        query = query.join(
            wanted, sa.and_(messages.c.sender_id == wanted.c.sender_id, messages.c.client_id == wanted.c.client_id)
        )
    else:
        query = query.where(sa.tuple_(messages.c.sender_id, messages.c.client_id).in_(keys))
    return {(row.sender_id, row.client_id): StoredMessage(*row, is_new=False) for row in conn.execute(query)}


def _find_members(conn: sa.Connection, batch: Sequence[NewMessage]) -> tuple[set[tuple[int, int]], datetime]:
    """Return the memberships a batch may rely on, and the time its messages get.

    The time is the database's own, read after the locks: it never runs backwards along ``seq``, whichever node writes.
    """
    now = (
        sa.func.clock_timestamp(type_=UtcDateTime())
        if conn.dialect.name == "postgresql"
        else sa.literal(datetime.now(UTC), UtcDateTime())
    )
    table = conversation_participants
    query = sa.select(table.c.conversation_id, table.c.user_id, now.label("now")).where(
        table.c.conversation_id.in_(sorted({new.conversation_id for new in batch})),
        table.c.user_id.in_(sorted({new.sender_id for new in batch})),
        table.c.left_at.is_(None),
    )
    rows = conn.execute(query).all()
    if not rows:
        return set(), datetime.now(UTC)  # nothing will be stored
    return {(row.conversation_id, row.user_id) for row in rows}, max(row.now for row in rows)


def answer_retry(new: NewMessage, first: StoredMessage) -> StoredMessage | ChatError:
    """Return the first result as the answer to a retry, or ConflictError when it is another message."""
    if (new.conversation_id, new.body) != (first.conversation_id, first.body):
        return conflict(new)
    return first._replace(is_new=False)
