"""What travels over ``/ws``: every frame a client may send and every frame it may receive, typed.

This module is the contract (``docs/protocol.md`` explains it; ``frames_schema()`` exports it as JSON Schema and is served
at ``/api/frames.schema.json``). It knows no sockets, no database and no HTTP. Every frame is one JSON object in one text
message with a ``type``. Ids are integers; times are RFC 3339 in UTC; ``client_id`` is a UUID chosen by the client.
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal
from uuid import UUID

import orjson
from pydantic import BaseModel, ConfigDict, Field, StringConstraints, TypeAdapter

PROTOCOL_VERSION = 1

#: Characters in one message body. Long enough for a training plan, short enough to fan out.
MAX_BODY_CHARS = 8_000
#: Bytes in one frame from a client. 4 bytes a character, JSON escapes and the envelope fit.
MAX_FRAME_BYTES = 65_536
#: Cursors in one resume frame.
MAX_CURSORS = 5_000
#: Missed messages sent over the socket for one conversation; past that the client pages the history (``gap``).
RESUME_MAX_MESSAGES = 500

# Close codes. 1000-2999 are RFC 6455's; 4000-4999 are ours.
CLOSE_GOING_AWAY = 1001
CLOSE_PROTOCOL_ERROR = 1002
CLOSE_UNSUPPORTED = 1003
CLOSE_BAD_UTF8 = 1007
CLOSE_POLICY = 1008
CLOSE_TOO_BIG = 1009
CLOSE_INTERNAL = 1011
CLOSE_RESTART = 1012
CLOSE_TRY_LATER = 1013
CLOSE_NOT_AUTHENTICATED = 4401
CLOSE_SESSION_ENDED = 4403
CLOSE_SLOW_CONSUMER = 4408
CLOSE_TOO_MANY_ERRORS = 4429

Id = Annotated[int, Field(strict=True, gt=0, lt=2**53)]
Seq = Annotated[int, Field(strict=True, ge=0, lt=2**53)]
Body = Annotated[str, StringConstraints(strict=True, min_length=1, max_length=MAX_BODY_CHARS)]


class _ClientFrame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class _ServerFrame(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


# --- from the client -------------------------------------------------------------------------------------------------


class SendFrame(_ClientFrame):
    """Post a message. Answered by ``ack`` or ``error`` with the same ``client_id``; safe to repeat with the same one."""

    type: Literal["send"]
    client_id: UUID
    conversation_id: Id
    body: Body


class ResumeFrame(_ClientFrame):
    """First frame of a connection: the newest ``seq`` the client holds of each conversation (missing: only from now on)."""

    type: Literal["resume"]
    cursors: Annotated[
        dict[Annotated[str, StringConstraints(pattern=r"^[1-9][0-9]{0,15}$")], Seq], Field(max_length=MAX_CURSORS)
    ]


class ReadFrame(_ClientFrame):
    """Everything up to ``seq`` has been read. Never moves backwards. Not answered; members receive ``read_moved``."""

    type: Literal["read"]
    conversation_id: Id
    seq: Seq


class TypingFrame(_ClientFrame):
    """The person is typing. Lossy; not answered."""

    type: Literal["typing"]
    conversation_id: Id


class PingFrame(_ClientFrame):
    """Are you there? Answered by ``pong`` with the same ``nonce`` (for clients that cannot send WebSocket pings)."""

    type: Literal["ping"]
    nonce: Annotated[str, StringConstraints(max_length=64)] = ""


ClientFrame = Annotated[SendFrame | ResumeFrame | ReadFrame | TypingFrame | PingFrame, Field(discriminator="type")]
client_frame_adapter: TypeAdapter[Any] = TypeAdapter(ClientFrame)


# --- to the client ---------------------------------------------------------------------------------------------------


class Hello(_ServerFrame):
    """First frame of every connection."""

    type: Literal["hello"] = "hello"
    protocol: int = PROTOCOL_VERSION
    user_id: Id
    server_time: datetime
    heartbeat_seconds: int
    max_frame_bytes: int = MAX_FRAME_BYTES
    max_body_chars: int = MAX_BODY_CHARS


class MessageSent(_ServerFrame):
    """A message is committed. In ``seq`` order per conversation, without gaps and without repeats on one connection."""

    type: Literal["message"] = "message"
    conversation_id: Id
    seq: Seq
    sender_id: Id
    client_id: UUID
    body: str
    created_at: datetime


class Ack(_ServerFrame):
    """The send with this ``client_id`` is committed (in a cluster: on a synchronous standby too) as this ``seq``."""

    type: Literal["ack"] = "ack"
    client_id: UUID
    conversation_id: Id
    seq: Seq
    created_at: datetime


class Resumed(_ServerFrame):
    """Everything missed has been sent (or announced by ``gap``); the newest ``seq`` of each conversation of the person."""

    type: Literal["resumed"] = "resumed"
    last_seqs: dict[str, Seq]


class Gap(_ServerFrame):
    """Too much was missed to send it here: page ``GET /api/conversations/{id}/messages?after_seq=`` up to ``last_seq``.

    Live messages go on from ``last_seq + 1``.
    """

    type: Literal["gap"] = "gap"
    conversation_id: Id
    after_seq: Seq
    last_seq: Seq


class ReadMoved(_ServerFrame):
    """A member has read up to ``seq``."""

    type: Literal["read_moved"] = "read_moved"
    conversation_id: Id
    user_id: Id
    seq: Seq


class Typing(_ServerFrame):
    """A member is typing. Lossy; forget it after 5 seconds."""

    type: Literal["typing"] = "typing"
    conversation_id: Id
    user_id: Id


class ConversationAdded(_ServerFrame):
    """The person is now a member (created, invited). Live messages follow from ``last_seq + 1``."""

    type: Literal["conversation_added"] = "conversation_added"
    conversation_id: Id
    last_seq: Seq


class ConversationRemoved(_ServerFrame):
    """The person is no longer a member; nothing more will arrive from it."""

    type: Literal["conversation_removed"] = "conversation_removed"
    conversation_id: Id


class MembersChanged(_ServerFrame):
    """Someone joined or left; fetch the conversation again for the list."""

    type: Literal["members_changed"] = "members_changed"
    conversation_id: Id


class Pong(_ServerFrame):
    """Answer to ``ping``."""

    type: Literal["pong"] = "pong"
    nonce: str


class Drain(_ServerFrame):
    """This worker is leaving: the socket closes with 1012 shortly; reconnect after ``reconnect_after_ms`` and resume."""

    type: Literal["drain"] = "drain"
    reconnect_after_ms: int


class ErrorFrame(_ServerFrame):
    """A frame was refused. ``client_id`` is set when it answers a ``send``; ``retryable``: the same frame may succeed later."""

    type: Literal["error"] = "error"
    code: str
    message: str
    retryable: bool
    details: dict[str, Any] = {}
    client_id: UUID | None = None


ServerFrame = Annotated[
    Hello
    | MessageSent
    | Ack
    | Resumed
    | Gap
    | ReadMoved
    | Typing
    | ConversationAdded
    | ConversationRemoved
    | MembersChanged
    | Pong
    | Drain
    | ErrorFrame,
    Field(discriminator="type"),
]
server_frame_adapter: TypeAdapter[Any] = TypeAdapter(ServerFrame)


# --- the frames of every message and of every connection, without a model: at twenty thousand a second models cost more than the rest --


def hello_json(user_id: int, server_time: datetime, heartbeat_seconds: int) -> bytes:
    """Return a ``Hello`` as its JSON text."""
    return orjson.dumps(
        {
            "type": "hello",
            "protocol": PROTOCOL_VERSION,
            "user_id": user_id,
            "server_time": server_time,
            "heartbeat_seconds": heartbeat_seconds,
            "max_frame_bytes": MAX_FRAME_BYTES,
            "max_body_chars": MAX_BODY_CHARS,
        },
        option=orjson.OPT_UTC_Z,
    )


def message_json(
    conversation_id: int, seq: int, sender_id: int, client_id: UUID, body: str, created_at: datetime
) -> bytes:
    """Return a ``MessageSent`` as its JSON text."""
    return orjson.dumps(
        {
            "type": "message",
            "conversation_id": conversation_id,
            "seq": seq,
            "sender_id": sender_id,
            "client_id": client_id,
            "body": body,
            "created_at": created_at,
        },
        option=orjson.OPT_UTC_Z,
    )


def ack_json(client_id: UUID, conversation_id: int, seq: int, created_at: datetime) -> bytes:
    """Return an ``Ack`` as its JSON text."""
    return orjson.dumps(
        {
            "type": "ack",
            "client_id": client_id,
            "conversation_id": conversation_id,
            "seq": seq,
            "created_at": created_at,
        },
        option=orjson.OPT_UTC_Z,
    )


def frames_schema() -> dict[str, Any]:
    """Return the JSON Schema of both directions: ``{"client": {...}, "server": {...}, "protocol": int}``."""
    return {
        "protocol": PROTOCOL_VERSION,
        "client": client_frame_adapter.json_schema(),
        "server": server_frame_adapter.json_schema(mode="serialization"),
    }
