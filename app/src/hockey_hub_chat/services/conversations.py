"""Opening conversations, and who comes and goes.

Rules that live here:

- Anyone may write to any active person; probes only to probes.
- A direct conversation has exactly two people, exists once for each pair, and nobody joins or leaves it.
- Any member of a group may invite; its creator or an administrator may remove others; everyone may leave.
- An unknown conversation and one of others answer alike.
"""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from hockey_hub_chat.errors import (
    ConflictError,
    NotAMemberError,
    NotFoundError,
    PermissionDeniedError,
    ValidationError,
)
from hockey_hub_chat.realtime.bus import MembershipChanged
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import conversations, users
from hockey_hub_chat.storage.conversations import Conversation
from hockey_hub_chat.storage.engine import reading, writing

log = structlog.get_logger(__name__)

MAX_MEMBERS = 500
MAX_NAME = 100


def list_mine(ctx: AppContext, principal: Principal) -> list[Conversation]:
    """Return the person's conversations."""
    with reading(ctx.engine) as conn:
        return conversations.list_for(conn, principal.user_id)


def get(ctx: AppContext, principal: Principal, conversation_id: int) -> Conversation:
    """Return one conversation.

    Raises:
        NotAMemberError: unknown, or of others.
    """
    with reading(ctx.engine) as conn:
        return _get(conn, principal, conversation_id)


def open_direct(ctx: AppContext, principal: Principal, member_ids: Sequence[int]) -> tuple[Conversation, bool]:
    """Return the direct conversation with somebody, and whether it was made now.

    Args:
        member_ids: the other; naming oneself as well does no harm.

    Raises:
        ValidationError: not exactly one other.
        NotFoundError: there is no such person.
    """
    others = set(member_ids) - {principal.user_id}
    if len(others) != 1:
        raise ValidationError(
            "A direct conversation is with exactly one other person.", {"fields": {"member_ids": "must name one other"}}
        )
    (other,) = others
    with writing(ctx.engine) as conn:
        existing = conversations.find_direct(conn, principal.user_id, other)
        if existing is not None:
            return _get(conn, principal, existing), False
        _check_people(conn, principal, [other])
        made, is_new = conversations.create_direct(conn, principal.user_id, other)
        conversation = _get(conn, principal, made)
    if is_new:
        log.info("conversation_created", conversation_id=made, kind="direct")
        _tell(ctx, made, [principal.user_id, other])
    return conversation, is_new


def open_group(ctx: AppContext, principal: Principal, member_ids: Sequence[int], name: str | None) -> Conversation:
    """Make a group of the person and others.

    Raises:
        ValidationError: too many members.
        NotFoundError: one of them is not there.
    """
    others = sorted(set(member_ids) - {principal.user_id})
    if len(others) >= MAX_MEMBERS:
        raise ValidationError(
            f"A group has at most {MAX_MEMBERS} members.", {"fields": {"member_ids": f"at most {MAX_MEMBERS - 1}"}}
        )
    with writing(ctx.engine) as conn:
        _check_people(conn, principal, others)
        made = conversations.create_group(conn, principal.user_id, name, others)
        conversation = _get(conn, principal, made)
    log.info("conversation_created", conversation_id=made, kind="group")
    _tell(ctx, made, [principal.user_id, *others])
    return conversation


def invite(ctx: AppContext, principal: Principal, conversation_id: int, user_id: int) -> tuple[Conversation, bool]:
    """Let somebody into a group; return the group, and False when they were in already.

    Raises:
        NotAMemberError: unknown, or of others.
        PermissionDeniedError: a direct conversation stays between two.
        NotFoundError: there is no such person.
        ConflictError: the group is full.
    """
    with writing(ctx.engine) as conn:
        last_seq = conversations.lock(conn, conversation_id)
        before = _get(conn, principal, conversation_id)
        if last_seq is None or before.kind != "group":
            raise PermissionDeniedError("A direct conversation stays between two; open a group instead.")
        _check_people(conn, principal, [user_id])
        present = {member.id for member in before.members}
        if len(present) >= MAX_MEMBERS and user_id not in present:
            raise ConflictError("The group is full.", {"max": MAX_MEMBERS})
        joined = conversations.add_member(conn, conversation_id, user_id, last_seq)
        after = _get(conn, principal, conversation_id)
    if joined:
        log.info("member_joined", conversation_id=conversation_id, user_id=user_id)
        _tell(ctx, conversation_id, [user_id])
    return after, joined


def remove(ctx: AppContext, principal: Principal, conversation_id: int, user_id: int) -> None:
    """Remove somebody from a group, or leave it oneself.

    Raises:
        NotAMemberError: unknown, or of others.
        PermissionDeniedError: a direct conversation, or not the creator.
        NotFoundError: they are not in it.
    """
    with writing(ctx.engine) as conn:
        conversations.lock(conn, conversation_id)
        conversation = _get(conn, principal, conversation_id)
        if conversation.kind != "group":
            raise PermissionDeniedError("Nobody leaves a direct conversation.")
        if user_id != principal.user_id and conversation.created_by != principal.user_id and not principal.is_admin:
            raise PermissionDeniedError("Only who opened the group, or an administrator, removes others.")
        if not conversations.remove_member(conn, conversation_id, user_id):
            raise NotFoundError("This person is not in the group.")
    log.info("member_left", conversation_id=conversation_id, user_id=user_id)
    ctx.bus.publish([MembershipChanged(conversation_id, user_id, "left")])


def _get(conn: sa.Connection, principal: Principal, conversation_id: int) -> Conversation:
    found = conversations.get(conn, conversation_id, principal.user_id)
    if found is None:
        raise NotAMemberError("You are not a member of this conversation.")
    return found


def _check_people(conn: sa.Connection, principal: Principal, ids: Sequence[int]) -> None:
    """Let only those through who exist, are active, and are people as the asking one is (or probes as they are)."""
    found = {user.id: user.is_probe for user in users.find_active(conn, [principal.user_id, *ids])}
    is_probe = found.get(principal.user_id)
    missing = sorted(key for key in set(ids) if found.get(key) is not is_probe)
    if is_probe is None or missing:
        raise NotFoundError("There is no such person.", {"user_ids": missing})


def _tell(ctx: AppContext, conversation_id: int, user_ids: Sequence[int]) -> None:
    ctx.bus.publish([MembershipChanged(conversation_id, user_id, "joined") for user_id in sorted(set(user_ids))])
