"""The appender's connection: what it does when the server fails, refuses, makes it wait or is given a lot."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any
from uuid import UUID, uuid4

import gevent
import psycopg
import pytest
import sqlalchemy as sa

from harness.postgres import Postgres
from harness.process import wait_until
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ConflictError, NotAMemberError
from hockey_hub_chat.storage import conversations, messages, users
from hockey_hub_chat.storage.appender import Appender
from hockey_hub_chat.storage.engine import connector, is_conflict, is_transient, make_engine
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage


@pytest.fixture
def pool(database_url: str) -> Iterator[sa.Engine]:
    """The database, beside the appender."""
    made = make_engine(Settings(database_url=database_url, database_pool_size=5))
    yield made
    made.dispose()


@pytest.fixture
def appender(pool: sa.Engine) -> Iterator[Appender]:
    """An appender; closed afterwards."""
    connect = connector(pool)
    assert connect is not None
    made = Appender(connect)
    yield made
    made.close()


@pytest.fixture
def room(pool: sa.Engine) -> tuple[int, int]:
    """(conversation, ann)"""
    with pool.begin() as conn:
        ann, bob = (users.add(conn, username=name, display_name=name, password_hash="-") for name in ("ann", "bob"))
        return conversations.create_group(conn, ann, "room", [bob]), ann


def pid_of(appender: Appender) -> int:
    """Return the server process of its connection."""
    assert appender._line is not None
    return appender._line._connection.info.backend_pid


def new(room: tuple[int, int], body: str = "x", client_id: UUID | None = None) -> NewMessage:
    return NewMessage(*room, client_id or uuid4(), body)


def seqs(results: object) -> list[int | type]:
    assert isinstance(results, list)
    return [one.seq if isinstance(one, StoredMessage) else type(one) for one in results]


def test_a_connection_that_was_cut_is_replaced(postgres: Postgres, appender: Appender, room: tuple[int, int]) -> None:
    appender.append([new(room)])
    for _ in range(2):
        postgres.admin(f"SELECT pg_terminate_backend({pid_of(appender)}, 5000)")
        with pytest.raises(psycopg.Error) as caught:
            appender.append([new(room)])
        assert is_transient(caught.value)
        assert seqs(appender.append([new(room)]))
    with pytest.raises(StopIteration):  # what failed before it was sent is not half there
        next(n for n in seqs(appender.append([new(room)])) if n != 4)


def test_a_primary_that_became_read_only_is_left(postgres: Postgres, appender: Appender, room: tuple[int, int]) -> None:
    appender.append([new(room)])
    first = pid_of(appender)
    dbname = database_of(appender)
    postgres.admin(f"ALTER DATABASE {dbname} SET default_transaction_read_only = on")
    appender.close()
    with pytest.raises(psycopg.Error) as caught:
        appender.append([new(room)])
    assert is_transient(caught.value) and appender._line is None
    postgres.admin(f"ALTER DATABASE {dbname} RESET default_transaction_read_only")
    assert seqs(appender.append([new(room)])) == [2] and pid_of(appender) != first


def database_of(appender: Appender) -> str:
    """Return the name of its database."""
    assert appender._line is not None
    return appender._line._connection.info.dbname


def test_no_database_at_all_is_transient() -> None:
    connect = connector(make_engine(Settings(database_url="postgresql://nobody:secret@127.0.0.1:1/none")))
    assert connect is not None
    with pytest.raises(psycopg.Error) as caught:
        Appender(connect).append([new((1, 1))])
    assert is_transient(caught.value) and "secret" not in str(caught.value)


@pytest.mark.parametrize("sent", [("twice", "gone", "x"), ("twice",), ("gone",), ("x",)])
def test_what_the_lock_was_waited_for_is_seen(
    sent: tuple[str, ...], postgres: Postgres, pool: sa.Engine, appender: Appender
) -> None:
    """A removal, and the same retry through another node, that commit while the batch waits."""
    with pool.begin() as conn:
        ann, bob = (users.add(conn, username=name, display_name=name, password_hash="-") for name in ("ann", "bob"))
        one = conversations.create_group(conn, ann, "room", [bob])
    appender.append([NewMessage(one, ann, uuid4(), "first")])
    key = uuid4()
    written = {
        "twice": NewMessage(one, ann, key, "twice"),
        "gone": NewMessage(one, bob, uuid4(), "gone"),
        "x": NewMessage(one, ann, uuid4(), "x"),
    }
    wanted = {"twice": 2, "gone": NotAMemberError, "x": 3}
    answers: list[list[int | type]] = []

    def append() -> None:
        connect = connector(pool)
        assert connect is not None
        other = Appender(connect)
        answers.append(seqs(other.append([written[body] for body in sent])))
        other.close()

    with pool.begin() as conn:
        conversations.lock(conn, one)
        waiting = threading.Thread(target=append)
        waiting.start()
        blocked = (
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
        )
        dbname = database_of(appender)
        wait_until(lambda: postgres.admin(blocked, dbname)[0][0] == 1, 10, "the batch waits for the lock")
        messages.append_batch(conn, [written["twice"]])
        assert conversations.remove_member(conn, one, bob)
    waiting.join(10)
    assert answers == [[wanted[body] for body in sent]]


def test_a_wait_broken_off_costs_the_connection_and_nothing_else(
    pool: sa.Engine, appender: Appender, room: tuple[int, int]
) -> None:
    appender.append([new(room)])
    first = pid_of(appender)
    with pool.begin() as conn:
        conversations.lock(conn, room[0])
        with pytest.raises(gevent.Timeout), gevent.Timeout(0.1):
            appender.append([new(room)])
    assert appender._line is None
    stored = appender.append([new(room, "after")])
    assert pid_of(appender) != first
    with pool.connect() as conn:
        history = messages.page(conn, room[0], after_seq=0, before_seq=None, limit=10)
    assert [message.seq for message in history] == list(range(1, len(history) + 1)), "gapless either way"
    assert history[-1] == stored[0]


def test_a_refused_batch_keeps_the_connection_and_tells_nobody_the_text(
    pool: sa.Engine, appender: Appender, room: tuple[int, int]
) -> None:
    appender.append([new(room)])
    first = pid_of(appender)
    with pool.begin() as conn:
        conn.execute(sa.text("ALTER TABLE messages ADD CONSTRAINT odd CHECK (body <> 'a secret of hers')"))
    with pytest.raises(psycopg.Error) as caught:
        appender.append([new(room), new(room, "a secret of hers")])
    assert not is_transient(caught.value) and "secret" not in str(caught.value)
    assert seqs(appender.append([new(room)])) == [2] and pid_of(appender) == first


def test_the_same_retry_stored_elsewhere_at_this_moment_is_a_conflict_to_repeat(
    pool: sa.Engine, appender: Appender, room: tuple[int, int]
) -> None:
    """Two conversations, so no lock orders the two nodes: the index does."""
    with pool.begin() as conn:
        two = conversations.create_group(conn, room[1], "two", [])
    appender.append([new(room)])
    key = uuid4()
    with pool.connect() as conn:
        transaction = conn.begin()
        messages.append_batch(conn, [NewMessage(two, room[1], key, "x")])
        timer = gevent.spawn_later(0.2, transaction.commit)
        with pytest.raises(psycopg.Error) as caught:
            appender.append([new(room, "x", key)])
        timer.get(timeout=5)
    assert is_conflict(caught.value) and not is_transient(caught.value)
    assert seqs(appender.append([new(room, "x", key), new(room)])) == [ConflictError, 2]


def test_a_batch_of_the_longest_messages_fits(pool: sa.Engine, appender: Appender, room: tuple[int, int]) -> None:
    batch = [new(room, "🏒" * 8000) for _ in range(500)]  # 16 MB: more than any buffer between here and there
    assert seqs(appender.append(batch)) == list(range(1, 501))
    with pool.connect() as conn:
        (last,) = messages.page(conn, room[0], after_seq=499, before_seq=None, limit=1)
    assert last.body == batch[-1].body and last.client_id == batch[-1].client_id


def test_a_repetition_inside_a_batch_goes_by_what_became_of_the_first(
    pool: sa.Engine, appender: Appender, room: tuple[int, int]
) -> None:
    with pool.begin() as conn:
        two = conversations.create_group(conn, room[1], "two", [])
    key, stored = uuid4(), new(room)
    appender.append([stored])
    batch = [
        stored._replace(body="other"),  # a conflict ...
        stored,  # ... which the true repetition is not
        new((404, room[1]), "y", key),
        new((404, room[1]), "y", key),
        new((two, room[1]), "y", key),  # free: the first could not be stored
        new((two, room[1]), "z"),
        new((two, room[1]), "z", key),
        new(room, "a\x00b", uuid4()),
    ]
    assert [getattr(one, "seq", getattr(one, "code", None)) for one in appender.append(batch)] == [
        *("conflict", 1, "not_a_member", "not_a_member", 1, 2, "conflict", "validation_failed")
    ]


def test_every_access_is_by_a_key_however_large_the_tables_become(
    postgres: Postgres, appender: Appender, room: tuple[int, int]
) -> None:
    """The plan is made while they are empty, and kept."""
    postgres.admin("VACUUM ANALYZE", (appender.append([new(room)]), database_of(appender))[1])
    appender.close()
    appender.append([new(room)])
    assert appender._line is not None
    connection = appender._line._connection
    connection.pgconn.exit_pipeline_mode()
    key = "'00000000-0000-0000-0000-000000000001'"
    member = ("conversation_participants", "((conversation_id = {0}) AND (user_id = {1}))")
    stored = ("messages", "((sender_id = {1}) AND (client_id = {2}))")
    many = ("w.conversation_id", "w.sender_id", "w.client_id")
    alone = ("$1", "$2", "$3")
    for call, names, wanted in (
        (f"hhc_append ('{{1}}', '{{1}}', ARRAY[{key}::uuid], '{{x}}', NULL, '{{1}}')", many,
         [member, ("conversations", "(id = ANY ($6))"), ("conversations", "(id = {0})"), stored]),
        (f"hhc_append_one (1, 1, {key}, 'x')", alone, [member, ("conversations", "(id = {0})"), stored]),
    ):  # fmt: skip
        found = connection.execute(f"EXPLAIN (FORMAT JSON) EXECUTE {call}".encode()).fetchone()
        assert found is not None
        accesses = [
            node for node in nodes_of(found[0][0]["Plan"]) if "Scan" in node["Node Type"] and "Relation Name" in node
        ]
        assert {node["Node Type"] for node in accesses} <= {"Index Scan", "Index Only Scan"}
        assert sorted((node["Relation Name"], node.get("Index Cond")) for node in accesses) == [
            (table, condition.format(*names)) for table, condition in wanted
        ]


def nodes_of(plan: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield a plan's nodes."""
    yield plan
    for part in plan.get("Plans", ()):
        yield from nodes_of(part)


def test_removed_probes_leave_no_messages(pool: sa.Engine, appender: Appender) -> None:
    with pool.begin() as conn:
        probe = users.add(conn, username="probe", display_name="Probe", password_hash="-", is_probe=True)
        mine = conversations.create_group(conn, probe, "mine", [])
    appender.append([NewMessage(mine, probe, uuid4(), "x")])
    with pool.begin() as conn:
        conversations.delete(conn, [mine])
        users.delete(conn, [probe])
    with pool.connect() as conn:
        assert messages.page(conn, mine, after_seq=0, before_seq=None, limit=9) == []
    assert seqs(appender.append([NewMessage(mine, probe, uuid4(), "x")])) == [NotAMemberError]
