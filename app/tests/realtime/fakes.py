"""For the realtime parts: the other end of a real socket, and a database and a bus in memory for what is injected."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Collection
from dataclasses import dataclass, field, replace
from datetime import datetime, timezone
from typing import Any
from uuid import UUID, uuid4

import gevent

from hockey_hub_chat.errors import UnavailableError
from hockey_hub_chat.events import message_json
from hockey_hub_chat.realtime.bus import BusEvent, MessageStored
from hockey_hub_chat.realtime.reactor import Reactor
from hockey_hub_chat.realtime.source import HubSource

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=timezone.utc)


def whole_frames(data: bytes) -> tuple[list[tuple[int, bytes]], bytes]:
    """Return (opcode, payload) of every whole unmasked frame in ``data``, and the bytes of a last one that is not whole."""
    frames = []
    while len(data) >= 2:
        opcode, size = data[0] & 0x0F, data[1]
        assert not size & 0x80, "a server's frame is masked"
        assert opcode in (1, 8, 9, 10) and data[0] & 0xF0 == 0x80, f"torn or broken: {data[:20]!r}"
        start = 2
        if size == 126:
            size = int.from_bytes(data[2:4], "big")
            start = 4
        elif size == 127:
            size = int.from_bytes(data[2:10], "big")
            start = 10
        if len(data) < start + size:
            break
        frames.append((opcode, data[start : start + size]))
        data = data[start + size :]
    return frames, data


def split_frames(data: bytes) -> list[tuple[int, bytes]]:
    """Return (opcode, payload) of every unmasked frame in ``data``; nothing may be left over."""
    frames, rest = whole_frames(data)
    assert not rest, "a frame is torn"
    return frames


class Peer:
    """The other end of an adopted socket: a kernel's buffers, and somebody who reads only while ``reading``."""

    def __init__(self, reactor: Reactor, *, buffer_bytes: int = 0, keeps_writes: bool = False) -> None:
        """``keeps_writes``: each write of the other side arrives by itself, in ``writes``."""
        ours, self.sock = socket.socketpair(type=socket.SOCK_SEQPACKET if keeps_writes else socket.SOCK_STREAM)
        self.writes: list[bytes] = []
        for end in (ours, self.sock):
            end.setblocking(False)
            if buffer_bytes:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer_bytes)
        self.connection = reactor.adopt(ours.detach(), max_message_bytes=65_536)
        self.received = bytearray()
        self.reading = True
        self.ended = False

    def __del__(self) -> None:
        self.sock.close()

    def read(self) -> bytes:
        """Take what has arrived, while ``reading``, and return everything so far."""
        while self.reading and not self.ended:
            try:
                data = self.sock.recv(1_000_000)
            except BlockingIOError:
                break
            except OSError:
                data = b""
            self.received += data
            self.writes.append(data)
            self.ended = not data
        return bytes(self.received)

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def leave(self) -> None:
        """Vanish."""
        self.sock.close()
        self.ended = True

    @property
    def opcodes(self) -> list[int]:
        """The opcodes received so far."""
        return [opcode for opcode, _ in split_frames(self.read())]

    @property
    def frames(self) -> list[dict[str, Any]]:
        """The JSON frames received so far."""
        whole, _ = whole_frames(self.read())
        return [json.loads(payload) for opcode, payload in whole if opcode == 1]

    @property
    def close_code(self) -> int | None:
        """The code of the close frame, when one has arrived."""
        for opcode, payload in whole_frames(self.read())[0]:
            if opcode == 8:
                return int(struct.unpack("!H", payload[:2])[0])
        return None


@dataclass(frozen=True)
class Row:
    """A stored message."""

    conversation_id: int
    seq: int
    body: str = "x"
    sender_id: int = 1
    client_id: UUID = field(default_factory=uuid4)
    created_at: datetime = NOW
    is_new: bool = True

    def event(self) -> MessageStored:
        """What the bus would carry."""
        return MessageStored(
            self.conversation_id,
            self.seq,
            message_json(self.conversation_id, self.seq, self.sender_id, self.client_id, self.body, self.created_at),
        )


class FakeDatabase:
    """Conversations, members and sessions in memory; every question yields once, and fails while ``away``."""

    def __init__(self) -> None:
        self.messages: dict[int, list[Row]] = {}
        self.members: dict[int, dict[int, int]] = {}
        self.sessions: set[UUID] = set()
        self.away = False
        self.questions = 0
        self.delay = 0.0

    def commit(self, conversation_id: int, body: str = "x") -> Row:
        """Store the next message."""
        rows = self.messages[conversation_id]
        rows.append(Row(conversation_id, len(rows) + 1, body))
        return rows[-1]

    def source(self) -> HubSource:
        """Return the hub's questions to this database."""
        return HubSource(
            history=self._history,
            last_seqs=self._last_seqs,
            memberships=self._memberships,
            live_sessions=self._live_sessions,
            rosters=self._rosters,
            is_transient=lambda error: isinstance(error, UnavailableError),
        )

    def _pause(self) -> None:
        self.questions += 1
        gevent.sleep(self.delay)
        if self.away:
            raise UnavailableError("away")

    def _history(self, conversation_id: int, after_seq: int, limit: int) -> list[Row]:
        rows = list(self.messages.get(conversation_id, ())[after_seq : after_seq + limit])
        self._pause()  # after reading: what is answered may be old by the time it arrives
        return [replace(row) for row in rows]

    def _last_seqs(self, ids: Collection[int]) -> dict[int, int]:
        found = {key: len(self.messages[key]) for key in ids if key in self.messages}
        self._pause()
        return found

    def _memberships(self, user_ids: Collection[int]) -> dict[int, dict[int, int]]:
        found = {
            user: {key: len(self.messages[key]) for key, members in self.members.items() if user in members}
            for user in user_ids
        }
        self._pause()
        return found

    def _live_sessions(self, ids: Collection[UUID]) -> set[UUID]:
        found = self.sessions & set(ids)
        self._pause()
        return found

    def _rosters(self, ids: Collection[int]) -> dict[int, dict[int, int]]:
        found = {key: dict(self.members.get(key, {})) for key in ids}
        self._pause()
        return found


class FakeBus:
    """A bus whose deliveries the test decides; keeps what was published."""

    def __init__(self) -> None:
        self.published: list[BusEvent] = []
        self.healthy = True

    def start(self, on_events: Any, on_missed: Any) -> None:
        """See ``Bus``."""

    def publish(self, events: Any) -> None:
        """See ``Bus``."""
        self.published += events

    def close(self, timeout: float = 1.0) -> None:
        """See ``Bus``."""


def settle(check: Any, what: str, timeout: float = 5.0) -> None:
    """Let the other greenlets run until ``check`` holds.

    Raises:
        AssertionError: it did not within ``timeout`` seconds, naming ``what``.
    """
    with gevent.Timeout(timeout, AssertionError(f"not within {timeout:g} s: {what}")):
        while not check():
            gevent.sleep(0.002)
