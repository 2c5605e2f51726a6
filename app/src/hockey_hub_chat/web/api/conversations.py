"""Conversations and their members."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, make_response

from hockey_hub_chat.errors import ValidationError
from hockey_hub_chat.services import conversations
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.schemas import Conversation, Conversations, NewConversation, NewMember
from hockey_hub_chat.web.security import context, principal

blueprint = APIBlueprint("conversations", __name__, url_prefix="/api/conversations", tag="Conversations")


@blueprint.get("")
@blueprint.output(Conversations)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401))
def list_mine() -> Conversations:
    """The conversations one is in."""
    mine = conversations.list_mine(context(), principal())
    return Conversations(conversations=[Conversation.of(one) for one in mine])


@blueprint.post("")
@blueprint.input(NewConversation, arg_name="wanted")
@blueprint.output(Conversation, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(200, 400, 401, 403, 404, 413, 422))
def create(wanted: NewConversation) -> tuple[Conversation, int]:
    """Open a conversation; a direct one that exists already is answered with 200."""
    ctx, who = context(), principal()
    if wanted.kind == "group":
        return Conversation.of(conversations.open_group(ctx, who, wanted.member_ids, wanted.name)), 201
    if wanted.name is not None:
        raise ValidationError("A direct conversation has no name.", {"fields": {"name": "only groups have one"}})
    opened, is_new = conversations.open_direct(ctx, who, wanted.member_ids)
    return Conversation.of(opened), 201 if is_new else 200


@blueprint.get("/<id:conversation_id>")
@blueprint.output(Conversation)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 403))
def get(conversation_id: int) -> Conversation:
    """One conversation."""
    return Conversation.of(conversations.get(context(), principal(), conversation_id))


@blueprint.post("/<id:conversation_id>/members")
@blueprint.input(NewMember, arg_name="wanted")
@blueprint.output(Conversation, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(200, 400, 401, 403, 404, 409, 413, 422))
def invite(conversation_id: int, wanted: NewMember) -> tuple[Conversation, int]:
    """Let somebody into a group; 200 when they are in already."""
    conversation, joined = conversations.invite(context(), principal(), conversation_id, wanted.user_id)
    return Conversation.of(conversation), 201 if joined else 200


@blueprint.delete("/<id:conversation_id>/members/<id:user_id>")
@blueprint.doc(
    security=describe.LOGGED_IN,
    responses=describe.answers(204, 401, 403, 404),
)
def remove(conversation_id: int, user_id: int) -> Response:
    """Remove somebody from a group, or leave it oneself."""
    conversations.remove(context(), principal(), conversation_id, user_id)
    return make_response("", 204)
