"""Coming back: what was missed, then what comes; never neither, never both."""

from __future__ import annotations

from typing import Any

import gevent
import pytest

from hockey_hub_chat.errors import UnavailableError
from hockey_hub_chat.realtime import bus as events
from realtime.fakes import settle
from realtime.hub_site import ROOM, Site


def test_nothing_before_resume_then_what_was_missed_then_live(site: Site) -> None:
    socket = site.connect(1)
    for _ in range(5):
        site.say()
    assert socket.of("message") == []
    socket.resume({ROOM: 2})
    site.say()
    assert socket.seqs() == [3, 4, 5, 6]
    kinds = [frame["type"] for frame in socket.of("message", "resumed")]
    assert kinds == ["message"] * 3 + ["resumed", "message"]
    assert socket.of("resumed")[0]["last_seqs"] == {str(ROOM): 5}


def test_no_cursor_means_from_now_on(site: Site) -> None:
    site.say()
    socket = site.connect(1).resume()
    site.say()
    assert socket.seqs() == [2]


def test_a_cursor_beyond_the_history_counts_as_its_end(site: Site) -> None:
    site.say()
    socket = site.connect(1).resume({ROOM: 99})
    site.say()
    assert socket.seqs() == [2]


def test_what_was_received_elsewhere_is_not_sent_again_by_a_hub_that_is_behind(site: Site) -> None:
    behind = site.connect(2).resume()  # keeps the room open here, so that its head is what this hub has seen
    for _ in range(3):
        site.say(told=False)
    moved_over = site.connect(1).resume({ROOM: 2})
    site.say()
    settle(lambda: moved_over.seqs() == [3, 4], "what the newcomer does not hold")
    settle(lambda: behind.seqs() == [1, 2, 3, 4], "what the other missed")
    assert moved_over.seqs() == [3, 4]


def test_five_hundred_are_sent_and_more_are_a_gap(site: Site) -> None:
    for _ in range(501):
        site.say()
    socket = site.connect(1).resume({ROOM: 1})
    assert socket.seqs() == list(range(2, 502))
    late = site.connect(2).resume({ROOM: 0})
    assert late.seqs() == []
    assert late.of("gap") == [{"type": "gap", "conversation_id": ROOM, "after_seq": 0, "last_seq": 501}]
    site.say()
    assert late.seqs() == [502]


def test_messages_during_a_resume_are_neither_lost_nor_doubled(site: Site) -> None:
    for _ in range(300):
        site.say()
    first = site.connect(1).resume()  # so that the room is there and moves on
    socket = site.connect(2)
    resuming = gevent.spawn(socket.resume, {ROOM: 0})
    for _ in range(150):
        site.say()
        gevent.sleep(0.0003)
    resuming.get(timeout=5)
    site.say()
    assert socket.seqs() == list(range(1, 452))
    assert first.seqs() == list(range(301, 452))


def test_a_resume_that_failed_can_be_repeated_without_doubling(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("hockey_hub_chat.realtime.resume.RESUME_PATIENCE_SECONDS", 0.1)
    for _ in range(250):
        site.say()
    socket = site.connect(1)
    ask = site.database._history

    def fail_later(conversation_id: int, after_seq: int, limit: int) -> Any:
        site.database.away = after_seq >= 100
        return ask(conversation_id, after_seq, limit)

    object.__setattr__(site.hub.source, "history", fail_later)
    with pytest.raises(UnavailableError):
        socket.resume({ROOM: 0})
    assert socket.seqs() == list(range(1, 101))
    object.__setattr__(site.hub.source, "history", ask)
    site.database.away = False
    site.say()
    socket.resume({ROOM: 0})
    assert socket.seqs() == list(range(1, 252))


def test_a_slow_resumer_is_waited_for_and_then_gets_everything(site: Site) -> None:
    for _ in range(400):
        site.say("y" * 8000)  # three times an outbox
    socket = site.connect(1)
    socket.peer.reading = False
    resuming = gevent.spawn(socket.resume, {ROOM: 0})
    gevent.sleep(0.3)
    assert not resuming.dead and not socket.connection.closing
    socket.peer.reading = True
    settle(lambda: socket.seqs() == list(range(1, 401)), "everything", 10)
    resuming.get(timeout=10)


def test_a_session_that_ends_before_the_resume_is_closed(site: Site) -> None:
    socket = site.connect(1)
    site.hub.on_events([events.SessionEnded(socket.session)])
    socket.resume()
    settle(lambda: socket.peer.close_code == 4403, "4403")
    assert not socket.of("resumed")


def test_a_reader_who_comes_back_to_many_rooms_is_not_taken_for_a_slow_one() -> None:
    site = Site()
    for room in range(1, 61):
        site.room(1, conversation_id=room)
    keeps = site.connect(1).resume()  # keeps the rooms warm
    for room in range(1, 61):
        for _ in range(30):
            site.say("y" * 1900, conversation_id=room)
        gevent.sleep(0.001)
        keeps.peer.read()
    back = site.connect(1)
    resuming = gevent.spawn(back.resume, {room: 0 for room in range(1, 61)})
    settle(lambda: bool(back.peer.read()) and resuming.dead and bool(back.of("resumed")), "everything", 15)
    assert back.connection.close_code is None and len(back.of("message")) == 60 * 30
    site.close()
