"""Adopted sockets: whole frames, in order, in one write a tick, bounded, and nobody waits for a slow reader."""

from __future__ import annotations

import itertools
import os
import struct
import time
from collections.abc import Iterator
from pathlib import Path

import gevent
import pytest

from hockey_hub_chat.realtime import connection as connection_module
from hockey_hub_chat.realtime import reactor as reactor_module
from hockey_hub_chat.realtime import wire
from hockey_hub_chat.realtime.broadcast import Broadcast
from hockey_hub_chat.realtime.reactor import Reactor
from realtime.fakes import Peer, settle

CLOSE, PING, PONG = 8, 9, 10


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True) -> bytes:
    """One short frame of a client, under the mask 0."""
    return bytes([(0x80 if fin else 0) | opcode, 0x80 | len(payload)]) + b"\0\0\0\0" + payload


def text(number: int, size: int = 20) -> bytes:
    """A frame that can be told from others."""
    return wire.text_frame(f'{{"n":{number}}}'.ljust(size).encode())


class Owner:
    """Keeps what it is handed."""

    def __init__(self, peer: Peer) -> None:
        self.messages: list[bytes] = []
        self.codes: list[int] = []
        self.connection = peer.connection
        self.connection.owner = self

    def received(self, message: bytes) -> None:
        """See ``Owner``."""
        self.messages.append(message)

    def closed(self, code: int) -> None:
        """See ``Owner``."""
        self.codes.append(code)


@pytest.fixture
def reactor() -> Iterator[Reactor]:
    """A running reactor."""
    made = Reactor()
    made.start()
    yield made
    made.stop()


def numbers(peer: Peer) -> list[int]:
    """What was received, by ``text``'s numbers."""
    return [frame["n"] for frame in peer.frames]


def test_what_falls_due_in_one_tick_leaves_in_one_write(reactor: Reactor) -> None:
    one, other = Peer(reactor, keeps_writes=True), Peer(reactor, keeps_writes=True)
    room = Broadcast(reactor)
    for peer in (one, other):
        room.add(peer.connection)
    one.connection.post(text(0))  # as an ack, beside the sender's own copy
    for number in (1, 2, 3):
        room.send(text(number))
    gevent.sleep(0.01)
    assert numbers(one) == [0, 1, 2, 3] and len(one.writes) == 1
    assert numbers(other) == [1, 2, 3] and len(other.writes) == 1
    one.connection.post(text(4))
    gevent.sleep(0.01)
    assert numbers(one) == [0, 1, 2, 3, 4] and len(one.writes) == 2


def test_without_coalescing_each_message_is_a_write() -> None:
    reactor = Reactor(coalesce=False)
    reactor.start()
    peer = Peer(reactor, keeps_writes=True)
    room = Broadcast(reactor)
    room.add(peer.connection)
    for number in range(5):
        room.send(text(number))
    gevent.sleep(0.01)
    assert numbers(peer) == [0, 1, 2, 3, 4] and len(peer.writes) == 5
    reactor.stop()


def test_a_member_hears_what_is_said_between_its_coming_and_its_going(reactor: Reactor) -> None:
    stays, comes = Peer(reactor), Peer(reactor)
    room = Broadcast(reactor)
    room.add(stays.connection)
    room.send(text(1))
    room.add(comes.connection)
    room.send(text(2))
    room.discard(comes.connection)
    room.send(text(3))
    room.send_except(text(4), [stays.connection])
    room.send(text(5))
    gevent.sleep(0.01)
    assert numbers(stays) == [1, 2, 3, 5] and numbers(comes) == [2]


def test_a_small_room_is_written_before_a_large_one(reactor: Reactor) -> None:
    order: list[str] = []

    class Room:
        def __init__(self, name: str, size: int) -> None:
            self.name, self.size = name, size

        def __len__(self) -> int:
            return self.size

        def spread(self) -> None:
            order.append(self.name)

    for room in (Room("large", 1000), Room("small", 2), Room("middle", 30)):
        reactor.spread_later(room)
    gevent.sleep(0.01)
    assert order == ["small", "middle", "large"]


