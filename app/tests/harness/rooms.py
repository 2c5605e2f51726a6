"""People and a conversation made for one test, on a server that many tests share."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from harness.chat import ChatServer
from harness.http import Api
from harness.people import Person

_numbers = itertools.count(1)


@dataclass
class Room:
    """A group conversation of ``alice`` and ``bob``; ``mallory`` can log in but is not a member."""

    server: ChatServer
    id: int
    alice: Person
    bob: Person
    mallory: Person

    def login(self, person: Person | None = None) -> Api:
        """Return a logged-in HTTP client, of alice if nobody is named."""
        who = person or self.alice
        api = self.server.api()
        api.login(who.username, who.password).expect(200)
        return api


def make_room(server: ChatServer) -> Room:
    """Make three people nobody else uses, and a conversation of two of them."""
    number = next(_numbers)
    alice, bob, mallory = server.people.add(f"alice{number}", f"bob{number}", f"mallory{number}")
    return Room(server, server.people.group([alice, bob]), alice, bob, mallory)
