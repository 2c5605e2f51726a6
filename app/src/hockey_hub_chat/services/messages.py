"""What may be done with messages, for both doors: send, read history, move the read marker, type.

Rules that live here:

- Being a member is decided by the write itself, under the conversation's lock (``storage.messages.append_batch``), so a
  removal and a send have an order, and an unknown conversation and a foreign one answer alike.
- How much one person may send is decided by ``services.admission``, for many messages at once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from hockey_hub_chat.errors import (
    ChatError,
    NotAMemberError,
    TooLargeError,
    ValidationError,
)
from hockey_hub_chat.events import MAX_BODY_CHARS
from hockey_hub_chat.realtime.bus import ReadPositionMoved
from hockey_hub_chat.storage import conversations, messages
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage

if TYPE_CHECKING:
    from hockey_hub_chat.services.auth import Principal
    from hockey_hub_chat.services.context import AppContext


def send(ctx: AppContext, principal: Principal, conversation_id: int, client_id: UUID, body: str) -> StoredMessage:
    """Store a message and wait for its commit; the first result (``is_new=False``) when it was sent before.

    Raises:
        ChatError: see ``send_nowait``.
    """
    _check_body(body)
    return ctx.writer.submit(NewMessage(conversation_id, principal.user_id, client_id, body))


def send_nowait(
    ctx: AppContext,
    principal: Principal,
    conversation_id: int,
    client_id: UUID,
    body: str,
    answer: Callable[[StoredMessage | ChatError], None],
) -> None:
    """Hand a message to the writer; ``answer`` is called once, later, with what became of it. Never waits.

    Calls made one after the other commit in that order.

    Args:
        answer: must not wait. Receives the stored message, or why not: RateLimitedError, NotAMemberError, ConflictError,
            UnavailableError.

    Raises:
        ValidationError: the text is empty or cannot be stored.
        TooLargeError: it is too long.
        UnavailableError: too many messages are waiting, or the worker is leaving.
    """
    _check_body(body)
    ctx.writer.submit_nowait(NewMessage(conversation_id, principal.user_id, client_id, body), answer)


def history(
    ctx: AppContext,
    principal: Principal,
    conversation_id: int,
    *,
    after_seq: int | None = None,
    before_seq: int | None = None,
    limit: int = 50,
) -> list[StoredMessage]:
    """Return a page of a conversation in ascending seq (see ``storage.messages.page``).

    Raises:
        NotAMemberError: not a member, or no such conversation.
        UnavailableError: the database is away.
    """

    with reading(ctx.engine) as conn:
        if not conversations.is_member(conn, conversation_id, principal.user_id):
            raise NotAMemberError("You are not a member of this conversation.")
        page_size = max(1, min(limit, messages.MAX_PAGE))
        return messages.page(conn, conversation_id, after_seq=after_seq, before_seq=before_seq, limit=page_size)


def mark_read(ctx: AppContext, principal: Principal, conversation_id: int, seq: int) -> int | None:
    """Move the person's read marker forward to ``seq`` and tell the members.

    Returns:
        The marker when it moved, None when it stood there already.

    Raises:
        NotAMemberError: not a member, or no such conversation.
        UnavailableError: the database is away.
    """

    with writing(ctx.engine) as conn:
        moved = conversations.move_read(conn, conversation_id, principal.user_id, seq)
        if moved is None and not conversations.is_member(conn, conversation_id, principal.user_id):
            raise NotAMemberError("You are not a member of this conversation.")
    if moved is not None:
        ctx.bus.publish([ReadPositionMoved(conversation_id, principal.user_id, moved)])
    return moved


def _check_body(body: str) -> None:
    if not body:
        raise ValidationError("The message is empty.", {"fields": {"body": "is empty"}})
    if len(body) > MAX_BODY_CHARS:
        raise TooLargeError("The message is too long.", {"field": "body", "max": MAX_BODY_CHARS})
    if not messages.is_storable(body):
        raise messages.not_storable()
