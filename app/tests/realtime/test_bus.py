"""The bus: its wire, its memory of what could not be published, and a real Redis that is killed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import gevent
import orjson
import pytest
import redis
from gevent.event import Event
from hypothesis import given
from hypothesis import strategies as st

from harness.process import wait_until
from harness.redis_server import RedisServer
from hockey_hub_chat.config import Settings
from hockey_hub_chat.realtime import bus
from hockey_hub_chat.realtime.bus import (
    BusEvent,
    MembershipChanged,
    MemoryBus,
    MessageStored,
    OneWayBus,
    Poke,
    ReadPositionMoved,
    RedisBus,
    SessionEnded,
    TypingSeen,
    _origin,
    decode_events,
    encode_events,
)
from hockey_hub_chat.realtime.redis_client import make_client

IDS = st.integers(1, 2**53 - 1)
EVENTS = st.one_of(
    st.builds(MessageStored, IDS, IDS, st.text(st.characters(exclude_categories=["Cs"])).map(str.encode)),
    st.builds(Poke, IDS, IDS),
    st.builds(ReadPositionMoved, IDS, IDS, IDS),
    st.builds(TypingSeen, IDS, IDS),
    st.builds(MembershipChanged, IDS, IDS, st.sampled_from(["joined", "left"])),
    st.builds(SessionEnded, st.uuids()),
)


@given(st.lists(EVENTS, max_size=20))
def test_events_survive_their_journey(events: list[BusEvent]) -> None:
    assert decode_events(encode_events(events)) == events


def test_a_kind_of_a_newer_release_is_skipped() -> None:
    payload = orjson.dumps([["from the future", {"x": 1}], ["poke", {"conversation_id": 1, "seq": 2, "extra": 3}]])
    assert decode_events(payload) == [Poke(1, 2)]


def test_a_worker_of_the_previous_release_reads_what_concerns_it() -> None:
    """It passes over kinds it does not know, reads fields by name, and asks the database for what it is poked about."""
    messages = [MessageStored(1, seq, b"{}") for seq in (4, 5)]
    payload = encode_events([*messages, MessageStored(2, 9, b"{}"), ReadPositionMoved(1, 2, 3)], _origin(uuid4()))
    entries = orjson.loads(payload)
    assert all(len(entry) == 2 and isinstance(entry[0], str) and isinstance(entry[1], dict) for entry in entries)
    known = [(kind, fields) for kind, fields in entries if kind in ("poke", "read", "message")]
    assert [(kind, fields["conversation_id"], fields["seq"]) for kind, fields in known] == [
        ("poke", 1, 5),
        ("poke", 2, 9),
        ("read", 1, 3),
    ]


def test_messages_stay_in_their_place_among_the_others() -> None:
    events: list[BusEvent] = [
        MessageStored(1, 1, b"{}"),
        MembershipChanged(1, 5, "left"),
        MessageStored(1, 2, b"{}"),
        Poke(1, 2),
    ]
    assert decode_events(encode_events(events, _origin(uuid4()))) == events


class Publisher:
    """Stands for the connection that publishes; keeps what it is given, and waits while ``gate`` is not set."""

    def __init__(self) -> None:
        self.payloads: list[bytes] = []
        self.gate = Event()
        self.gate.set()

    def ask(self, *command: Any) -> int:
        """Take a PUBLISH."""
        self.gate.wait()
        self.payloads.append(command[2])
        return 1


@pytest.fixture
def publishing() -> Iterator[tuple[RedisBus, Publisher, list[BusEvent]]]:
    """A bus whose publisher can be held up, and what its own hub heard."""
    made = RedisBus(lambda: pytest.fail("nothing connects here"))
    heard: list[BusEvent] = []
    made._on_events = heard.extend
    publisher = Publisher()
    made._publisher = publisher  # type: ignore[assignment]
    greenlet = gevent.spawn(made._publish_loop)
    yield made, publisher, heard
    greenlet.kill()


def test_own_sockets_do_not_wait_for_redis(publishing: tuple[RedisBus, Publisher, list[BusEvent]]) -> None:
    redis_bus, publisher, heard = publishing
    publisher.gate.clear()
    redis_bus.publish([MessageStored(1, 1, b"{}"), Poke(2, 2)])
    assert heard == [MessageStored(1, 1, b"{}"), Poke(2, 2)] and publisher.payloads == []
    redis_bus.publish([MembershipChanged(1, 5, "left")])  # waits half a second for a publish that does not come
    assert heard[2:] == [MembershipChanged(1, 5, "left")]


def test_what_is_published_meanwhile_goes_in_one(publishing: tuple[RedisBus, Publisher, list[BusEvent]]) -> None:
    redis_bus, publisher, _ = publishing
    publisher.gate.clear()
    for seq in range(1, 21):
        redis_bus.publish([MessageStored(1, seq, b"{}")])
        if seq == 1:
            gevent.sleep(0)
    publisher.gate.set()
    redis_bus.publish([SessionEnded(UUID(int=1))])  # returns when it is on its way
    assert [len(decode_events(payload)) for payload in publisher.payloads] == [1, 20]


def test_own_events_that_come_back_are_known_by_their_first_bytes(
    publishing: tuple[RedisBus, Publisher, list[BusEvent]],
) -> None:
    redis_bus, publisher, _ = publishing
    other = RedisBus(lambda: pytest.fail("nothing connects here"))
    redis_bus.publish([SessionEnded(UUID(int=1))])
    (payload,) = publisher.payloads
    assert payload.startswith(redis_bus._origin) and not payload.startswith(other._origin)


def test_what_cannot_be_published_is_remembered_in_its_smallest_form() -> None:
    redis_bus = RedisBus(lambda: pytest.fail("nothing connects here"))
    session = uuid4()
    redis_bus._merge(
        [
            *(MessageStored(1, seq, b"x" * 1000) for seq in (1, 3, 2)),
            *(ReadPositionMoved(1, 5, seq) for seq in (4, 9, 2)),
            MembershipChanged(1, 5, "joined"),
            MembershipChanged(1, 5, "left"),
            SessionEnded(session),
            SessionEnded(session),
            TypingSeen(1, 5),
        ]
    )
    assert redis_bus._next_batch() == [
        Poke(1, 3),
        ReadPositionMoved(1, 5, 9),
        MembershipChanged(1, 5, "left"),
        SessionEnded(session),
    ]


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bus, "MAX_MERGED", 100)
    redis_bus = RedisBus(lambda: pytest.fail("nothing connects here"))
    redis_bus._merge(Poke(number, 1) for number in range(1000))
    redis_bus._merge([Poke(5, 2)])
    assert len(redis_bus._merged) == 100
    assert redis_bus._merged["message", 5] == Poke(5, 2)


def test_the_bus_of_one_process_calls_straight_through() -> None:
    memory = MemoryBus()
    memory.publish([Poke(1, 1)])  # before anybody listens: nothing
    heard: list[BusEvent] = []
    memory.start(heard.extend, lambda: None)
    memory.publish([Poke(1, 2)])
    assert heard == [Poke(1, 2)] and memory.healthy


class BusProcess:
    """``bus_worker`` in a process of its own, because gevent must patch it from the start."""

    def __init__(self, url: str) -> None:
        here = Path(__file__).resolve().parent
        self.process = subprocess.Popen(
            [sys.executable, str(here / "bus_worker.py"), url],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, "PYTHONPATH": f"{here.parent}:{here.parents[1] / 'src'}"},
        )
        self.heard: list[dict[str, Any]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()
        wait_until(lambda: self.of("subscribed"), 15, "the subscription")

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.startswith('{"kind"'):
                self.heard.append(json.loads(line))

    def say(self, line: str) -> None:
        """Publish something."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def of(self, *kinds: str) -> list[dict[str, Any]]:
        """What was heard of these kinds."""
        return [event for event in list(self.heard) if event["kind"] in kinds]

    def newest(self, conversation_id: int) -> int:
        """The newest seq this process knows to exist, by message or poke."""
        told = self.of("MessageStored", "Poke")
        return max((event["seq"] for event in told if event["conversation_id"] == conversation_id), default=0)

    def close(self) -> None:
        """End it."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.close()
        self.process.wait(10)
        self._reader.join(5)
        self.process.stdout.close()


@pytest.fixture
def mortal(make_redis: Callable[[], RedisServer]) -> RedisServer:
    """A Redis to be killed."""
    return make_redis()


@pytest.fixture
def pair(mortal: RedisServer) -> Iterator[tuple[BusProcess, BusProcess]]:
    """Two workers on it."""
    made = BusProcess(mortal.url), BusProcess(mortal.url)
    yield made
    for process in made:
        process.close()


def test_events_reach_every_worker_the_publisher_included(pair: tuple[BusProcess, BusProcess]) -> None:
    one, other = pair
    session = UUID(int=7)
    for line in ("message 1 1", "left 1 5", f"end {session}", "read 1 5 3", "typing 1 5"):
        one.say(line)
    kinds = {"MessageStored", "MembershipChanged", "SessionEnded", "ReadPositionMoved", "TypingSeen"}
    for process in pair:
        wait_until(partial(has_kinds, process, kinds), 5, "every event")
    assert other.of("MessageStored")[0]["payload"] == '{"body":"b1"}'
    assert other.of("SessionEnded")[0]["session_id"] == str(session)


def test_the_command_line_is_heard_and_survives_a_dead_redis(
    mortal: RedisServer, pair: tuple[BusProcess, BusProcess]
) -> None:
    client = make_client(Settings(redis_url=mortal.url))
    command = OneWayBus(client)
    command.publish([SessionEnded(UUID(int=3))])
    for process in pair:
        wait_until(partial(has_kinds, process, {"SessionEnded"}), 5, "the session's end")
    mortal.kill9()
    command.publish([SessionEnded(UUID(int=4))])
    command.close()


@pytest.mark.parametrize("round_", [1, 2])
def test_kill9_of_redis_loses_nothing_but_typing(
    mortal: RedisServer, pair: tuple[BusProcess, BusProcess], round_: int
) -> None:
    one, other = pair
    for seq in range(1, 101):
        one.say(f"message 1 {seq}")
        other.say(f"message 2 {seq}")
        if seq == 50:
            mortal.kill9()
            one.say(f"end {UUID(int=9)}")
            one.say("left 3 4")
            one.say("read 1 5 77")
    wait_until(lambda: one.newest(1) == 100, 5, "own events reach own sockets without Redis")
    assert other.newest(1) < 100
    wait_until(lambda: one.of("missed") and other.of("missed"), 5, "both notice")
    before = {process: len(process.heard) for process in pair}
    mortal.start()
    for process in pair:
        # Whoever subscribes after the other has published is told to compare instead: see Hub.on_missed.
        wait_until(partial(has_all_or_compares, process, before[process]), 10, "every event")
    for number, process in enumerate(pair):
        process.say(f"message 1 {101 + number}")
        for hearing in pair:
            wait_until(partial(has_newest, hearing, 101 + number), 5, "the bus is back")
    assert len(one.of("MembershipChanged")) >= 1 and len(one.of("SessionEnded")) >= 1, "its own sockets were not told"


def test_own_events_reach_own_sockets_once(pair: tuple[BusProcess, BusProcess]) -> None:
    one, other = pair
    for seq in range(1, 51):
        one.say(f"message 1 {seq}")
    one.say("read 1 5 50")
    for process in pair:
        wait_until(lambda process=process: process.of("ReadPositionMoved"), 5, "the last event")  # type: ignore[misc]
        assert [event["seq"] for event in process.of("MessageStored")] == list(range(1, 51))
    other.say("read 1 6 50")  # comes after whatever could still come back
    wait_until(lambda: len(one.of("ReadPositionMoved")) == 2, 5, "the other's event")
    assert len(one.of("MessageStored")) == 50 and not one.of("Poke")


def has_kinds(process: BusProcess, kinds: set[str]) -> bool:
    """Whether a process was told events of all these kinds."""
    return {event["kind"] for event in process.heard} >= kinds


def has_newest(process: BusProcess, seq: int) -> bool:
    """Whether a process knows conversation 1 to have reached ``seq``."""
    return process.newest(1) == seq


def has_all_or_compares(process: BusProcess, since: int) -> bool:
    """Whether a process was told everything, or, after ``since``, to compare with the database once subscribed."""
    told = process.newest(1) == process.newest(2) == 100
    kinds = {event["kind"] for event in process.heard}
    marker = [event["seq"] for event in process.of("ReadPositionMoved")][-1:] == [77]
    everything = told and marker and {"SessionEnded", "MembershipChanged"} <= kinds
    return everything or "missed" in [event["kind"] for event in process.heard[since:]]


def test_a_payload_nobody_can_read_leaves_the_subscription_standing() -> None:
    missed: list[int] = []
    bus = RedisBus(redis.Redis)  # never connected: only what it hears is tried
    bus._on_missed = lambda: missed.append(1)
    for payload in (b"hello", b'[["typing",{}]]', b"\xff"):
        bus._take(payload)
    assert len(missed) == 3
