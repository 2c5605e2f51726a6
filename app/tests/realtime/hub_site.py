"""A hub with a database in memory, and devices that keep what they receive."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import gevent

from hockey_hub_chat.realtime.hub import Hub
from hockey_hub_chat.realtime.reactor import Reactor
from realtime.fakes import FakeBus, FakeDatabase, Peer

ROOM = 7


class Site:
    """A hub with a database in memory and sockets that keep what they receive."""

    def __init__(self, compare_seconds: float = 60.0) -> None:
        self.database = FakeDatabase()
        self.bus = FakeBus()
        self.reactor = Reactor()
        self.reactor.start()
        self.hub = Hub(self.database.source(), self.bus, self.reactor, compare_seconds=compare_seconds)
        self.hub.start()
        self.sockets: list[Socket] = []

    def room(self, *users: int, conversation_id: int = ROOM) -> None:
        """Make a conversation."""
        self.database.messages.setdefault(conversation_id, [])
        self.database.members[conversation_id] = dict.fromkeys(users, 0)

    def say(self, body: str = "x", *, conversation_id: int = ROOM, told: bool = True) -> None:
        """Commit a message; ``told``: the bus brings it."""
        row = self.database.commit(conversation_id, body)
        if told:
            self.hub.on_events([row.event()])

    def connect(self, user: int) -> Socket:
        """Open a socket; it has not resumed yet."""
        socket = Socket(self, user)
        self.sockets.append(socket)
        return socket

    def close(self) -> None:
        """End everything."""
        self.hub.stop()
        for socket in self.sockets:
            socket.leave()
        self.reactor.stop()


class Socket:
    """One device."""

    def __init__(self, site: Site, user: int) -> None:
        self.site = site
        self.session = uuid4()
        site.database.sessions.add(self.session)
        self.peer = Peer(site.reactor, buffer_bytes=100_000)
        self.connection = self.peer.connection
        self.subscription = site.hub.attach(self.connection, user_id=user, session_id=self.session)
        self.connection.owner = self
        self.connection.listen()

    def received(self, message: bytes) -> None:
        """See ``Owner``."""

    def closed(self, code: int) -> None:
        """See ``Owner``."""
        self.subscription.detach()

    def leave(self) -> None:
        """Vanish, and be noticed."""
        self.peer.read()
        self.peer.leave()
        self.subscription.detach()

    def resume(self, cursors: dict[int, int] | None = None) -> Socket:
        """Resume and wait for it."""
        self.subscription.resume(cursors or {})
        return self

    def of(self, *types: str) -> list[dict[str, Any]]:
        """Frames of these types, once the reactor has written them."""
        gevent.sleep(0.002)
        return [frame for frame in self.peer.frames if frame["type"] in types]

    def seqs(self, conversation_id: int = ROOM) -> list[int]:
        """The seqs received."""
        return [frame["seq"] for frame in self.of("message") if frame["conversation_id"] == conversation_id]