def test_a_short_write_keeps_only_its_unsent_tail(reactor: Reactor) -> None:
    peer = Peer(reactor, buffer_bytes=4096)
    peer.connection.listen()
    peer.reading = False
    for number in range(200):
        peer.connection.post(text(number, 1000))
        gevent.sleep(0)
    assert peer.connection._outbox_bytes > 100_000
    peer.reading = True
    settle(lambda: numbers(peer) == list(range(200)), "all, once, in order")
    assert peer.connection._outbox is None and not peer.connection.closing


def test_a_reader_that_is_too_far_behind_is_closed_with_4408_and_its_backlog_let_go(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection_module, "MAX_OUTBOX_BYTES", 50_000)
    peer = Peer(reactor, buffer_bytes=4096)
    owner = Owner(peer)
    peer.connection.listen()
    peer.reading = False
    with gevent.Timeout(2, AssertionError("post waited")):
        for number in range(1000):
            peer.connection.post(text(number, 1000))
            gevent.sleep(0)
    assert owner.codes == [4408]
    assert peer.connection._outbox_bytes < 3000, "what it has not begun to read is not kept"
    assert not peer.connection.post(text(0))
    peer.reading = True
    settle(lambda: peer.close_code == 4408, "the close frame, behind a whole frame")
    assert numbers(peer) == list(range(len(numbers(peer))))


def test_a_reader_that_never_reads_is_cut_after_the_timeout(reactor: Reactor) -> None:
    peer = Peer(reactor, buffer_bytes=4096)
    owner = Owner(peer)
    peer.connection.listen()
    peer.reading = False
    for number in range(100):
        peer.connection.post(text(number, 1000))
    gevent.sleep(0)
    peer.connection.close(1012, "restarting", timeout=0.05)
    assert owner.codes == [1012]
    settle(lambda: reactor.size == 0, "cut")
    assert peer.connection.fd == -1


def test_a_close_comes_after_what_is_owed_and_the_first_code_wins(reactor: Reactor) -> None:
    peer = Peer(reactor)
    owner = Owner(peer)
    peer.connection.listen()
    peer.connection.post(text(1))
    peer.connection.close(1012, "restarting")
    peer.connection.close(4403, "too late")
    assert not peer.connection.post(text(2))
    settle(lambda: peer.close_code == 1012, "closed")
    assert numbers(peer) == [1] and owner.codes == [1012]
    assert reactor.size == 1, "the peer's close frame is waited for"
    peer.send(masked(CLOSE, struct.pack("!H", 1012)))
    settle(lambda: reactor.size == 0, "gone")
    peer.read()
    assert peer.ended


def test_after_our_close_what_comes_is_thrown_away_until_the_peer_closes(reactor: Reactor) -> None:
    peer = Peer(reactor)
    owner = Owner(peer)
    peer.connection.listen()
    peer.connection.close(4403, "session ended")
    gevent.sleep(0.01)
    peer.send(masked(1, b"late") * 50)
    gevent.sleep(0.01)
    assert owner.messages == [] and reactor.size == 1
    peer.send(masked(CLOSE))
    settle(lambda: reactor.size == 0, "gone")


def test_a_peers_close_is_answered_with_its_code(reactor: Reactor) -> None:
    for sent, expected in ((struct.pack("!H", 1001) + b"bye", 1001), (b"", 1000), (struct.pack("!H", 4999), 4999)):
        peer = Peer(reactor)
        owner = Owner(peer)
        peer.connection.listen()
        peer.send(masked(1, b"last") + masked(CLOSE, sent) + masked(1, b"after the end"))
        settle(lambda peer=peer: peer.close_code is not None, "an answer")
        assert peer.close_code == expected and owner.messages == [b"last"] and owner.codes == [expected]
        settle(lambda: reactor.size == 0, "gone")


