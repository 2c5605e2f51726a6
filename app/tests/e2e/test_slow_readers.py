"""Clients that do not read, or write more than anybody should: the others get every message, and memory stays bounded."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from harness.chat import ChatServer
from harness.checker import check
from harness.client import ChatClient
from harness.crowd import Crowd
from harness.masses import make_masses
from harness.process import pss_bytes
from harness.raw import PING, TEXT, RawSocket, frame
from harness.rooms import Room, make_room
from harness.talk import new_seed

#: Members of the large room; every twentieth does not read.
MEMBERS = int(os.environ.get("HHC_TEST_SLOW_MEMBERS") or 1_000)
STALLED = MEMBERS // 20
#: What the application may keep for one reader that does not read.
OUTBOX_BYTES = 1024 * 1024
#: What a small room may take in passing: batches, recent messages, what is on its way to everybody.
PASSING_BYTES = 20 * 2**20
#: What the kernel keeps for it on our side; it doubles this.
SMALL_BUFFER = 2_048
BODY = "x" * 7_900
#: More than an outbox and the kernel's buffers hold on any machine.
MAX_MESSAGES = 2_000
#: What a resume still brings over the socket; past that a ``gap`` tells what to page.
RESUME_MESSAGES = 500
#: Messages on their way at once. More and the readers of a busy machine would themselves be a full outbox behind.
WINDOW = 20


@dataclass
class Memory:
    """How much the only worker of a server has grown."""

    server: ChatServer
    before: int = field(init=False)
    most: int = field(init=False)

    def __post_init__(self) -> None:
        self.before = self.most = self._now()

    def _now(self) -> int:
        (worker,) = self.server.wait_all_workers()
        return pss_bytes(worker)

    def look(self) -> None:
        """Take a sample."""
        self.most = max(self.most, self._now())

    @property
    def growth(self) -> int:
        """Bytes between the first sample and the largest."""
        return self.most - self.before

    def __str__(self) -> str:
        return f"{self.before / 2**20:.1f} MiB before, {self.growth / 2**20:.1f} MiB more at most"


def test_stalled_readers_of_a_large_room_slow_nobody_and_get_the_rest_later(
    own_site: Callable[..., ChatServer],
) -> None:
    server = own_site(workers=1)
    masses = make_masses(server, MEMBERS)
    club = masses.club
    (talker,) = server.people.add("talker")
    server.people.join(club, talker)
    with (
        Crowd(("127.0.0.1", server.port), server.origin, seed=new_seed()) as crowd,
        ChatClient([server], talker) as sender,
    ):
        for number, (person, token) in enumerate(zip(masses.people, masses.tokens, strict=True)):
            stalls = number < STALLED
            crowd.join(person.id, token, stalls=stalls, receive_buffer=SMALL_BUFFER if stalls else None)
        stalled, readers = crowd.members[:STALLED], crowd.members[STALLED:]
        crowd.wait_live(120)
        memory = Memory(server)
        sent = 0
        while server.metric("chat_slow_consumers_closed_total") < STALLED:
            assert sent < MAX_MESSAGES, "not all of those that do not read were closed"
            sender.wait_acked(*[sender.send(club, BODY) for _ in range(WINDOW)], timeout=60)
            sent += WINDOW
            memory.look()
        crowd.wait_seq(club, sent, 120, readers)
        memory.look()
        print(f"{STALLED} of {MEMBERS} did not read {sent} messages: {memory}")
        assert not crowd.problems, crowd.problems[:10]
        assert [m.number for m in readers if m.closes or m.gaps] == [], "some who did read were closed"
        assert all(m.received == sent for m in readers)
        # full outboxes, if each had its own copy of everything; nobody else is owed anything for long
        assert memory.growth < max(STALLED * OUTBOX_BYTES, PASSING_BYTES), str(memory)
        assert all(m.received < sent for m in stalled)
        for member in stalled:
            crowd.read_on(member)
        crowd.wait_seq(club, sent, 120, stalled)
        codes = Counter(m.closes[0].code for m in stalled)
        print(f"those who did not read were closed with {dict(codes)}")
        assert codes.keys() <= {4408, None}, codes
        assert not crowd.problems, crowd.problems[:10]
        for member in stalled:
            expected = sent - member.skipped
            assert member.received == expected, f"a resume left something out: {member.received} of {expected}"
            assert (member.skipped > RESUME_MESSAGES) == (member.gaps == 1), f"a gap over {member.skipped} messages"
        crowd.assert_same(server.people.history(club))
    server.assert_quiet()


@pytest.fixture
def lone_worker(own_site: Callable[..., ChatServer]) -> ChatServer:
    """A site of one worker, so that everybody in the test shares it."""
    return own_site({"HEARTBEAT_SECONDS": "2"}, workers=1)


def say_twenty(room: Room) -> None:
    """Let the people of a room have twenty messages acknowledged and delivered, one after the other."""
    with ChatClient([room.server], room.alice) as alice, ChatClient([room.server], room.bob) as bob:
        for number in range(1, 21):
            alice.wait_acked(alice.send(room.id, f"quiet {number}"))
            bob.wait_seq(room.id, number)
        for client in (alice, bob):
            client.wait_seq(room.id, 20)
        check(room.server.people.history(room.id), [alice, bob]).assert_clean()
        assert len(alice.connections) == len(bob.connections) == 1, "somebody quiet was closed"


def test_half_a_frame_holds_nobody_up_and_the_other_half_completes_it(lone_worker: ChatServer) -> None:
    room = make_room(lone_worker)
    whole = frame(TEXT, b'{"type":"ping","nonce":"in two halves"}')
    with RawSocket(lone_worker, room.login(room.mallory)) as patient:
        patient.resume()
        patient.send(whole[:9])
        say_twenty(room)
        patient.send(whole[9:])
        assert patient.expect("pong")["nonce"] == "in two halves"
    lone_worker.assert_quiet()


def test_half_a_frame_and_then_silence_is_ended_by_the_heartbeat(lone_worker: ChatServer) -> None:
    room = make_room(lone_worker)
    with RawSocket(lone_worker, room.login(room.mallory), timeout=20) as silent:
        silent.answers_pings = False
        silent.resume()
        silent.send(frame(TEXT, b'{"type":"ping","nonce":"never whole"}')[:9])
        assert silent.close_code() in (1001, None)
    say_twenty(room)
    lone_worker.assert_quiet()


@pytest.mark.parametrize("kind", ["websocket", "json"])
def test_pings_without_reading_the_pongs_hurt_nobody_else(lone_worker: ChatServer, kind: str) -> None:
    room = make_room(lone_worker)
    ping = (
        frame(PING, b"p" * 125) if kind == "websocket" else frame(TEXT, b'{"type":"ping","nonce":"%s"}' % (b"p" * 60))
    )
    memory = Memory(lone_worker)
    at_work, enough = threading.Event(), threading.Event()
    ended: list[str] = []
    with RawSocket(lone_worker, room.login(room.mallory), timeout=5, receive_buffer=SMALL_BUFFER) as rude:
        rude.resume()

        def ping_on() -> None:
            try:
                while not enough.is_set():
                    rude.send(ping * 100)
                    at_work.set()
            except TimeoutError:
                ended.append("held up: the server reads no more of it")
            except OSError as error:
                ended.append(f"ended: {error.strerror}")
            at_work.set()

        thread = threading.Thread(target=ping_on)
        thread.start()
        at_work.wait(20)
        try:
            for _ in range(3):
                say_twenty(make_room(lone_worker))
                memory.look()
        finally:
            enough.set()
            thread.join(20)
    print(f"{kind} pings: {ended or 'served to the end'}; {memory}")
    assert memory.growth < PASSING_BYTES, str(memory)
    lone_worker.assert_quiet()


def test_a_flood_in_one_room_leaves_its_share_to_another(lone_worker: ChatServer) -> None:
    """Twenty quiet sends, each after the answer to the one before, are through long before a flood of thousands is."""
    most, window = 20_000, 200
    loud, quiet = make_room(lone_worker), make_room(lone_worker)
    enough = threading.Event()
    with ChatClient([lone_worker], loud.alice) as flooder, ChatClient([lone_worker], loud.bob) as victim:

        def flood() -> None:
            for number in range(most):
                if enough.is_set():
                    return
                flooder.send(loud.id, f"flood {number}", str(uuid.uuid4()))
                if len(flooder.pending) >= window:
                    with contextlib.suppress(AssertionError):  # told below, by what was acknowledged
                        flooder.wait(lambda: len(flooder.pending) < window // 2, "room for more", 60)

        thread = threading.Thread(target=flood)
        thread.start()
        flooder.wait_acks(window)
        try:
            say_twenty(quiet)
        finally:
            meanwhile = len(flooder.acks)
            enough.set()
            thread.join(90)
        flooder.wait_acked(timeout=60)
        sent = len(flooder.sent)
        for client in (flooder, victim):
            client.wait_seq(loud.id, sent, 60)
        print(f"20 quiet messages were through while {meanwhile} of the flood were; {sent} were sent in all")
        assert meanwhile < most, "the flood went first"
        assert check(lone_worker.people.history(loud.id), [flooder, victim]).assert_clean().stored == sent
    lone_worker.assert_quiet()
