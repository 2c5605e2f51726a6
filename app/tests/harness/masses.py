"""Thousands of people made in bulk, logged in already: rows and tokens as the application would have made them."""

from __future__ import annotations

import secrets
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import sqlalchemy as sa

from harness.chat import ChatServer
from harness.people import PASSWORD, Person, cheap_hash
from hockey_hub_chat import tokens
from hockey_hub_chat.config import Settings
from hockey_hub_chat.storage import tables

#: Rows in one statement.
ROWS = 1_000
TOKEN_HOURS = 24


@dataclass
class Masses:
    """People with an access token each; ``rooms[n // size]`` is the small room of the n-th, ``club`` everybody's."""

    people: list[Person]
    tokens: list[str]
    club: int
    rooms: list[int]
    room_size: int

    def room_of(self, number: int) -> int:
        """Return the small room of the n-th person."""
        return self.rooms[number // self.room_size]


def make_masses(server: ChatServer, count: int, *, room_size: int = 0, prefix: str = "fan") -> Masses:
    """Make people, their sessions and tokens, a club room of all, and small rooms.

    Args:
        room_size: members of each small room; 0 makes none.
        prefix: start of their names; no other names may begin so.
    """
    people = _people(server, count, prefix)
    club = server.people.group([people[0]], f"{prefix} club")
    rooms = [
        server.people.group([people[start]], f"{prefix} room {start}")
        for start in range(0, count if room_size else 0, room_size or 1)
    ]
    made = Masses(people, _tokens(server, people), club, rooms, room_size)
    members = [(club, person.id) for person in people[1:]]
    if room_size:
        members += [(made.room_of(n), person.id) for n, person in enumerate(people) if n % room_size]
    _insert(
        server,
        tables.conversation_participants,
        [{"conversation_id": conversation, "user_id": user} for conversation, user in members],
    )
    return made


def _insert(server: ChatServer, table: sa.Table, rows: Sequence[dict[str, object]]) -> None:
    with server.people.engine.begin() as connection:
        for start in range(0, len(rows), ROWS):
            connection.execute(sa.insert(table).values(rows[start : start + ROWS]))


def _people(server: ChatServer, count: int, prefix: str) -> list[Person]:
    names = [f"{prefix}{number:06}" for number in range(count)]
    _insert(
        server,
        tables.users,
        [{"username": name, "display_name": name.title(), "password_hash": cheap_hash()} for name in names],
    )
    query = sa.select(tables.users.c.id, tables.users.c.username).where(tables.users.c.username.startswith(prefix))
    with server.people.engine.connect() as connection:
        ids = {row.username: row.id for row in connection.execute(query)}
    return [Person(ids[name], name, PASSWORD) for name in names]


def _tokens(server: ChatServer, people: Sequence[Person]) -> list[str]:
    now = datetime.now(timezone.utc)
    expires_at = now + timedelta(hours=TOKEN_HOURS)
    sessions = [uuid.uuid4() for _ in people]
    _insert(
        server,
        tables.sessions,
        [
            {
                "id": session,
                "user_id": person.id,
                "refresh_hash": secrets.token_bytes(32),
                "user_agent": "",
                "expires_at": expires_at,
            }
            for session, person in zip(sessions, people, strict=True)
        ],
    )
    issuer = server.settings.get("SERVICE_NAME") or Settings.model_fields["service_name"].default
    keys = tokens.Keys(server.keys.private_pem.encode(), [], issuer)
    return [
        keys.sign(user_id=person.id, session_id=session, now=now, expires_at=expires_at)
        for session, person in zip(sessions, people, strict=True)
    ]
