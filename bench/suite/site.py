"""What all servers under test share: PostgreSQL and Redis on the client's core, keys, people and their access tokens.

People, sessions and rooms are made by SQL, and tokens are signed here: logging in ten thousand people is not what is measured.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path
from uuid import UUID

import psycopg

from harness.chat import Keys
from harness.people import cheap_hash
from harness.postgres import Postgres
from harness.process import Workshop
from harness.redis_server import RedisServer
from hockey_hub_chat import tokens
from suite.places import CLIENT_CORE, pinned

TOKEN_TTL = timedelta(days=1)
#: ``service_name`` of ``hockey_hub_chat.config``, unless a site sets another.
ISSUER = "communication-service"

# Session ids are made of the person's number, so that a token fits the same person of every world.
_PEOPLE = """
INSERT INTO users (id, username, display_name, password_hash)
SELECT i, 'bench' || i, 'Bench ' || i, %(hash)s FROM generate_series(1, %(count)s) AS i;
"""
_SESSIONS = """
INSERT INTO sessions (id, user_id, refresh_hash, expires_at)
SELECT ('00000000-0000-4000-8000-' || lpad(to_hex(i), 12, '0'))::uuid, i, sha256(i::text::bytea), now() + interval '30 days'
FROM generate_series(1, %(count)s) AS i;
"""
_ROOMS = """
INSERT INTO conversations (id, kind, name, created_by)
SELECT i, 'group', 'room ' || i, 1 FROM generate_series(1, %(rooms)s) AS i;
"""
_MEMBERS = """
INSERT INTO conversation_participants (conversation_id, user_id)
SELECT (i - 1) / %(members)s + 1, i FROM generate_series(1, %(count)s) AS i;
"""
# After the last person and room of a world.
_READER = (
    "INSERT INTO users (id, username, display_name, password_hash) VALUES (%(number)s, 'reader', 'Reader', %(hash)s)",
    "INSERT INTO sessions (id, user_id, refresh_hash, expires_at)"
    " VALUES (%(id)s, %(number)s, sha256('reader'), now() + interval '30 days')",
    "INSERT INTO conversations (id, kind, name, created_by)"
    " SELECT 1000000 + i, 'group', 'room ' || i, %(number)s FROM generate_series(1, %(rooms)s) AS i",
    "INSERT INTO conversation_participants (conversation_id, user_id)"
    " SELECT 1000000 + i, member FROM generate_series(1, %(rooms)s) AS i, unnest(ARRAY[1, 2, 3, %(number)s]) AS member",
)
# Without the look at the foreign keys of each row.
_FILL = """
SET session_replication_role = replica;
INSERT INTO messages (conversation_id, seq, sender_id, client_id, body)
SELECT {room}, i, 1, gen_random_uuid(), repeat('x', 200) FROM generate_series(1, {count}) AS i;
UPDATE conversations SET last_seq = {count} WHERE id = {room};
"""
#: The same columns as a message of ours, and as many indexes.
PEERS_TABLE = """
CREATE TABLE bench_messages (
  id bigserial PRIMARY KEY, room bigint NOT NULL, sender bigint NOT NULL, client_id uuid NOT NULL, body text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now(), UNIQUE (sender, client_id)
)
"""


def session_id(number: int) -> UUID:
    """Return the id of a person's session."""
    return UUID(f"00000000-0000-4000-8000-{number:012x}")


class PinnedPostgres(Postgres):
    """PostgreSQL on the client's core, with what a small site gives it."""

    def command(self) -> Sequence[str]:
        """Return argv."""
        settings = ["shared_buffers=256MB", "max_connections=200", "max_wal_size=4GB", "checkpoint_timeout=30min"]
        return [*pinned(CLIENT_CORE), *super().command(), *(word for setting in settings for word in ("-c", setting))]


class PinnedRedis(RedisServer):
    """Redis on the client's core."""

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [*pinned(CLIENT_CORE), *super().command()]


