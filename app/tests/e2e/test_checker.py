"""The judge itself: every rule of ``harness.checker`` is broken on purpose, and must be noticed."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from harness.checker import check
from harness.client import Connection, Sent
from harness.people import Person, Stored

ROOM = 7


@dataclass
class Told:
    """A witness made by hand."""

    person: Person
    connections: list[Connection] = field(default_factory=list)
    acks: list[tuple[str, int, int]] = field(default_factory=list)
    sent: dict[str, Sent] = field(default_factory=dict)
    pending: dict[str, Sent] = field(default_factory=dict)
    refused: list[dict[str, Any]] = field(default_factory=list)


def message(seq: int, **changed: Any) -> dict[str, Any]:
    """Return a received message."""
    base = {
        "type": "message",
        "conversation_id": ROOM,
        "seq": seq,
        "sender_id": 1,
        "client_id": f"c{seq}",
        "body": f"b{seq}",
    }
    return {**base, **changed}


@dataclass
class Run:
    """Alice sent four messages; both were on one connection until 2, and on another from then on."""

    stored: list[Stored]
    alice: Told
    bob: Told

    def problems(self) -> list[str]:
        """Judge it."""
        return check(self.stored, [self.alice, self.bob]).problems


@pytest.fixture
def run() -> Run:
    """A run without fault."""
    alice, bob = Told(Person(1, "alice", "")), Told(Person(2, "bob", ""))
    for one in (alice, bob):
        resumed = {"type": "resumed", "last_seqs": {str(ROOM): 0}}
        one.connections = [
            Connection(0, {}, [resumed, message(1), message(2)]),
            Connection(1, {ROOM: 2}, [message(3), {**resumed, "last_seqs": {str(ROOM): 3}}, message(4)]),
        ]
    alice.acks = [(f"c{n}", ROOM, n) for n in range(1, 5)]
    alice.sent = {f"c{n}": Sent(f"c{n}", ROOM, f"b{n}", n) for n in range(1, 5)}
    return Run([Stored(ROOM, n, 1, f"c{n}", f"b{n}") for n in range(1, 5)], alice, bob)


def test_a_clean_run_is_clean(run: Run) -> None:
    assert run.problems() == []
    run.alice.acks.append(run.alice.acks[0])  # a retry is answered again
    assert run.problems() == []


def _lose(run: Run) -> None:
    del run.stored[-1]


def _store_twice(run: Run) -> None:
    run.stored.append(Stored(ROOM, 5, 1, "c4", "b4"))


def _hole(run: Run) -> None:
    run.stored[3] = Stored(ROOM, 5, 1, "c4", "b4")


def _invent(run: Run) -> None:
    del run.alice.sent["c2"]


def _change(run: Run) -> None:
    run.stored[1] = Stored(ROOM, 2, 1, "c2", "something else")


def _ack_elsewhere(run: Run) -> None:
    run.alice.acks[2] = ("c3", ROOM, 4)


def _ack_twice_differently(run: Run) -> None:
    run.alice.acks.append(("c1", ROOM, 2))


def _swap(run: Run) -> None:
    run.bob.connections[0].frames[1:] = [message(2), message(1)]


def _skip(run: Run) -> None:
    del run.bob.connections[0].frames[1]


def _double(run: Run) -> None:
    run.bob.connections[0].frames.append(message(2))


def _double_over_a_reconnect(run: Run) -> None:
    run.bob.connections[1].frames.insert(0, message(2))


def _miss_over_a_reconnect(run: Run) -> None:
    del run.bob.connections[1].frames[0]


def _miss_the_end(run: Run) -> None:
    del run.bob.connections[1].frames[-1]


def _deliver_something_else(run: Run) -> None:
    run.bob.connections[0].frames[1] = message(1, body="forged")


def _deliver_anothers_name(run: Run) -> None:
    run.bob.connections[0].frames[1] = message(1, sender_id=2)


def _unordered(run: Run) -> None:
    run.alice.sent["c1"].order = 9


def _unanswered(run: Run) -> None:
    run.alice.pending = {"c4": run.alice.sent["c4"]}


def _wrong_gap(run: Run) -> None:
    run.bob.connections[1].frames[:0] = [{"type": "gap", "conversation_id": ROOM, "after_seq": 1, "last_seq": 2}]


FAULTS = [
    *(_lose, _store_twice, _hole, _invent, _change, _ack_elsewhere, _ack_twice_differently, _swap, _skip, _double),
    *(_double_over_a_reconnect, _miss_over_a_reconnect, _miss_the_end, _deliver_something_else, _deliver_anothers_name),
    *(_unordered, _unanswered, _wrong_gap),
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__.strip("_"))
def test_every_fault_is_noticed(run: Run, fault: Callable[[Run], None]) -> None:
    before = copy.deepcopy(run)
    fault(run)
    assert run != before
    assert run.problems() != []


def test_a_judgement_goes_on_where_the_last_one_ended(run: Run) -> None:
    for one in (run.alice, run.bob):
        one.connections = [Connection(1, {ROOM: 2}, one.connections[1].frames)]
    run.alice.sent = {key: run.alice.sent[key] for key in ("c3", "c4")}
    run.alice.acks = run.alice.acks[2:]
    assert check(run.stored[2:], [run.alice, run.bob], since={ROOM: 2}).problems == []
    assert check(run.stored[3:], [run.alice, run.bob], since={ROOM: 2}).problems, "the third is missing"
    assert check(run.stored[2:], [run.alice, run.bob]).problems, "without the place they begin nowhere"
