"""The crowd itself, against a server that breaks the protocol on purpose: every break must be noticed."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import ServerConnection, serve

from harness.crowd import Crowd

ROOM = 7
Frames = list[dict[str, Any]]


def message(seq: int, **changed: Any) -> dict[str, Any]:
    """Return a message frame."""
    base = {"type": "message", "conversation_id": ROOM, "seq": seq, "sender_id": 1, "client_id": f"c{seq}", "body": "b"}
    return {**base, **changed}


def resumed(seq: int) -> dict[str, Any]:
    """Return a ``resumed`` frame."""
    return {"type": "resumed", "last_seqs": {str(ROOM): seq}}


@contextmanager
def liar(*connections: tuple[Frames, int]) -> Iterator[tuple[Crowd, Frames]]:
    """Serve each connection its frames after ``resume``, then close with its code; the last one stays open.

    Yields the crowd, and the ``resume`` frames it sent.
    """
    asked: Frames = []

    def talk(ws: ServerConnection) -> None:
        ws.send(json.dumps({"type": "hello"}))
        frames, code = connections[min(len(asked), len(connections) - 1)]
        try:
            asked.append(json.loads(ws.recv()))
            for frame in frames:
                ws.send(json.dumps(frame))
            if code:
                ws.close(code)
            else:
                ws.recv()
        except ConnectionClosed:
            return

    with serve(talk, "127.0.0.1", 0, compression=None) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            host, port = server.socket.getsockname()[:2]
            with Crowd((host, port), "https://chat.example") as crowd:
                yield crowd, asked
        finally:
            server.shutdown()
            thread.join()


def problems(*connections: tuple[Frames, int], cursors: dict[int, int] | None = None, end: int = 3) -> list[str]:
    """Let one member be served so until it holds ``end``, and return what it complains of."""
    with liar(*connections) as (crowd, _):
        member = crowd.join(1, "token", cursors)
        crowd.wait(
            lambda: member.state == "live" and member.cursors.get(ROOM, 0) >= end,
            f"seq {end}",
            10,
        )
        return crowd.problems


def test_a_good_server_is_not_complained_of() -> None:
    first = [message(1), resumed(1), message(2)]
    assert problems((first, 4408), ([message(3), resumed(3)], 0), cursors={ROOM: 0}) == []


@pytest.mark.parametrize(
    "frames",
    [
        [message(1), message(3), resumed(3)],
        [message(1), message(2), message(2), message(3), resumed(3)],
        [message(2), message(1), message(2), message(3), resumed(3)],
        [message(1), message(2), resumed(3), message(3)],
    ],
    ids=["skipped", "twice", "out of order", "resumed too early"],
)
def test_every_break_of_the_order_is_noticed(frames: Frames) -> None:
    assert problems((frames, 0), cursors={ROOM: 0})


def test_what_comes_twice_over_a_reconnect_is_noticed() -> None:
    assert problems(([resumed(0), message(1), message(2)], 4408), ([message(2), message(3), resumed(3)], 0))


def test_what_is_lost_over_a_reconnect_is_noticed() -> None:
    assert problems(([resumed(0), message(1)], 1012), ([resumed(1), message(3)], 0))


def test_what_differs_between_members_is_noticed() -> None:
    with liar(([resumed(0), message(1)], 0), ([resumed(0), message(1, body="forged")], 0)) as (crowd, _):
        for number in range(2):
            crowd.join(number, "token")
            crowd.wait_seq(ROOM, 1, 10)
        assert any("something else" in problem for problem in crowd.problems)


def test_who_is_closed_resumes_from_what_it_holds() -> None:
    drain = {"type": "drain", "reconnect_after_ms": 300}
    with liar(([resumed(4), message(5), drain], 1012), ([resumed(5)], 0)) as (crowd, asked):
        member = crowd.join(1, "token")
        crowd.wait(lambda: member.connections == 2 and member.state == "live", "it is back", 10)
        assert [frame["cursors"] for frame in asked] == [{}, {str(ROOM): 5}]
        (close,) = member.closes
        assert (close.code, close.drain_ms) == (1012, 300)
        assert member.opened_at - close.at >= 0.3


def test_who_stalls_reads_nothing_until_told_to() -> None:
    with liar(([resumed(0), *(message(n) for n in range(1, 4))], 0)) as (crowd, _):
        member = crowd.join(1, "token", stalls=True)
        crowd.wait_live(10)
        assert member.received == 0
        crowd.read_on(member)
        crowd.wait_seq(ROOM, 3, 10)
        assert not crowd.problems


@pytest.mark.parametrize("how", ["clean", "reset", "half"])
def test_who_leaves_may_come_back(how: Any) -> None:
    with liar(([resumed(0)], 0)) as (crowd, asked):
        member = crowd.join(1, "token")
        crowd.wait_live(10)
        crowd.leave(member, how, back_after=0.0)
        crowd.wait(lambda: len(asked) == 2 and member.state == "live" and not crowd.ghosts, "it is back", 20)
        assert not member.closes, "it left by itself"
