"""One socket of a crowd: what is kept of it, and its bytes. Knows no loop and no protocol of ours."""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass, field
from typing import Literal

How = Literal["clean", "reset", "half", "mute"]
HOWS: tuple[How, ...] = ("clean", "reset", "half", "mute")


@dataclass(eq=False)
class Close:
    """The end of one connection."""

    code: int | None
    at: float
    drain_ms: int | None


@dataclass(eq=False, slots=True)
class Member:
    """One person on one device. ``state``: away, opening, live, stalled (open, but not reading)."""

    number: int
    person_id: int
    token: str
    cursors: dict[int, int]
    receive_buffer: int | None = None
    stalls: bool = False
    returns: bool = True
    gone: bool = False
    state: str = "away"
    sock: socket.socket | None = None
    fd: int = -1
    inbox: bytes = b""
    outbox: bytes = b""
    upgraded: bool = False
    opened_at: float = 0.0
    live_at: float = 0.0
    drain_ms: int | None = None
    received: int = 0
    gaps: int = 0
    skipped: int = 0
    connections: int = 0
    backoff: float = 0.05
    closes: list[Close] = field(default_factory=list)
    pending: dict[str, tuple[int, str]] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Ghost:
    """A connection its owner has left; the server is expected to end it."""

    sock: socket.socket
    how: How
    since: float


def handshake(address: tuple[str, int], origin: str, token: str) -> bytes:
    """Return the opening handshake of ``/ws`` (RFC 6455, 4.1); the key is the same each time, for nothing is cached here."""
    return (
        f"GET /ws HTTP/1.1\r\nHost: {address[0]}:{address[1]}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n"
        f"Origin: {origin}\r\nCookie: hhc_access={token}\r\n\r\n"
    ).encode()


def client_frame(opcode: int, payload: bytes) -> bytes:
    """Encode one short frame of a client (RFC 6455, 5.2) with a mask of zeros, which changes nothing and costs nothing."""
    if len(payload) < 126:
        return bytes([0x80 | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload
    return bytes([0x80 | opcode, 0x80 | 126]) + struct.pack("!H", len(payload)) + b"\0\0\0\0" + payload


def next_frame(data: bytes, at: int) -> tuple[int, bytes, int] | None:
    """Return (first byte, payload, where the next one begins) of a server's frame, or None when it is not whole yet."""
    size = len(data)
    if size - at < 2:
        return None
    length, head = data[at + 1], 2
    if length == 126:
        if size - at < 4:
            return None
        (length,), head = struct.unpack_from("!H", data, at + 2), 4
    elif length == 127:
        if size - at < 10:
            return None
        (length,), head = struct.unpack_from("!Q", data, at + 2), 10
    end = at + head + length
    return None if end > size else (data[at], data[at + head : end], end)
