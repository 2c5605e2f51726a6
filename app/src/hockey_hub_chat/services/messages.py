"""What may be done with messages, for both doors: send, read history, move the read marker, type.

Rules that live here:

- Being a member is decided by the write itself, under the conversation's lock (``storage.messages.append_batch``), so a
  removal and a send have an order, and an unknown conversation and a foreign one answer alike.
- ``MESSAGE_RATE_LIMIT`` counts *new* messages of one person per minute. A retry of something already stored is never
  refused: its token is given back (as it is when the database was away), and where none is left the first result is looked
  up instead. So a client that comes back with fifty unacknowledged messages is not locked out by its own repetitions, and
  gains nothing by them either.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import UUID

from hockey_hub_chat import metrics
from hockey_hub_chat.errors import (
    ChatError,
    NotAMemberError,
    RateLimitedError,
    TooLargeError,
    UnavailableError,
    ValidationError,
)
from hockey_hub_chat.events import MAX_BODY_CHARS
from hockey_hub_chat.realtime.bus import ReadPositionMoved
from hockey_hub_chat.realtime.limits import MemoryLimits
from hockey_hub_chat.storage import conversations, messages
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage

if TYPE_CHECKING:
    from hockey_hub_chat.services.auth import Principal
    from hockey_hub_chat.services.context import AppContext

#: Past its limit a person may still ask so many times a minute whether a repeated message is stored already.
RETRY_LOOKUPS_PER_MINUTE = 300
_WINDOW_MS = 60_000

_retry_lookups = MemoryLimits()


def send(ctx: AppContext, principal: Principal, conversation_id: int, client_id: UUID, body: str) -> StoredMessage:
    """Store a message and wait for its commit; the first result (``is_new=False``) when it was sent before.

    Raises:
        ChatError: see ``send_nowait``.
    """
    started = time.perf_counter()
    _check_body(body)
    known = _charge(ctx, principal.user_id, conversation_id, client_id, body)
    if known is None:
        try:
            known = ctx.writer.submit(NewMessage(conversation_id, principal.user_id, client_id, body))
        except ChatError as error:
            _account(ctx, principal.user_id, error)
            raise
        _account(ctx, principal.user_id, known)
    metrics.ACKS.inc()
    metrics.MESSAGE_SECONDS.observe(time.perf_counter() - started)
    return known


def send_nowait(
    ctx: AppContext,
    principal: Principal,
    conversation_id: int,
    client_id: UUID,
    body: str,
    answer: Callable[[StoredMessage | ChatError], None],
) -> None:
    """Hand a message to the writer; ``answer`` is called once, later, with what became of it.

    Calls made one after the other commit in that order.

    Args:
        answer: must not wait. Receives the stored message, or an error of the commit: NotAMemberError, ConflictError,
            UnavailableError.

    Raises:
        ValidationError: the text is empty or cannot be stored.
        TooLargeError: it is too long.
        RateLimitedError: too many new messages.
        UnavailableError: too many messages are waiting, or the worker is leaving.
    """
    started = time.perf_counter()
    _check_body(body)
    known = _charge(ctx, principal.user_id, conversation_id, client_id, body)

    def answered(result: StoredMessage | ChatError) -> None:
        _account(ctx, principal.user_id, result)
        if not isinstance(result, ChatError):
            metrics.ACKS.inc()
            metrics.MESSAGE_SECONDS.observe(time.perf_counter() - started)
        answer(result)

    if known is not None:
        metrics.ACKS.inc()
        answer(known)
        return
    try:
        ctx.writer.submit_nowait(NewMessage(conversation_id, principal.user_id, client_id, body), answered)
    except UnavailableError as error:
        _account(ctx, principal.user_id, error)
        raise


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
        problem = "holds characters that cannot be stored"
        raise ValidationError("The message holds characters that cannot be stored.", {"fields": {"body": problem}})


def _charge(ctx: AppContext, user_id: int, conversation_id: int, client_id: UUID, body: str) -> StoredMessage | None:
    """Take a token; where none is left return the first result, if this is a retry.

    Raises:
        RateLimitedError: none is left and it is not.
        ConflictError: the client_id names another message.
    """
    try:
        ctx.limits.hit("message", str(user_id), limit=ctx.settings.message_rate_limit, window_ms=_WINDOW_MS)
    except RateLimitedError as refused:
        try:
            _retry_lookups.hit("message_retry", str(user_id), limit=RETRY_LOOKUPS_PER_MINUTE, window_ms=_WINDOW_MS)
        except RateLimitedError:
            raise refused from None

        with reading(ctx.engine) as conn:
            (first,) = messages.find_retried(conn, [NewMessage(conversation_id, user_id, client_id, body)])
        if first is None:
            raise
        if isinstance(first, ChatError):
            raise first from None
        return first
    return None


def _account(ctx: AppContext, user_id: int, result: StoredMessage | ChatError) -> None:
    """Give the token back for what made no message: a repetition, or a database that was away."""
    if isinstance(result, UnavailableError) or (isinstance(result, StoredMessage) and not result.is_new):
        ctx.limits.give_back("message", str(user_id), limit=ctx.settings.message_rate_limit, window_ms=_WINDOW_MS)
