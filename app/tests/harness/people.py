"""The oracle's own way to the database: makes people quickly and reads the stored history, past the application."""

from __future__ import annotations

import functools
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta

import sqlalchemy as sa
from argon2 import PasswordHasher

from hockey_hub_chat.storage import tables

#: One password for everyone who is made in bulk.
PASSWORD = "a password of the tests"


@dataclass(frozen=True)
class Person:
    """Someone who can log in."""

    id: int
    username: str
    password: str


@dataclass(frozen=True)
class Stored:
    """One row of history."""

    conversation_id: int
    seq: int
    sender_id: int
    client_id: str
    body: str


@functools.cache
def cheap_hash() -> str:
    """Return an argon2id hash that is quick to verify: tests log in often and measure other things."""
    return PasswordHasher(time_cost=1, memory_cost=64, parallelism=1).hash(PASSWORD)


class People:
    """Rows made and read directly.

    Args:
        database_url: ``postgresql://…`` or ``sqlite:///path``.
    """

    def __init__(self, database_url: str) -> None:
        url = sa.make_url(database_url)
        if url.drivername == "postgresql":
            url = url.set(drivername="postgresql+psycopg")
        self.engine = sa.create_engine(url, poolclass=sa.NullPool)

    def add(self, *usernames: str, admin: bool = False) -> list[Person]:
        """Make people with the password ``PASSWORD``."""
        rows = [
            {"username": name, "display_name": name.title(), "password_hash": cheap_hash(), "is_admin": admin}
            for name in usernames
        ]
        with self.engine.begin() as connection:
            connection.execute(sa.insert(tables.users), rows)
        return [Person(self.id_of(name), name, PASSWORD) for name in usernames]

    def id_of(self, username: str) -> int:
        """Return a person's id."""
        query = sa.select(tables.users.c.id).where(tables.users.c.username == username)
        with self.engine.connect() as connection:
            found: int = connection.execute(query).scalar_one()
            return found

    def group(self, members: list[Person], name: str = "") -> int:
        """Make a group conversation of these people, directly."""
        with self.engine.begin() as connection:
            key: int = connection.execute(
                sa.insert(tables.conversations)
                .values(kind="group", name=name or f"room {uuid.uuid4().hex[:6]}", created_by=members[0].id)
                .returning(tables.conversations.c.id)
            ).scalar_one()
            connection.execute(
                sa.insert(tables.conversation_participants),
                [{"conversation_id": key, "user_id": person.id} for person in members],
            )
        return key

    def join(self, conversation_id: int, person: Person) -> None:
        """Make somebody a member, directly."""
        with self.engine.begin() as connection:
            row = {"conversation_id": conversation_id, "user_id": person.id}
            connection.execute(sa.insert(tables.conversation_participants).values(row))

    def fill(self, conversation_id: int, sender: Person, count: int) -> None:
        """Append ``count`` messages of a sender as the writer would have, gapless."""
        table = tables.conversations
        with self.engine.begin() as connection:
            last = connection.execute(
                sa.select(table.c.last_seq).where(table.c.id == conversation_id).with_for_update()
            ).scalar_one()
            connection.execute(
                sa.insert(tables.messages),
                [
                    {
                        "conversation_id": conversation_id,
                        "seq": last + i,
                        "sender_id": sender.id,
                        "client_id": uuid.uuid4(),
                        "body": f"filled {last + i}",
                    }
                    for i in range(1, count + 1)
                ],
            )
            connection.execute(sa.update(table).where(table.c.id == conversation_id).values(last_seq=last + count))

    def history(self, *conversation_ids: int, after: Mapping[int, int] | None = None) -> list[Stored]:
        """Return what is stored, in order; ``after`` gives the seq past which it is wanted, by conversation."""
        table = tables.messages
        past = after or {}
        wanted = [sa.and_(table.c.conversation_id == key, table.c.seq > past.get(key, 0)) for key in conversation_ids]
        query = (
            sa.select(table.c.conversation_id, table.c.seq, table.c.sender_id, table.c.client_id, table.c.body)
            .where(sa.or_(sa.false(), *wanted))
            .order_by(table.c.conversation_id, table.c.seq)
        )
        with self.engine.connect() as connection:
            return [Stored(r[0], r[1], r[2], str(r[3]), r[4]) for r in connection.execute(query)]

    def count_messages(self) -> int:
        """Return how many messages there are in all."""
        with self.engine.connect() as connection:
            found: int = connection.execute(sa.select(sa.func.count()).select_from(tables.messages)).scalar_one()
            return found

    def last_seq(self, conversation_id: int) -> int:
        """Return the counter the next seq is taken from."""
        query = sa.select(tables.conversations.c.last_seq).where(tables.conversations.c.id == conversation_id)
        with self.engine.connect() as connection:
            found: int = connection.execute(query).scalar_one()
            return found

    def age_rotations(self, person: Person, seconds: int) -> None:
        """Move the last use of a person's refresh tokens into the past."""
        table = tables.sessions
        with self.engine.begin() as connection:
            for key, rotated_at in connection.execute(
                sa.select(table.c.id, table.c.rotated_at).where(
                    table.c.user_id == person.id, table.c.rotated_at.isnot(None)
                )
            ).all():
                earlier = rotated_at - timedelta(seconds=seconds)
                connection.execute(sa.update(table).where(table.c.id == key).values(rotated_at=earlier))

    def age_sessions(self, person: Person, days: int, only_ended: int) -> None:
        """Move the end of so many of a person's ended sessions into the past."""
        table = tables.sessions
        with self.engine.begin() as connection:
            ended = sa.select(table.c.id, table.c.revoked_at).where(
                table.c.user_id == person.id, table.c.revoked_at.isnot(None)
            )
            for key, revoked_at in connection.execute(ended.limit(only_ended)).all():
                earlier = revoked_at - timedelta(days=days)
                connection.execute(sa.update(table).where(table.c.id == key).values(revoked_at=earlier))

    def count_sessions(self, person: Person) -> int:
        """Return how many sessions of a person are kept, over or not."""
        table = tables.sessions
        query = sa.select(sa.func.count()).select_from(table).where(table.c.user_id == person.id)
        with self.engine.connect() as connection:
            found: int = connection.execute(query).scalar_one()
            return found

    def close(self) -> None:
        """Let go of the database."""
        self.engine.dispose()
