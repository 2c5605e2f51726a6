"""Conversations, memberships and read markers."""

from __future__ import annotations

import threading
from uuid import uuid4

import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from hockey_hub_chat.storage import conversations, messages, tables, users
from hockey_hub_chat.storage.messages import NewMessage


def add_users(conn: Connection, *names: str) -> list[int]:
    return [users.add(conn, username=name, display_name=name.title(), password_hash="-") for name in names]


def test_a_direct_conversation_exists_once(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
        made, is_new = conversations.create_direct(conn, bob, ann)
        assert is_new and conversations.create_direct(conn, ann, bob) == (made, False)
        assert conversations.find_direct(conn, bob, ann) == made
        assert conversations.member_ids(conn, made) == [ann, bob]


def test_both_may_open_it_at_the_same_moment(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
    barrier = threading.Barrier(4)
    results: list[tuple[int, bool]] = []

    def open_it(one: int, other: int) -> None:
        barrier.wait()
        with engine.begin() as conn:
            results.append(conversations.create_direct(conn, one, other))

    threads = [threading.Thread(target=open_it, args=pair) for pair in ((ann, bob), (bob, ann)) * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({made for made, _ in results}) == 1 and sum(is_new for _, is_new in results) == 1


def test_coming_and_going(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob, eve = add_users(conn, "ann", "bob", "eve")
        room = conversations.create_group(conn, ann, "room", [bob, bob, ann])
        assert conversations.member_ids(conn, room) == [ann, bob]
        assert not conversations.is_member(conn, room, eve) and conversations.get(conn, room, eve) is None
        messages.append_batch(conn, [NewMessage(room, ann, uuid4(), "x")] * 1)
        assert conversations.lock(conn, room) == 1
        assert conversations.add_member(conn, room, eve, 1)
        assert not conversations.add_member(conn, room, eve, 1)
        assert conversations.memberships(conn, eve) == {room: 1}
        seen = conversations.get(conn, room, eve)
        assert seen is not None and (seen.read_seq, [m.id for m in seen.members]) == (1, [ann, bob, eve])
        assert conversations.remove_member(conn, room, eve)
        assert not conversations.remove_member(conn, room, eve)
        assert conversations.memberships(conn, eve) == {} and conversations.list_for(conn, eve) == []
        assert conversations.add_member(conn, room, eve, 1), "one may come back"
        rows = conn.execute(
            sa.select(tables.conversation_participants).where(tables.conversation_participants.c.user_id == eve)
        ).all()
        assert len(rows) == 1 and rows[0].left_at is None
        assert conversations.rosters(conn, [room]) == {room: {ann: 0, bob: 0, eve: 1}}
        assert conversations.memberships_of(conn, [ann, eve]) == {ann: {room: 1}, eve: {room: 1}}
        assert conversations.lock(conn, 404) is None


def test_a_read_marker_only_moves_forward_and_not_past_the_end(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
        room = conversations.create_group(conn, ann, None, [])
        assert conversations.move_read(conn, room, ann, 5) is None, "nothing was said yet"
        messages.append_batch(conn, [NewMessage(room, ann, uuid4(), "x") for _ in range(4)])
        assert conversations.move_read(conn, room, ann, 2) == 2
        assert conversations.move_read(conn, room, ann, 1) is None
        assert conversations.move_read(conn, room, ann, 99) == 4
        assert conversations.move_read(conn, room, ann, 99) is None
        assert conversations.move_read(conn, room, bob, 1) is None
        assert conversations.move_read(conn, 404, ann, 1) is None


def test_the_list_shows_members_and_the_newest_message(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
        quiet = conversations.create_group(conn, bob, "quiet", [ann])
        busy, _ = conversations.create_direct(conn, ann, bob)
        messages.append_batch(conn, [NewMessage(busy, bob, uuid4(), text) for text in ("one", "two")])
        mine = {one.id: one for one in conversations.list_for(conn, ann)}
    assert list(mine) == [quiet, busy]
    assert (mine[quiet].kind, mine[quiet].name, mine[quiet].last_message) == ("group", "quiet", None)
    newest = mine[busy].last_message
    assert newest is not None and (newest.seq, newest.body, mine[busy].last_seq) == (2, "two", 2)


def test_people_are_found_by_any_part_of_their_names(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob, odd = add_users(conn, "ann", "bob", "odd_name")
        probe = users.add(conn, username="probe", display_name="Probe", password_hash="-", is_probe=True)
        users.disable(conn, users.add(conn, username="gone", display_name="Gone", password_hash="-"))

        def found(query: str, **more: bool) -> list[int]:
            return [user.id for user in users.search(conn, query, except_id=ann, limit=10, **more)]

        assert found("") == [bob, odd]
        assert found("OB") == [bob]
        assert found("_") == [odd] and found("%") == [] and found("\\") == []
        assert found("probe") == [] and found("", probes=True) == [probe]
        assert users.find(conn, " ANN ") is not None
        assert [user.id for user in users.find_active(conn, [ann, 404])] == [ann]
