"""The writer's two stages: what is admitted meanwhile, refused beside, and told afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import gevent
import pytest
from gevent.event import Event

from hockey_hub_chat import metrics
from hockey_hub_chat.errors import ChatError, NotAMemberError, RateLimitedError, UnavailableError
from hockey_hub_chat.realtime.writer import Writer
from realtime.fakes import Row, settle

New = str  # "ann 1": a sender and a number; "eve …" has no tokens, "old …" is stored already, "foreign …" may not


class Away(Exception):
    """The database is away."""


class Gates:
    """Stands for limits and database: keeps what each was asked, and waits at a closed gate."""

    def __init__(self) -> None:
        self.admitted: list[list[New]] = []
        self.appended: list[list[New]] = []
        self.looked_up: list[list[New]] = []
        self.settled: list[tuple[New, Any]] = []
        self.happened: list[str] = []
        self.rows = 0
        self.is_away = False
        self.at_once: set[New] = set()
        self.admit_gate, self.append_gate, self.look_up_gate = Event(), Event(), Event()
        for gate in (self.admit_gate, self.append_gate, self.look_up_gate):
            gate.set()

    def admit(self, batch: Sequence[New]) -> Sequence[ChatError | None]:
        """Refuse eve."""
        self.admitted.append(list(batch))
        self.admit_gate.wait()
        return [RateLimitedError("no") if new.startswith("eve") else None for new in batch]

    def admit_at_once(self, new: New) -> bool:
        """Admit what the test says."""
        return new in self.at_once

    def look_up(self, refused: Sequence[New], verdicts: Sequence[ChatError]) -> Sequence[Row | ChatError]:
        """Know what eve calls old."""
        self.looked_up.append(list(refused))
        self.look_up_gate.wait()
        if self.is_away:
            raise UnavailableError("away")
        old = Row(1, 7, is_new=False)
        return [old if "old" in new else verdict for new, verdict in zip(refused, verdicts, strict=True)]

    def settle(self, batch: Sequence[New], results: Sequence[Row | ChatError]) -> None:
        """Keep what was told."""
        self.settled += zip(batch, results, strict=True)

    def append(self, batch: Sequence[New]) -> list[Row | ChatError]:
        """Store a batch."""
        self.appended.append(list(batch))
        self.append_gate.wait()
        if self.is_away:
            raise Away
        return [self._append_one(new) for new in batch]

    def _append_one(self, new: New) -> Row | ChatError:
        if new.startswith("foreign"):
            return NotAMemberError("no")
        self.rows += 1
        row = Row(1, self.rows, new)
        return replace(row, is_new=False) if new.startswith("old") else row


@pytest.fixture
def gates() -> Gates:
    """All open."""
    return Gates()


Make = Callable[..., Writer[New, Row]]


@pytest.fixture
def make(gates: Gates) -> Iterator[Make]:
    """Make writers between the gates; ended afterwards."""
    made: list[Writer[New, Row]] = []

    def build(**options: Any) -> Writer[New, Row]:
        writer: Writer[New, Row] = Writer(
            gates.append,
            is_transient=lambda error: isinstance(error, Away),
            is_conflict=lambda error: False,
            on_committed=lambda stored: gates.happened.append(f"published {len(stored)}"),
            admission=gates,
            **options,
        )
        made.append(writer)
        writer.start()
        return writer

    yield build
    for writer in made:
        writer.stop(0)


def test_one_batch_is_admitted_while_the_one_before_is_stored(gates: Gates, make: Make) -> None:
    writer = make()
    gates.append_gate.clear()
    answers: list[Any] = []
    for number in range(6):
        writer.submit_nowait(f"ann {number}", answers.append)
        settle(lambda: sum(map(len, gates.admitted)) == number + 1, "admission")  # noqa: B023  # called at once
    settle(lambda: gates.appended == [["ann 0"]], "the first batch at the database")
    gates.append_gate.set()
    settle(lambda: len(answers) == 6, "answers")
    assert gates.appended == [["ann 0"], [f"ann {number}" for number in range(1, 6)]]
    assert [answer.seq for answer in answers] == [1, 2, 3, 4, 5, 6]


def test_what_arrives_during_an_admission_is_the_next_one(gates: Gates, make: Make) -> None:
    writer = make()
    gates.admit_gate.clear()
    answers: list[Any] = []
    for number in range(20):
        writer.submit_nowait(f"ann {number}", answers.append)
        if number == 0:
            settle(lambda: gates.admitted, "the first admission")
    gates.admit_gate.set()
    settle(lambda: len(answers) == 20, "answers")
    assert [len(batch) for batch in gates.admitted] == [1, 19]
    assert [answer.body for answer in answers] == [f"ann {number}" for number in range(20)], "in the order sent"


def test_handing_over_never_waits_even_in_the_event_loop_itself(gates: Gates, make: Make) -> None:
    writer = make()
    gates.admit_gate.clear()
    answers: list[Any] = []
    for number in range(3):
        gevent.get_hub().loop.run_callback(writer.submit_nowait, f"ann {number}", answers.append)
    settle(lambda: writer._waiting() or gates.admitted, "handed over")
    gates.admit_gate.set()
    settle(lambda: len(answers) == 3, "answers")


def test_who_is_refused_is_looked_up_and_holds_up_nobody(gates: Gates, make: Make) -> None:
    writer = make()
    gates.look_up_gate.clear()
    answers: dict[str, Any] = {}
    for new in ("eve new", "ann 1", "eve old", "ann 2"):
        writer.submit_nowait(new, lambda result, new=new: answers.update({new: result}))  # type: ignore[misc]
    settle(lambda: len(answers) == 2, "the answers of the others")
    assert answers.keys() == {"ann 1", "ann 2"} and gates.appended == [["ann 1", "ann 2"]]
    gates.look_up_gate.set()
    settle(lambda: len(answers) == 4, "eve's answers")
    assert isinstance(answers["eve new"], RateLimitedError) and answers["eve old"].seq == 7
    assert gates.looked_up == [["eve new", "eve old"]] and gates.settled == [], "what was not charged is not given back"


def test_a_look_up_without_a_database_is_unavailable(gates: Gates, make: Make) -> None:
    writer = make()
    gates.is_away = True
    with pytest.raises(UnavailableError):
        writer.submit("eve old")


def test_only_what_made_no_new_message_is_told_afterwards(gates: Gates, make: Make) -> None:
    writer = make()
    answers: list[Any] = []
    for new in ("ann 1", "old 1", "foreign 1", "ann 2"):
        writer.submit_nowait(new, answers.append)
    settle(lambda: len(answers) == 4, "answers")
    settle(lambda: gates.settled, "what is told")
    assert [(new, type(result)) for new, result in gates.settled] == [("old 1", Row), ("foreign 1", NotAMemberError)]


def test_what_is_given_up_on_is_told_once_if_it_was_charged(gates: Gates, make: Make) -> None:
    writer = make(patience=0.2)
    gates.append_gate.clear()
    answers: list[Any] = []
    writer.submit_nowait("ann committing", answers.append)
    settle(lambda: gates.appended, "the batch at the database")
    writer.submit_nowait("ann queued", answers.append)
    settle(lambda: len(gates.admitted) == 2 and not writer._admitting, "the second admission")
    gates.admit_gate.clear()
    writer.submit_nowait("ann admitting", answers.append)
    settle(lambda: len(gates.admitted) == 3, "the third admission")
    writer.submit_nowait("ann arrived", answers.append)
    settle(lambda: len(answers) == 4, "all given up on")
    assert {type(answer) for answer in answers} == {UnavailableError}
    assert [new for new, _ in gates.settled] == ["ann committing", "ann queued"]
    gates.admit_gate.set()
    gates.append_gate.set()
    settle(lambda: len(gates.settled) == 3, "the one that was charged while it was given up on")
    settle(lambda: writer._held() == [] and not writer._batch, "nothing left")
    assert [new for new, _ in gates.settled] == ["ann committing", "ann queued", "ann admitting"]
    assert all(isinstance(result, UnavailableError) for _, result in gates.settled)
    assert len(answers) == 4 and gates.appended == [["ann committing"]]


def test_all_senders_are_answered_before_the_bus_and_nothing_runs_between(gates: Gates, make: Make) -> None:
    writer = make()
    gates.admit_gate.clear()

    def answer(result: object) -> None:
        gates.happened.append("answered")
        gevent.spawn(gates.happened.append, "another greenlet")

    for number in range(3):
        writer.submit_nowait(f"ann {number}", answer)
    gates.admit_gate.set()
    settle(lambda: gates.happened.count("another greenlet") == 3, "the others' turn")
    assert gates.happened == ["answered"] * 3 + ["published 3"] + ["another greenlet"] * 3


def test_a_fault_in_the_limits_refuses_nobody(gates: Gates, make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(batch: Sequence[New]) -> Sequence[ChatError | None]:
        raise ZeroDivisionError

    monkeypatch.setattr(gates, "admit", fail)
    assert make().submit("ann 1").seq == 1


def test_the_bound_counts_every_stage(gates: Gates, make: Make) -> None:
    writer = make(max_queue=4, max_batch=1)
    gates.append_gate.clear()
    gates.look_up_gate.clear()
    for number, new in enumerate(("ann 1", "ann 2", "ann 3", "eve 1", "eve 2"), 1):
        writer.submit_nowait(new, lambda result: None)
        settle(lambda: len(gates.admitted) == number and not writer._admitting, "admission")  # noqa: B023  # called at once
    settle(lambda: gates.appended and gates.looked_up, "one at the database, one looked up: those do not wait")
    writer.submit_nowait("ann 4", lambda result: None)
    with pytest.raises(UnavailableError):
        writer.submit_nowait("ann 5", lambda result: None)


def test_stop_answers_every_stage(gates: Gates, make: Make) -> None:
    writer = make(max_batch=2)
    gates.append_gate.clear()
    answers: list[Any] = []
    for new in ("ann 1", "ann 2", "ann 3", "eve 1", "eve old"):
        writer.submit_nowait(new, answers.append)
    gevent.spawn_later(0.01, gates.append_gate.set)
    assert writer.stop(5)
    assert sorted(type(answer).__name__ for answer in answers) == ["RateLimitedError"] + ["Row"] * 4


def test_stop_gives_up_on_every_stage_after_its_time(gates: Gates, make: Make) -> None:
    writer = make()
    gates.append_gate.clear()
    gates.look_up_gate.clear()
    answers: list[Any] = []
    for new in ("ann 1", "eve 1"):
        writer.submit_nowait(new, answers.append)
    settle(lambda: gates.appended and gates.looked_up, "both on their way")
    gates.admit_gate.clear()
    writer.submit_nowait("ann 2", answers.append)
    settle(lambda: len(gates.admitted) == 2, "the second admission")
    writer.submit_nowait("ann 3", answers.append)
    assert not writer.stop(0.01)
    assert [type(answer) for answer in answers] == [UnavailableError] * 4


def test_a_batch_is_counted_message_by_message(gates: Gates, make: Make) -> None:
    names = ("chat_messages_sent_total", "chat_acks_total", "chat_message_processing_duration_seconds_count")
    before = {name: value_of(name) for name in names}
    writer = make()
    gates.admit_gate.clear()
    answers: list[Any] = []
    for new in ("ann 1", "ann 2", "old 1", "foreign 1", "eve old"):
        writer.submit_nowait(new, answers.append)
    gates.admit_gate.set()
    settle(lambda: len(answers) == 5, "answers")
    gevent.sleep(0)
    counted = {name: value_of(name) - before[name] for name in names}
    assert counted == dict(zip(names, (2, 4, 3), strict=True))


def value_of(name: str) -> float:
    """Return the sum of a metric's samples of this name."""
    lines = metrics.exposition().decode().splitlines()
    return sum(float(line.rpartition(" ")[2]) for line in lines if line.startswith((f"{name} ", f"{name}{{")))


