"""Appending: who gets which seq, and which bad message fails alone. ``append_batch`` and the appender have the same rules."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from uuid import UUID, uuid4

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from hockey_hub_chat.errors import ChatError, ConflictError, NotAMemberError, ValidationError
from hockey_hub_chat.storage import conversations, messages, tables, users
from hockey_hub_chat.storage.appender import Appender
from hockey_hub_chat.storage.engine import connector
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage

Append = Callable[..., list[StoredMessage | ChatError]]
Room = tuple[int, int, int]

pytestmark = pytest.mark.parametrize(
    ("engine", "append"),
    [("sqlite", "statements"), ("postgresql", "statements"), ("postgresql", "appender")],
    indirect=True,
)


def add_users(conn: Connection, *names: str) -> list[int]:
    return [users.add(conn, username=name, display_name=name.title(), password_hash="-") for name in names]


@pytest.fixture
def room(engine: Engine, append: Append) -> Room:
    """(conversation, ann, bob); asks for ``append`` so that every test is run with each."""
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
        return conversations.create_group(conn, ann, "room", [bob]), ann, bob


@pytest.fixture
def append(request: pytest.FixtureRequest, engine: Engine) -> Iterator[Append]:
    """Store a batch in a transaction of its own, by one of the two ways."""

    def by_statements(*batch: NewMessage) -> list[StoredMessage | ChatError]:
        with engine.begin() as conn:
            return messages.append_batch(conn, batch)

    if request.param == "statements":
        yield by_statements
        return
    connect = connector(engine)
    assert connect is not None
    appender = Appender(connect)
    yield lambda *batch: appender.append(batch)
    appender.close()


def new(room: int, sender: int, body: str = "x", client_id: UUID | None = None) -> NewMessage:
    return NewMessage(room, sender, client_id or uuid4(), body)


def seqs(results: list[StoredMessage | ChatError]) -> list[int | type]:
    return [one.seq if isinstance(one, StoredMessage) else type(one) for one in results]


def test_seqs_follow_the_batch_in_each_conversation(engine: Engine, append: Append, room: Room) -> None:
    one, ann, bob = room
    with engine.begin() as conn:
        two = conversations.create_group(conn, bob, "two", [ann])
    results = append(new(two, ann), new(one, bob), new(two, bob), new(one, ann))
    assert seqs(results) == [1, 1, 2, 2]
    assert seqs(append(new(one, ann))) == [3]
    with engine.connect() as conn:
        assert messages.last_seqs(conn, [one, two, 999]) == {one: 3, two: 2}


def test_what_is_answered_is_what_is_stored(engine: Engine, append: Append, room: Room) -> None:
    one, ann, _ = room
    (stored,) = append(new(one, ann, "äöü 🏒\n\t‮ x" * 3))
    assert isinstance(stored, StoredMessage)
    with engine.connect() as conn:
        (read,) = messages.page(conn, one, after_seq=None, before_seq=None, limit=10)
    assert read == stored


def test_a_retry_is_the_first_result(append: Append, room: Room) -> None:
    one, ann, bob = room
    key = uuid4()
    (first,) = append(new(one, ann, "hi", key))
    again, fresh = append(new(one, ann, "hi", key), new(one, ann))
    assert isinstance(first, StoredMessage) and isinstance(again, StoredMessage)
    assert first.is_new and not again.is_new
    assert (again.seq, again.created_at) == (first.seq, first.created_at)
    assert isinstance(fresh, StoredMessage) and fresh.seq == 2
    assert seqs(append(new(one, bob, "hi", key))) == [3]  # another sender's key is another key


def test_a_retry_inside_one_batch_is_one_message(append: Append, room: Room) -> None:
    one, ann, _ = room
    key = uuid4()
    results = append(new(one, ann, "hi", key), new(one, ann, "hi", key), new(one, ann, "ho", key))
    assert seqs(results) == [1, 1, ConflictError]
    assert [one.is_new for one in results if isinstance(one, StoredMessage)] == [True, False]


def test_a_key_used_for_another_message_is_a_conflict(engine: Engine, append: Append, room: Room) -> None:
    one, ann, _ = room
    key = uuid4()
    with engine.begin() as conn:
        two = conversations.create_group(conn, ann, "two", [])
    append(new(one, ann, "hi", key))
    assert seqs(append(new(one, ann, "other", key), new(two, ann, "hi", key))) == [ConflictError] * 2


def test_a_bad_message_fails_alone(engine: Engine, append: Append, room: Room) -> None:
    one, ann, _ = room
    with engine.begin() as conn:
        (eve,) = add_users(conn, "eve")
    results = append(
        new(one, ann),
        new(one, eve),
        new(404, ann),
        new(one, ann, "a\x00b"),
        new(one, ann, "\ud800"),
        new(one, ann),
    )
    assert seqs(results) == [1, NotAMemberError, NotAMemberError, ValidationError, ValidationError, 2]


def test_a_key_whose_first_use_failed_is_free(append: Append, room: Room) -> None:
    one, ann, _ = room
    key = uuid4()
    assert seqs(append(new(404, ann, "hi", key), new(one, ann, "hi", key))) == [NotAMemberError, 1]


def test_who_left_cannot_send_but_learns_what_was_stored(engine: Engine, append: Append, room: Room) -> None:
    one, _, bob = room
    key = uuid4()
    append(new(one, bob, "hi", key))
    with engine.begin() as conn:
        assert conversations.remove_member(conn, one, bob)
    assert seqs(append(new(one, bob, "hi", key), new(one, bob))) == [1, NotAMemberError]


def test_a_batch_rolled_back_leaves_no_gap(engine: Engine, append: Append, room: Room) -> None:
    one, ann, _ = room
    with engine.connect() as conn:
        assert seqs(messages.append_batch(conn, [new(one, ann), new(one, ann)])) == [1, 2]
        conn.rollback()
    assert seqs(append(new(one, ann))) == [1]


def test_times_do_not_run_backwards(engine: Engine, append: Append, room: Room) -> None:
    one, ann, _ = room
    for _ in range(5):
        append(new(one, ann), new(one, ann))
    with engine.connect() as conn:
        times = [m.created_at for m in messages.page(conn, one, after_seq=0, before_seq=None, limit=50)]
    assert times == sorted(times) and all(time.tzinfo is not None for time in times)


@pytest.mark.parametrize(
    ("after", "before", "limit", "wanted"),
    [
        (None, None, 3, [8, 9, 10]),
        (None, 5, 3, [2, 3, 4]),
        (None, 2, 3, [1]),
        (4, None, 3, [5, 6, 7]),
        (9, None, 3, [10]),
        (10, None, 3, []),
        (4, 7, 10, [5, 6]),
        (None, 1, 3, []),
    ],
)
def test_pages(
    engine: Engine,
    append: Append,
    room: Room,
    after: int | None,
    before: int | None,
    limit: int,
    wanted: list[int],
) -> None:
    one, ann, _ = room
    append(*(new(one, ann, str(number)) for number in range(10)))
    with engine.connect() as conn:
        found = messages.page(conn, one, after_seq=after, before_seq=before, limit=limit)
    assert [message.seq for message in found] == wanted


def test_the_database_refuses_what_the_code_should_not_write(engine: Engine, append: Append, room: Room) -> None:
    one, ann, _ = room
    key = uuid4()
    append(new(one, ann, "hi", key))
    row = {"conversation_id": one, "seq": 2, "sender_id": ann, "client_id": key, "body": "twice"}
    for bad in (row, {**row, "seq": 1, "client_id": uuid4()}):
        with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
            conn.execute(sa.insert(tables.messages), [bad])
