"""Questions of many, asked together."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import gevent
import pytest
from gevent.event import Event

from hockey_hub_chat.realtime.source import IDS_AT_ONCE, Gatherer


class Database:
    """Answers each id with its square while it is there; slowly enough that others ask meanwhile."""

    def __init__(self) -> None:
        self.asked: list[set[int]] = []
        self.answers = Event()
        self.away = False

    def ask(self, ids: Collection[int]) -> Mapping[int, int]:
        """See ``Gatherer``."""
        self.asked.append(set(ids))
        self.answers.wait()
        if self.away:
            raise ConnectionError
        return {key: key * key for key in ids if key >= 0}


def test_who_asks_while_an_answer_is_under_way_is_in_the_next_question() -> None:
    database = Database()
    gatherer = Gatherer(database.ask)
    first = gevent.spawn(gatherer.get, 2)
    gevent.sleep(0)
    gevent.sleep(0)
    others = [gevent.spawn(gatherer.get, key) for key in (3, 4, 4, -1)]
    gevent.sleep(0)
    assert database.asked == [{2}]
    database.answers.set()
    assert first.get(timeout=2) == 4
    assert [other.get(timeout=2) for other in others] == [9, 16, 16, None]
    assert database.asked == [{2}, {3, 4, -1}]


def test_an_answer_is_never_older_than_its_question() -> None:
    database = Database()
    gatherer = Gatherer(database.ask)
    asking = [gevent.spawn(gatherer.get, 2)]
    gevent.sleep(0)
    gevent.sleep(0)
    asking.append(gevent.spawn(gatherer.get, 2))  # the same id, but what is under way may have been read before this
    gevent.sleep(0)
    database.answers.set()
    gevent.joinall(asking, timeout=2)
    assert database.asked == [{2}, {2}]


def test_many_ids_are_asked_in_bounded_questions() -> None:
    database = Database()
    database.answers.set()
    gatherer = Gatherer(database.ask)
    assert gatherer.get_many(range(-1, 2 * IDS_AT_ONCE)) == {key: key * key for key in range(2 * IDS_AT_ONCE)}
    assert [len(ids) for ids in database.asked] == [IDS_AT_ONCE, IDS_AT_ONCE, 1]


def test_a_failed_question_fails_for_those_in_it_alone() -> None:
    database = Database()
    database.away = True
    gatherer = Gatherer(database.ask)
    asking = [gevent.spawn(gatherer.get, key) for key in (1, 2)]
    gevent.sleep(0)
    database.answers.set()
    for one in asking:
        with pytest.raises(ConnectionError):
            one.get(timeout=2)
    database.away = False
    assert gatherer.get(3) == 9


def test_somebody_killed_while_waiting_leaves_the_others_their_answer() -> None:
    database = Database()
    gatherer = Gatherer(database.ask)
    killed, waits = gevent.spawn(gatherer.get, 1), gevent.spawn(gatherer.get, 2)
    gevent.sleep(0)
    killed.kill()
    database.answers.set()
    assert waits.get(timeout=2) == 4