def test_who_can_be_admitted_at_once_skips_the_stage_but_overtakes_nobody(gates: Gates, make: Make) -> None:
    writer = make()
    gates.at_once = {"b", "c"}
    gates.admit_gate.clear()
    answers: list[str] = []
    for new in ("a", "b"):
        writer.submit_nowait(new, lambda row, new=new: answers.append(new))  # type: ignore[misc]
    gevent.sleep(0.01)
    assert answers == [] and gates.admitted == [["a", "b"]]
    gates.admit_gate.set()
    settle(lambda: answers == ["a", "b"], "both, in order")
    writer.submit_nowait("c", lambda row: answers.append("c"))
    settle(lambda: answers == ["a", "b", "c"], "the third")
    assert gates.admitted == [["a", "b"]], "the third asked nobody"


def test_a_few_that_wait_are_let_gather_and_many_are_not(gates: Gates, make: Make) -> None:
    breaths: list[int] = []
    writer = make(breathe=lambda: breaths.append(len(gates.appended)))
    gates.at_once = {str(number) for number in range(100)}
    gates.append_gate.clear()
    gevent.sleep(0)  # its greenlets wait for work
    writer.submit_nowait("0", lambda row: None)
    gevent.sleep(0.01)
    assert gates.appended == [["0"]] and breaths == [], "one alone waits for nobody"
    for number in (1, 2):
        writer.submit_nowait(str(number), lambda row: None)
    gates.append_gate.set()
    settle(lambda: gates.appended == [["0"], ["1", "2"]], "the few")
    assert breaths == [1]
    gates.append_gate.clear()
    writer.submit_nowait("3", lambda row: None)
    gevent.sleep(0.01)
    for number in range(4, 40):
        writer.submit_nowait(str(number), lambda row: None)
    gates.append_gate.set()
    settle(lambda: len(gates.appended) == 4, "the many")
    assert breaths == [1]