def test_pings_are_answered_between_messages_and_broken_frames_close(reactor: Reactor) -> None:
    peer = Peer(reactor)
    owner = Owner(peer)
    peer.connection.listen()
    peer.send(masked(1, b"ha", fin=False) + masked(PING, b"now") + masked(0, b"lf") + masked(0, b"orphan"))
    settle(lambda: peer.close_code == 1002, "1002")
    assert owner.messages == [b"half"] and peer.opcodes == [PONG, CLOSE]
    other = Peer(reactor)
    Owner(other)
    other.connection.listen()
    other.send(masked(2, b"\0"))
    settle(lambda: other.close_code == 1003, "1003")


def test_somebody_who_vanishes_is_forgotten_with_the_descriptor(reactor: Reactor) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    peers = [Peer(reactor) for _ in range(50)]
    owners = [Owner(peer) for peer in peers]
    for peer in peers:
        peer.connection.listen()
        peer.send(masked(1, b"a") + b"\x81")
    gevent.sleep(0.01)
    for peer in peers:
        peer.leave()
    settle(lambda: reactor.size == 0, "all gone")
    assert [owner.codes for owner in owners] == [[1006]] * 50
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_fault_of_one_owner_closes_that_socket_alone(reactor: Reactor) -> None:
    bad, good = Peer(reactor), Peer(reactor)
    Owner(bad).received = lambda message: 1 / 0  # type: ignore[assignment, method-assign]
    owner = Owner(good)
    for peer in (bad, good):
        peer.connection.listen()
        peer.send(masked(1, b"x"))
    settle(lambda: bad.close_code == 1011, "1011")
    settle(lambda: owner.messages == [b"x"], "the other")
    assert not good.connection.closing


def test_a_fault_while_writing_strands_nobody(reactor: Reactor) -> None:
    gone, others = Peer(reactor), [Peer(reactor) for _ in range(3)]

    def fail(code: int) -> None:
        raise ZeroDivisionError

    Owner(gone).closed = fail  # type: ignore[method-assign]
    gone.leave()
    for peer in (gone, *others):
        peer.connection.post(text(1))
    settle(lambda: all(numbers(peer) == [1] for peer in others), "the others")
    others[0].connection.post(text(2))
    settle(lambda: numbers(others[0]) == [1, 2], "and later")


def test_a_paused_socket_is_read_later_and_in_order(reactor: Reactor) -> None:
    peer = Peer(reactor)
    owner = Owner(peer)

    def received(message: bytes) -> None:
        owner.messages.append(message)
        if len(owner.messages) in (2, 5):
            peer.connection.pause()

    owner.received = received  # type: ignore[method-assign]
    peer.connection.listen()
    sent = [str(number).encode() for number in range(8)]
    peer.send(b"".join(masked(1, message) for message in sent[:6]))
    gevent.sleep(0.01)
    peer.send(b"".join(masked(1, message) for message in sent[6:]))
    gevent.sleep(0.01)
    assert owner.messages == sent[:2]
    peer.connection.unpause()
    gevent.sleep(0.01)
    assert owner.messages == sent[:5]
    peer.connection.unpause()
    settle(lambda: owner.messages == sent, "the rest")


def test_a_paused_socket_that_vanishes_is_noticed(reactor: Reactor) -> None:
    peer = Peer(reactor)
    owner = Owner(peer)
    peer.connection.listen()
    peer.connection.pause()
    peer.leave()
    settle(lambda: owner.codes == [1006], "noticed")


def test_a_silent_peer_is_pinged_and_then_closed_with_1001() -> None:
    reactor = Reactor(heartbeat_seconds=1)
    reactor.start()
    silent, alive = Peer(reactor), Peer(reactor)
    for peer in (silent, alive):
        Owner(peer)
        peer.connection.listen()

    def answer() -> bool:
        if alive.opcodes.count(PING) > answer.pongs:  # type: ignore[attr-defined]
            answer.pongs += 1  # type: ignore[attr-defined]
            alive.send(masked(PONG))
        return silent.close_code == 1001

    answer.pongs = 0  # type: ignore[attr-defined]
    settle(answer, "1001", 6)
    assert PING in silent.opcodes and not alive.connection.closing
    reactor.stop()


