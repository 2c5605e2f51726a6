"""The group-commit writer against a database that fails in every way."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import gevent
import pytest

from hockey_hub_chat.errors import ChatError, NotAMemberError, UnavailableError
from hockey_hub_chat.realtime.writer import Writer
from realtime.fakes import Row, settle

New = tuple[UUID, str]


class Away(Exception):
    """The database is away."""


class Race(Exception):
    """Two nodes stored the same retry."""


class Store:
    """One conversation with ``client_id`` deduplication, as ``append_batch`` has it."""

    def __init__(self) -> None:
        self.rows: dict[UUID, Row] = {}
        self.batches: list[int] = []
        self.before: Callable[[Sequence[New]], None] = lambda batch: None
        self.after: Callable[[Sequence[New]], None] = lambda batch: None
        self.delay = 0.0

    def append(self, batch: Sequence[New]) -> list[Row | ChatError]:
        """Store a batch."""
        self.batches.append(len(batch))
        gevent.sleep(self.delay)
        self.before(batch)
        results: list[Row | ChatError] = []
        for client_id, body in batch:
            if body == "foreign":
                results.append(NotAMemberError("no"))
            elif client_id in self.rows:
                results.append(replace(self.rows[client_id], is_new=False))
            else:
                self.rows[client_id] = Row(1, len(self.rows) + 1, body, client_id=client_id)
                results.append(self.rows[client_id])
        self.after(batch)  # a failure here is a commit nobody heard of
        return results


@pytest.fixture
def store() -> Store:
    """An empty store."""
    return Store()


@pytest.fixture
def make(store: Store) -> Any:
    """Make writers over the store; ended afterwards."""
    made: list[Writer[New, Row]] = []

    def build(**options: Any) -> Writer[New, Row]:
        published: list[Row] = []
        writer: Writer[New, Row] = Writer(
            store.append,
            is_transient=lambda error: isinstance(error, Away),
            is_conflict=lambda error: isinstance(error, Race),
            on_committed=published.extend,
            **options,
        )
        writer.published = published  # type: ignore[attr-defined]
        made.append(writer)
        writer.start()
        return writer

    yield build
    for writer in made:
        writer.stop(0)


def test_what_arrives_during_a_batch_is_the_next_batch(store: Store, make: Any) -> None:
    writer = make()
    store.delay = 0.02
    answers: list[Any] = []
    for number in range(50):
        writer.submit_nowait((uuid4(), str(number)), answers.append)
        if number == 0:
            gevent.sleep(0.005)
    settle(lambda: len(answers) == 50, "answers")
    assert store.batches == [1, 49]
    assert [answer.body for answer in answers] == [str(number) for number in range(50)]
    assert [answer.seq for answer in answers] == list(range(1, 51))
    assert [row.seq for row in writer.published] == list(range(1, 51))


def test_a_batch_is_bounded(store: Store, make: Any) -> None:
    writer = make(max_batch=10)
    answers: list[Any] = []
    for _ in range(35):
        writer.submit_nowait((uuid4(), "x"), answers.append)
    settle(lambda: len(answers) == 35, "answers")
    assert store.batches == [10, 10, 10, 5]


def test_one_bad_message_fails_alone(make: Any) -> None:
    writer = make()
    answers: list[Any] = []
    for body in ("a", "foreign", "b"):
        writer.submit_nowait((uuid4(), body), answers.append)
    settle(lambda: len(answers) == 3, "answers")
    assert [type(answer) for answer in answers] == [Row, NotAMemberError, Row]
    assert [row.body for row in writer.published] == ["a", "b"]


def test_a_lost_commit_answer_makes_no_second_message(store: Store, make: Any) -> None:
    writer = make()
    lost = [True, True]

    def after(batch: Sequence[New]) -> None:
        if lost:
            lost.pop()
            raise Away

    store.after = after
    stored = writer.submit((uuid4(), "once"))
    assert stored.seq == 1 and len(store.rows) == 1 and len(store.batches) == 3


def test_a_database_away_is_waited_for_and_order_is_kept(store: Store, make: Any) -> None:
    writer = make()
    away = [True]

    def before(batch: Sequence[New]) -> None:
        if away:
            raise Away

    store.before = before
    answers: list[Any] = []
    for number in range(5):
        writer.submit_nowait((uuid4(), str(number)), answers.append)
        gevent.sleep(0.03)
    assert not answers
    away.clear()
    settle(lambda: len(answers) == 5, "answers")
    assert [answer.body for answer in answers] == list("01234")


def test_patience_ends_with_unavailable_and_a_late_commit_is_not_answered_twice(store: Store, make: Any) -> None:
    writer = make(patience=0.2)
    store.delay = 1.0  # hangs, rather than fails
    key = uuid4()
    answers: list[Any] = []
    writer.submit_nowait((key, "late"), answers.append)
    settle(lambda: answers, "an answer", 2)
    assert isinstance(answers[0], UnavailableError) and answers[0].retryable
    settle(lambda: key in store.rows, "the late commit", 3)
    store.delay = 0.0
    again = writer.submit((key, "late"))
    assert (again.seq, again.is_new) == (1, False)
    assert len(answers) == 1


def test_submit_raises_what_was_answered(make: Any) -> None:
    with pytest.raises(NotAMemberError):
        make().submit((uuid4(), "foreign"))


def test_a_uniqueness_race_is_repeated_once_more(store: Store, make: Any) -> None:
    races = [True]

    def before(batch: Sequence[New]) -> None:
        if races:
            races.pop()
            raise Race

    store.before = before
    assert make().submit((uuid4(), "x")).seq == 1
    assert store.batches == [1, 1]


def test_a_message_the_database_cannot_take_does_not_take_others_with_it(store: Store, make: Any) -> None:
    def before(batch: Sequence[New]) -> None:
        if any(body == "poison" for _, body in batch):
            raise ValueError("cannot be encoded")

    store.before = before
    writer = make()
    answers: list[Any] = []
    for body in ("a", "poison", "b"):
        writer.submit_nowait((uuid4(), body), answers.append)
    settle(lambda: len(answers) == 3, "answers")
    assert [getattr(answer, "body", None) for answer in answers] == ["a", None, "b"]
    assert isinstance(answers[1], ChatError) and answers[1].code == "internal"


def test_a_callback_that_fails_harms_nobody(make: Any) -> None:
    writer = make()
    answers: list[Any] = []

    def broken(result: object) -> None:
        raise RuntimeError("a fault of the caller")

    writer.submit_nowait((uuid4(), "a"), broken)
    writer.submit_nowait((uuid4(), "b"), answers.append)
    settle(lambda: answers, "the answer of the other")


def test_the_queue_is_bounded(store: Store, make: Any) -> None:
    writer = make(max_queue=3)
    store.delay = 0.05
    taken = 0
    with pytest.raises(UnavailableError):
        while True:
            writer.submit_nowait((uuid4(), "x"), lambda result: None)
            taken += 1
    assert taken == 3


def test_stop_answers_everything_it_holds(store: Store, make: Any) -> None:
    writer = make(max_batch=5)
    store.delay = 0.01
    answers: list[Any] = []
    for _ in range(20):
        writer.submit_nowait((uuid4(), "x"), answers.append)
    assert writer.stop(5)
    assert [type(answer) for answer in answers] == [Row] * 20
    with pytest.raises(UnavailableError):
        writer.submit_nowait((uuid4(), "x"), answers.append)


def test_stop_without_a_database_says_unavailable(store: Store, make: Any) -> None:
    def before(batch: Sequence[New]) -> None:
        raise Away

    store.before = before
    writer = make()
    answers: list[Any] = []
    for _ in range(3):
        writer.submit_nowait((uuid4(), "x"), answers.append)
    gevent.sleep(0.01)
    assert not writer.stop(0.05)
    assert [type(answer) for answer in answers] == [UnavailableError] * 3
