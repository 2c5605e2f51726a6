"""``kill -9`` of any one process while people talk: nothing acknowledged is lost, nothing arrives twice, the site is back.

What systemd does on a host (start the unit again) the tests do here. Everything else the site has to do by itself.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import ConnectionClosed

from harness.chat import ChatServer, Keys
from harness.checker import check
from harness.client import ChatClient, Connection, Sent
from harness.people import Person
from harness.postgres import Postgres
from harness.process import Workshop, children_of, wait_until
from harness.raw import RawSocket
from harness.redis_server import RedisServer
from harness.rooms import make_room
from harness.talk import Talk, new_seed

#: Closes a client may see while a part of the site is killed; 1011 (our mistake) is not among them.
FAIR_CLOSES = {None, 1000, 1001, 1006, 1012, 1013}


@pytest.fixture(scope="module")
def durable_postgres(make_postgres: Callable[..., Postgres]) -> Postgres:
    """A PostgreSQL that syncs, to be killed."""
    return make_postgres(durable=True)


@pytest.fixture(scope="module")
def mortal_redis(make_redis: Callable[[], RedisServer]) -> RedisServer:
    """A Redis to be killed."""
    return make_redis()


@pytest.fixture(scope="module")
def durable_template(durable_postgres: Postgres) -> str:
    """The migrated template in the PostgreSQL to be killed."""
    return durable_postgres.migrated_template()


@dataclass
class Victims:
    """A site of which every process may be killed."""

    server: ChatServer
    postgres: Postgres
    redis: RedisServer
    seed: int

    def talk(self, people: int = 2, rooms: int = 2, **options: Any) -> Talk:
        """Return people who talk."""
        names = [f"p{uuid.uuid4().hex[:8]}" for _ in range(people)]
        who = self.server.people.add(*names)
        return Talk([self.server], who, [self.server.people.group(who) for _ in range(rooms)], self.seed, **options)


@pytest.fixture(scope="module")
def mortal_server(
    workshop: Workshop, keys: Keys, durable_postgres: Postgres, durable_template: str, mortal_redis: RedisServer
) -> Iterator[ChatServer]:
    """A site of two workers on the daemons to be killed."""
    server = ChatServer(workshop, keys, durable_postgres.create_database(durable_template), mortal_redis.env)
    try:
        yield server
    finally:
        server.destroy()


@pytest.fixture
def victims(mortal_server: ChatServer, durable_postgres: Postgres, mortal_redis: RedisServer) -> Iterator[Victims]:
    """The site, whole again whatever the test before did to it; nothing may be logged as a traceback."""
    for daemon in (durable_postgres, mortal_redis, mortal_server):
        if not daemon.running:
            daemon.start()
    mortal_server.wait_ready()
    mortal_server.wait_all_workers()
    since = len(mortal_server.logs())
    yield Victims(mortal_server, durable_postgres, mortal_redis, new_seed())
    said = mortal_server.logs()[since:]
    assert "Traceback" not in said, said[-8000:]


def test_kill9_of_a_worker(victims: Victims) -> None:
    with victims.talk() as talk:
        for index in (0, 1, 0):
            talk.go_on(20)
            talk.a_moment()
            victims.server.kill9_worker(index)
            talk.go_on(10)
        assert len(victims.server.wait_all_workers()) == 2
    assert {code for client in talk.clients for code in client.close_codes()} <= FAIR_CLOSES
    assert sum(len(client.connections) for client in talk.clients) > 2, "nobody noticed"


def test_kill9_of_the_master(victims: Victims) -> None:
    with victims.talk() as talk:
        for _ in range(2):
            talk.go_on(20)
            talk.a_moment()
            victims.server.kill9_master()
            talk.go_on(20)


def test_orphaned_workers_leave_by_themselves(victims: Victims) -> None:
    workers = victims.server.wait_all_workers()
    victims.server.kill9_master(supervised=False)
    wait_until(lambda: not any(victims.server.lives(pid) for pid in workers), 20, "orphaned workers have left")
    victims.server.start()


def test_kill9_of_postgres(victims: Victims) -> None:
    with victims.talk() as talk:
        for _ in range(2):
            talk.go_on(20)
            talk.a_moment()
            victims.postgres.kill9()
            victims.postgres.start()
            talk.go_on(20)
    assert {code for client in talk.clients for code in client.close_codes()} <= FAIR_CLOSES
    assert all(len(client.connections) == 1 for client in talk.clients), "sockets need not fall with the database"


def test_kill9_of_one_postgres_backend(victims: Victims) -> None:
    """The postmaster then ends all others and recovers: every pooled connection of every worker breaks at once."""
    with victims.talk() as talk:
        talk.go_on(20)
        backend = victims.postgres.admin(
            "SELECT pid FROM pg_stat_activity WHERE usename = 'chat_user' ORDER BY query_start DESC LIMIT 1"
        )
        os.kill(backend[0][0], signal.SIGKILL)
        talk.go_on(20)


def test_kill9_of_redis(victims: Victims) -> None:
    with victims.talk() as talk:
        for _ in range(2):
            talk.go_on(20)
            talk.a_moment()
            victims.redis.kill9()
            talk.go_on(20)
            victims.redis.start()
            talk.go_on(20)
    assert all(len(client.connections) == 1 for client in talk.clients), "sockets need not fall with Redis"


def test_everything_killed_in_turn(victims: Victims) -> None:
    with victims.talk(people=4, rooms=3) as talk:
        talk.go_on(10)
        victims.redis.kill9()
        victims.server.kill9_worker(0)
        talk.go_on(5)
        victims.postgres.kill9()
        victims.redis.start()
        victims.postgres.start()
        talk.go_on(5)
        victims.server.kill9_master()
        talk.go_on(10)


@pytest.fixture
def other_server(workshop: Workshop, keys: Keys, victims: Victims) -> Iterator[ChatServer]:
    """A second server of the same site."""
    site = {"PUBLIC_URL": victims.server.origin}
    other = ChatServer(workshop, keys, victims.server.database_url, victims.redis.env, workers=1, env=site)
    try:
        other.start()
        yield other
    finally:
        other.destroy()


@pytest.mark.parametrize("how", ["stopped", "frozen"])
def test_without_redis_delivery_goes_on_within_two_seconds(
    victims: Victims, other_server: ChatServer, how: str
) -> None:
    """Somebody silent on another server: nothing but asking the database can bring them the messages."""
    seconds = 10.0 if how == "stopped" else 4.0
    talkers = victims.server.people.add(*(f"{how}{n}" for n in range(3)))
    room = victims.server.people.group(talkers)
    listener = ChatClient([other_server], talkers.pop())
    listener.start({room: 0})
    with Talk([victims.server], talkers, [room], victims.seed, pause=0.2) as talk:
        talk.go_on(5)
        if how == "stopped":
            victims.redis.stop()
        else:
            victims.redis.send_signal(signal.SIGSTOP)
        gone = time.monotonic()
        wait_until(lambda: time.monotonic() > gone + seconds, seconds + 1, "the time without Redis is over")
        if how == "stopped":
            victims.redis.start()
        else:
            victims.redis.send_signal(signal.SIGCONT)
        back = time.monotonic()
        talk.go_on(25)
    listener.wait_seq(room, victims.server.people.last_seq(room))
    listener.close()
    check(victims.server.people.history(room), [*talk.clients, listener]).assert_clean()
    during, after = [], []
    for sender in talk.clients:
        for receiver in (*talk.clients, listener):
            arrivals = receiver.arrivals()
            for sent in sender.sent.values():
                delay = arrivals[sent.client_id] - sent.at
                if gone < sent.at < back - 2.5:
                    during.append(delay)
                elif sent.at > back + 2.5:
                    after.append(delay)
    print(f"{len(during)} deliveries while Redis was {how}: worst {max(during):.2f} s; after: worst {max(after):.2f} s")
    assert len(during) > 15
    assert max(during) < 3.0
    assert max(after) < 1.0, "the bus did not come back"


def test_a_send_waits_for_the_database_then_says_unavailable(victims: Victims) -> None:
    room = make_room(victims.server)
    with RawSocket(victims.server, room.login(), timeout=25) as ws:
        ws.resume()
        key = str(uuid.uuid4())
        victims.postgres.kill9()
        started = time.monotonic()
        ws.send_json(type="send", client_id=key, conversation_id=room.id, body="patient")
        error = ws.expect("error")
        took = time.monotonic() - started
        assert (error["code"], error["client_id"], error["retryable"]) == ("unavailable", key, True)
        assert 8 < took < 15, f"answered after {took:.1f} s"
        ws.send_json(type="ping", nonce="still open")
        assert ws.expect("pong")["nonce"] == "still open"
        victims.postgres.start()
        ws.send_json(type="send", client_id=key, conversation_id=room.id, body="patient")
        assert ws.expect("ack")["seq"] == 1
    assert [row.client_id for row in victims.server.people.history(room.id)] == [key]


# --- leaving politely ------------------------------------------------------------------------------------------------


@dataclass
class Listener:
    """A silent member on an asyncio socket; keeps what ``checker`` wants."""

    person: Person
    cookie: str
    room: int
    connections: list[Connection] = field(default_factory=list)
    acks: list[tuple[str, int, int]] = field(default_factory=list)
    sent: dict[str, Sent] = field(default_factory=dict)
    pending: dict[str, Sent] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)
    cursor: int | None = None
    closed_at: float = 0.0

    async def listen(self, server: ChatServer, until_seq: int | None = None) -> None:
        """Read until the socket closes, or until ``until_seq`` has arrived."""
        headers = {"Cookie": f"hhc_access={self.cookie}"}
        cursors = {} if self.cursor is None else {self.room: self.cursor}
        async with connect(
            f"ws://127.0.0.1:{server.port}/ws",
            additional_headers=headers,
            origin=server.origin,  # type: ignore[arg-type]  # any text
            compression=None,
            ping_interval=None,
            open_timeout=30,
            close_timeout=2,
            proxy=None,
        ) as ws:
            record = Connection(len(self.connections), dict(cursors))
            self.connections.append(record)
            try:
                await ws.send(json.dumps({"type": "resume", "cursors": {str(k): v for k, v in cursors.items()}}))
                while until_seq is None or (self.cursor or 0) < until_seq or not record.resumed:
                    frame = json.loads(await ws.recv())
                    record.frames.append(frame)
                    if frame["type"] == "message":
                        self.cursor = frame["seq"]
                    elif frame["type"] == "resumed":
                        record.resumed = True
                        if self.cursor is None:
                            self.cursor = frame["last_seqs"][str(self.room)]
            except ConnectionClosed as closed:
                record.close_code = closed.rcvd.code if closed.rcvd else None
            self.closed_at = time.monotonic()


def test_sigterm_drains_200_sockets_within_5_seconds(victims: Victims) -> None:
    server = victims.server
    since = len(server.logs())
    people = server.people.add(*(f"listener{n}" for n in range(20)))
    talkers = server.people.add("talker1", "talker2")
    room = server.people.group([*people, *talkers])
    listeners = []
    for person in people:
        api = server.api()
        api.login(person.username, person.password).expect(200)
        listeners += [Listener(person, api.cookies["hhc_access"], room) for _ in range(10)]
    talk = Talk([server], talkers, [room], victims.seed, pause=0.1)
    took = 0.0

    async def first_half() -> None:
        nonlocal took
        tasks = [asyncio.create_task(listener.listen(server)) for listener in listeners]
        while not all(listener.connections and listener.connections[0].resumed for listener in listeners):
            done = [task for task in tasks if task.done()]
            assert not done, f"a listener left early: {done[0].exception()}"
            await asyncio.sleep(0.02)
        await asyncio.to_thread(talk.go_on, 5)
        started = time.monotonic()
        await asyncio.to_thread(server.stop)
        await asyncio.gather(*tasks)
        took = max(listener.closed_at for listener in listeners) - started

    async def second_half(last: int) -> None:
        await asyncio.gather(*(listener.listen(server, until_seq=last) for listener in listeners))

    with talk:
        asyncio.run(first_half())
        server.start()
        talk.go_on(5)
    asyncio.run(second_half(server.people.last_seq(room)))
    print(f"200 sockets were closed in {took:.2f} s")
    assert took < 5
    for listener in listeners:
        first = listener.connections[0]
        assert first.close_code == 1012, f"closed with {first.close_code}"
        assert [f["reconnect_after_ms"] >= 0 for f in first.of_type("drain")] == [True], "no drain frame, or several"
    waits = {listener.connections[0].of_type("drain")[0]["reconnect_after_ms"] for listener in listeners}
    assert len(waits) > 20, "all would come back at the same moment"
    check(server.people.history(room), [*talk.clients, *listeners]).assert_clean()
    server.assert_quiet(since)


def test_what_a_draining_worker_holds_is_answered(victims: Victims) -> None:
    server = victims.server
    room = make_room(server)
    ws = RawSocket(server, room.login())
    ws.resume()
    keys = [str(uuid.uuid4()) for _ in range(100)]
    for key in keys:
        ws.send_json(type="send", client_id=key, conversation_id=room.id, body="last words")
    ws.expect("ack")
    leaving = threading.Thread(target=server.stop)
    leaving.start()
    assert ws.close_code() == 1012
    leaving.join()
    acked = {f["client_id"] for f in ws.frames if f["type"] == "ack"}
    stored = {row.client_id for row in server.people.history(room.id)}
    assert acked == stored == set(keys), f"{len(acked)} acknowledged, {len(stored)} stored"


def test_a_slow_reader_is_closed_with_4408_and_slows_nobody(victims: Victims) -> None:
    server = victims.server
    room = make_room(server)
    closed = server.metric("chat_slow_consumers_closed_total")
    with RawSocket(server, room.login(room.bob)) as slow, ChatClient([server], room.alice) as alice:
        slow.resume()
        with ChatClient([server], room.bob) as quick:
            body = "x" * 8000
            deadline = time.monotonic() + 60
            sent = 0
            while server.metric("chat_slow_consumers_closed_total") == closed:
                assert time.monotonic() < deadline, "the slow reader was never closed"
                alice.wait_acked(*[alice.send(room.id, body) for _ in range(50)])
                sent += 50
            quick.wait_seq(room.id, sent)
            received = 0
            while (frame := slow.receive()) is not None:
                received += frame["type"] == "message"
            assert slow.closed_with in (4408, None)
            assert received < sent
        with RawSocket(server, room.login(room.bob)) as back:
            back.resume({room.id: received})
            assert [f["seq"] for f in back.frames if f["type"] == "message"][-1] == sent


def test_two_servers_on_one_database_and_bus_are_one_site(victims: Victims, other_server: ChatServer) -> None:
    """A new release starts beside the old one: people on both talk to each other, and all move over without a loss."""
    people = victims.server.people.add("old", "new")
    room = victims.server.people.group(people)
    with Talk([victims.server, other_server], people, [room], victims.seed) as talk:
        talk.go_on(20)
        victims.server.stop()
        talk.go_on(20)
    assert children_of(other_server.pid)