def test_a_bulk_sender_waits_for_the_reader_and_gives_up(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection_module, "MAX_OUTBOX_BYTES", 60_000)
    peer = Peer(reactor, buffer_bytes=4096)
    peer.connection.listen()
    peer.reading = False
    assert peer.connection.wait_roomy(0.01)
    for number in range(45):
        peer.connection.post(text(number, 1000))
    assert not peer.connection.wait_roomy(0.02)

    def read_on() -> None:
        peer.reading = True
        for _ in range(100):
            peer.read()
            gevent.sleep(0.001)

    reading = gevent.spawn(read_on)
    assert peer.connection.wait_roomy(2)
    reading.join()
    peer.leave()
    settle(lambda: peer.connection.closing, "gone")
    assert not peer.connection.wait_roomy(0.01), "a lost connection has room for nothing"


def test_a_large_broadcast_lets_others_have_their_turn(reactor: Reactor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reactor_module, "SLICE_SECONDS", 0.0)
    crowd = [Peer(reactor) for _ in range(reactor_module._SLICE_SOCKETS * 6)]
    asker = Peer(reactor)
    owner = Owner(asker)
    owner.received = asker.connection.post  # type: ignore[assignment, method-assign]  # an echo
    asker.connection.listen()
    room = Broadcast(reactor)
    for peer in crowd:
        room.add(peer.connection)
    served: list[int] = []

    def ask() -> None:
        asker.send(masked(1, b"\x81\x02{}"))
        while not asker.read():
            gevent.sleep(0)
        served.append(sum(bool(peer.read()) for peer in crowd))

    room.send(text(1))
    gevent.sleep(0)  # the broadcast has begun
    gevent.spawn(ask).get(timeout=5)
    assert served[0] < len(crowd), "the answer had to wait for the whole crowd"
    settle(lambda: all(numbers(peer) == [1] for peer in crowd), "the crowd")


def test_bytes_that_came_with_the_handshake_are_read(reactor: Reactor) -> None:
    peer = Peer(reactor)
    owner = Owner(peer)
    peer.connection.listen(masked(1, b"early"))
    assert owner.messages == [b"early"]


def test_stopping_cuts_what_is_left_and_closes_every_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    reactor = Reactor()
    reactor.start()
    peers = [Peer(reactor) for _ in range(3)]
    owners = [Owner(peer) for peer in peers]
    reactor.stop()
    reactor.stop()
    for peer in peers:
        peer.leave()
    assert [owner.codes for owner in owners] == [[1006]] * 3
    del reactor, peers, owners, peer
    assert set(os.listdir("/proc/self/fd")) == before


def test_who_waits_for_what_is_due_waits_only_when_it_is_much(
    reactor: Reactor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reactor_module, "SLICE_SECONDS", 0.0)  # everybody has a turn between two slices
    crowd = [Peer(reactor) for _ in range(reactor_module._SLICE_SOCKETS * 4)]
    room = Broadcast(reactor)
    for peer in crowd:
        room.add(peer.connection)

    def missing_after_a_wait() -> int:
        reactor.wait_written(5)
        return sum(not numbers(peer) for peer in crowd)

    crowd[0].connection.post(text(0))
    assert gevent.spawn(missing_after_a_wait).get(timeout=5) > 0, "nothing but one frame was due"
    room.send(text(1))
    assert gevent.spawn(missing_after_a_wait).get(timeout=5) == 0


class Ponderous(Owner):
    """Takes a millisecond for each message."""

    def received(self, message: bytes) -> None:
        """See ``Owner``."""
        super().received(message)
        time.sleep(0.001)


def test_a_crowd_that_asks_for_much_leaves_the_loop_to_others_and_nobody_out(reactor: Reactor) -> None:
    peers = [Peer(reactor) for _ in range(60)]
    owners = [Ponderous(peer) for peer in peers]
    for peer in peers:
        peer.connection.listen()
        peer.send(masked(1, b"{}") * 3)
    seen = [0]
    while seen[-1] < 180:
        gevent.sleep(0.0001)
        seen.append(sum(len(owner.messages) for owner in owners))
    assert all(len(owner.messages) == 3 for owner in owners)
    assert (
        max(later - earlier for earlier, later in itertools.pairwise(seen)) < 100
    )  # this greenlet had its turns between
