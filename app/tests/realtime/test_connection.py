"""The outbox: whole frames, in order, bounded, and nobody waits for a slow reader."""

from __future__ import annotations

import gevent
import pytest

from hockey_hub_chat import events
from hockey_hub_chat.realtime import wire
from hockey_hub_chat.realtime.connection import Connection
from realtime.fakes import FakeTransport, settle, split_frames


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536, 200_000])
def test_frames_of_every_length_class_are_read_back(size: int) -> None:
    frame = wire._frame(0x81, b"x" * size)
    assert split_frames(frame) == [(1, b"x" * size)]


def test_a_close_reason_is_cut_at_a_character() -> None:
    ((opcode, payload),) = split_frames(wire.close_frame(4408, "ä" * 200))
    assert opcode == 8 and len(payload) <= 125
    assert payload[2:].decode() == "ä" * 61


def test_frames_leave_whole_and_in_order() -> None:
    transport = FakeTransport()
    connection = Connection(transport)
    for number in range(500):
        assert connection.post(wire.encode(events.Pong(nonce=str(number))))
    settle(lambda: len(transport.frames) == 500, "500 frames")
    assert [frame["nonce"] for frame in transport.frames] == [str(number) for number in range(500)]
    connection.join()


def test_a_slow_reader_is_closed_with_4408_and_post_never_waits() -> None:
    transport = FakeTransport()
    transport.open_gate.clear()
    codes: list[int] = []
    connection = Connection(transport, max_bytes=10_000, on_closing=codes.append)
    frame = wire.encode(events.Pong(nonce="n"))
    gevent.sleep(0)
    with gevent.Timeout(1, AssertionError("post waited")):
        posted = 0
        while connection.post(frame):
            posted += 1
            assert posted < 10_000, "the outbox has no bound"
    assert codes == [4408] and connection.closing
    assert not connection.post(frame)
    transport.open_gate.set()
    settle(lambda: transport.close_code == 4408, "the close frame")
    connection.join()


def test_a_frame_bound_holds_too() -> None:
    transport = FakeTransport()
    transport.open_gate.clear()
    connection = Connection(transport, max_frames=10)
    posted = [connection.post(b"\x81\x00") for _ in range(12)]
    assert posted == [True] * 10 + [False] * 2
    connection.join()


def test_a_reader_that_never_reads_is_cut_after_the_timeout() -> None:
    transport = FakeTransport()
    transport.open_gate.clear()
    connection = Connection(transport)
    connection.post(b"\x81\x00")
    gevent.sleep(0)
    connection.close(1012, "restarting", timeout=0.05)
    settle(lambda: transport.aborted and connection.close_sent.is_set(), "cut")
    connection.join()


def test_close_comes_after_what_is_owed_and_the_first_code_wins() -> None:
    transport = FakeTransport()
    connection = Connection(transport)
    connection.post(wire.encode(events.Pong(nonce="owed")))
    connection.close(1012, "restarting")
    connection.close(4403, "too late")
    settle(connection.close_sent.is_set, "closed")
    assert [opcode for opcode, _ in split_frames(bytes(transport.written))] == [1, 8]
    assert transport.close_code == 1012
    connection.join()


def test_wait_roomy_waits_for_the_reader_and_gives_up() -> None:
    transport = FakeTransport()
    transport.open_gate.clear()
    connection = Connection(transport, max_bytes=1000)
    assert connection.wait_roomy(0.01)
    gevent.sleep(0)
    for _ in range(7):
        connection.post(b"\x81\x64" + b"x" * 100)
    assert not connection.wait_roomy(0.02)
    gevent.spawn_later(0.02, transport.open_gate.set)
    assert connection.wait_roomy(2)
    connection.join()
    assert not connection.wait_roomy(0.01), "a lost connection has room for nothing"