class Site:
    """The daemons all scenarios share; ``site()`` makes and ends one."""

    def __init__(self, workshop: Workshop) -> None:
        self.workshop = workshop
        self.postgres = PinnedPostgres(workshop, durable=True)
        self.redis = PinnedRedis(workshop)
        self.keys = Keys(workshop.directory("keys"), workshop.account)
        self._signer = tokens.Keys(self.keys.private_pem.encode(), [], ISSUER)
        self._tokens: list[str] = []
        self._token_file = workshop.directory("tokens") / "tokens"
        self._template = ""

    def start(self) -> None:
        """Start the daemons."""
        self.postgres.start()
        self.redis.start()
        self._template = self.postgres.migrated_template()

    def destroy(self) -> None:
        """End them."""
        self.redis.destroy()
        self.postgres.destroy()

    def watch(self) -> dict[str, int]:
        """Return the pids whose CPU time is told beside that of a server."""
        return {"postgres": self.postgres.pid, "redis": self.redis.pid}

    def tokens(self, count: int) -> Path:
        """Return a file with the access tokens of at least the first ``count`` people, one a line."""
        now = datetime.now(timezone.utc)
        for number in range(len(self._tokens) + 1, count + 1):
            signed = self._signer.sign(
                user_id=number, session_id=session_id(number), now=now, expires_at=now + TOKEN_TTL
            )
            self._tokens.append(signed)
        if count:
            self._token_file.write_text("\n".join(self._tokens) + "\n")
        return self._token_file

    def token(self, number: int) -> str:
        """Return the access token of one person."""
        self.tokens(number)
        return self._tokens[number - 1]

    def chat_database(self, rooms: int, members: int) -> str:
        """Make a database of ours with ``rooms`` rooms of ``members`` people, each in one room, and return its address."""
        url = self.postgres.create_database(template=self._template)
        count = rooms * members
        with psycopg.connect(url) as connection:
            connection.execute(_PEOPLE, {"hash": cheap_hash(), "count": count})
            connection.execute(_SESSIONS, {"count": count})
            connection.execute(_ROOMS, {"rooms": rooms})
            connection.execute(_MEMBERS, {"members": members, "count": count})
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("ANALYZE")
        return url

    def add_reader(self, url: str, number: int, rooms: int) -> None:
        """Make person ``number`` in a database of ours, with ``rooms`` rooms of their own that three others are in."""
        values = {"number": number, "rooms": rooms, "hash": cheap_hash(), "id": session_id(number)}
        with psycopg.connect(url) as connection:
            for statement in _READER:
                connection.execute(statement, values)

    def fill(self, url: str, room: int, count: int) -> None:
        """Give a room a history of ``count`` messages of 200 characters, as the writer would have."""
        database = url.rpartition("/")[2]
        self.postgres.admin(_FILL.format(room=int(room), count=int(count)), database)
        self.postgres.admin("VACUUM ANALYZE messages", database)

    def peers_database(self) -> str:
        """Make a database with the other servers' table and return its address."""
        url = self.postgres.create_database()
        with psycopg.connect(url) as connection:
            connection.execute(PEERS_TABLE)
        return url

    def peers_redis(self) -> str:
        """Return the address of Redis for the other servers, whose channels have names of their own."""
        return f"redis://ops:{self.redis.ops_password}@127.0.0.1:{self.redis.port}/0"


@contextlib.contextmanager
def site(source: Path) -> Iterator[Site]:
    """Start the shared daemons; the end of the block, or of this process, is the end of everything.

    Args:
        source: the application's sources that are measured.
    """
    workshop = Workshop("hhc-bench-", source)
    try:
        made = Site(workshop)
        try:
            made.start()
            yield made
        finally:
            made.destroy()
    finally:
        # its daemons are gone, and the reaper is given little time for so much
        shutil.rmtree(workshop.root, ignore_errors=True)
        workshop.close()
