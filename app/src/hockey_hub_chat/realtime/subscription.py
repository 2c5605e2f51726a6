"""One socket's place in the hub: which rooms it is in, and how far it has come in each."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING
from uuid import UUID

from hockey_hub_chat.realtime.connection import Connection
from hockey_hub_chat.realtime.room import Room

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.hub import Hub

#: A person's ``typing`` is passed on at most so often for one conversation of one socket.
TYPING_SECONDS = 1.0


class Subscription:
    """One socket's place in the hub. Made by ``Hub.attach``; ended by ``detach``, also when the socket closes by itself."""

    def __init__(self, hub: Hub, connection: Connection, user_id: int, session_id: UUID) -> None:
        self._hub = hub
        self.connection = connection
        self.user_id = user_id
        self.session_id = session_id
        self.state = "new"  # new -> resuming -> live; closed from any
        self.rooms: dict[int, Room] = {}
        self.cursors: dict[int, int] = {}
        self._typed: dict[int, float] = {}

    def deliver(self, conversation_id: int, seq: int, frame: bytes) -> None:
        """Post a message if it is exactly the next one for this socket."""
        if self.cursors.get(conversation_id) == seq - 1:
            self.cursors[conversation_id] = seq
            self.connection.post(frame)

    def resume(self, cursors: Mapping[int, int]) -> None:
        """Send what was missed since ``cursors`` (conversation_id -> seq), then ``resumed``, then whatever comes.

        Waits: run it in a greenlet of its own. After an UnavailableError it may be called again.

        Raises:
            UnavailableError: the database stayed away.
            ValueError: it was called before, and worked.
        """
        self._hub.resume(self, cursors)

    def typing(self, conversation_id: int) -> None:
        """Tell the others that this person is typing; dropped when not a member, or told a moment ago."""
        if self.state != "live" or conversation_id not in self.rooms:
            return
        now = time.monotonic()
        if now - self._typed.get(conversation_id, -TYPING_SECONDS) >= TYPING_SECONDS:
            self._typed[conversation_id] = now
            self._hub.publish_typing(conversation_id, self.user_id)

    def detach(self) -> None:
        """Receive nothing more. Safe to repeat."""
        self._hub.detach(self)
