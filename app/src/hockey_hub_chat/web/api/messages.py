"""History, and sending without a socket."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, make_response

from hockey_hub_chat.services import messages
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.schemas import Message, Messages, NewMessage, PageQuery, Read
from hockey_hub_chat.web.security import context, principal

blueprint = APIBlueprint("messages", __name__, url_prefix="/api/conversations", tag="Messages")


@blueprint.get("/<id:conversation_id>/messages")
@blueprint.input(PageQuery, location="query", arg_name="wanted")
@blueprint.output(Messages)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 403, 422))
def history(conversation_id: int, wanted: PageQuery) -> Messages:
    """A page of history in ascending seq; without a bound the newest page."""
    found = messages.history(
        context(),
        principal(),
        conversation_id,
        after_seq=wanted.after_seq,
        before_seq=wanted.before_seq,
        limit=wanted.limit,
    )
    return Messages(messages=[Message.of(one) for one in found])


@blueprint.post("/<id:conversation_id>/messages")
@blueprint.input(NewMessage, arg_name="wanted")
@blueprint.output(Message, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(200, 400, 401, 403, 409, 413, 422))
def send(conversation_id: int, wanted: NewMessage) -> tuple[Message, int]:
    """Send a message; 200 with the first result when it was sent before."""
    stored = messages.send(context(), principal(), conversation_id, wanted.client_id, wanted.body)
    return Message.of(stored), 201 if stored.is_new else 200


@blueprint.put("/<id:conversation_id>/read")
@blueprint.input(Read, arg_name="wanted")
@blueprint.doc(
    security=describe.LOGGED_IN,
    responses=describe.answers(204, 400, 401, 403, 413, 422),
)
def read(conversation_id: int, wanted: Read) -> Response:
    """Everything up to seq has been read; never moves backwards."""
    messages.mark_read(context(), principal(), conversation_id, wanted.seq)
    return make_response("", 204)
