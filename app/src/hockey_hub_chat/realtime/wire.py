"""Turns typed server frames into the bytes of one WebSocket frame, once, however many sockets receive it.

A server's frames are not masked (RFC 6455 §5.1), so the same bytes serve every socket of a room. No extension is ever
negotiated: compression would need state per socket, and lets a few bytes inflate into megabytes.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Protocol

from hockey_hub_chat import events
from hockey_hub_chat.realtime.bus import MessageStored

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.writer import Stored

_TEXT = 0x81  # FIN + opcode 1
_CLOSE = 0x88
_PING = 0x89
_PONG = 0x8A

#: RFC 6455 §5.5: a control frame carries at most 125 bytes.
MAX_CONTROL_BYTES = 125


class JsonFrame(Protocol):
    """Anything of ``events`` that a server sends."""

    def model_dump_json(self) -> str: ...


def _frame(opcode: int, payload: bytes) -> bytes:
    size = len(payload)
    if size < 126:
        return bytes((opcode, size)) + payload
    if size < 65_536:
        return struct.pack("!BBH", opcode, 126, size) + payload
    return struct.pack("!BBQ", opcode, 127, size) + payload


def text_frame(payload: bytes) -> bytes:
    """Return the text frame that carries ``payload`` (UTF-8)."""
    return _frame(_TEXT, payload)


def encode(frame: JsonFrame) -> bytes:
    """Return the text frame that carries ``frame`` as JSON."""
    return _frame(_TEXT, frame.model_dump_json().encode())


def encode_message(message: Stored | MessageStored) -> bytes:
    """Return the frame every socket of the conversation receives."""
    if isinstance(message, MessageStored):
        return text_frame(message.payload)
    return text_frame(
        events.message_json(
            message.conversation_id,
            message.seq,
            message.sender_id,
            message.client_id,
            message.body,
            message.created_at,
        )
    )


def close_frame(code: int, reason: str) -> bytes:
    """Return a close frame; ``reason`` is cut to what fits, at a character."""
    text = reason.encode()[: MAX_CONTROL_BYTES - 2].decode(errors="ignore").encode()
    return _frame(_CLOSE, struct.pack("!H", code) + text)


def ping_frame(payload: bytes = b"") -> bytes:
    """Return a ping frame."""
    return _frame(_PING, payload)


def pong_frame(payload: bytes) -> bytes:
    """Return the pong that answers a ping with ``payload`` (at most 125 bytes)."""
    return _frame(_PONG, payload)
