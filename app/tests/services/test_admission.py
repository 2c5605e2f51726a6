"""What a person's sending is charged, and what it is not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from uuid import UUID, uuid4

import gevent
import pytest
import sqlalchemy as sa

from hockey_hub_chat.errors import ChatError, ConflictError, NotAMemberError, RateLimitedError, UnavailableError
from hockey_hub_chat.realtime.limits import MemoryLimits
from hockey_hub_chat.services import admission, conversations
from hockey_hub_chat.services.admission import MessageAdmission
from hockey_hub_chat.storage import messages
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage

from .conftest import Club


def new(sender_id: int, room: int = 1, client_id: UUID | None = None, body: str = "x") -> NewMessage:
    return NewMessage(room, sender_id, client_id or uuid4(), body)


@pytest.fixture
def make(club: Club) -> Callable[[int], MessageAdmission]:
    """Make an admission of so many messages a minute, on a clock that stands."""
    return lambda per_minute: MessageAdmission(MemoryLimits(lambda: 1000.0), club.ctx.engine, per_minute)


def refused(verdicts: object) -> list[bool]:
    """Return which of the verdicts refuse."""
    assert isinstance(verdicts, list)
    return [verdict is not None for verdict in verdicts]


def test_each_pays_for_their_own_and_the_first_sent_are_the_first_admitted(
    make: Callable[[int], MessageAdmission],
) -> None:
    gate = make(3)
    batch = [new(sender) for sender in (1, 2, 1, 1, 2, 1, 1)]
    verdicts = gate.admit(batch)
    assert refused(verdicts) == [False, False, False, False, False, True, True]
    assert isinstance(verdicts[5], RateLimitedError) and verdicts[5].details == {"retry_after_ms": 20_000}
    assert refused(gate.admit([new(1), new(2), new(2)])) == [True, False, True]


@pytest.mark.parametrize(
    ("result", "is_given_back"),
    [
        (StoredMessage(1, 1, 1, UUID(int=1), "x", None, is_new=False), True),  # type: ignore[arg-type]
        (UnavailableError("away"), True),
        (NotAMemberError("no"), False),
        (ConflictError("no"), False),
    ],
)
def test_what_made_no_message_and_was_no_mistake_costs_nothing(
    make: Callable[[int], MessageAdmission], result: StoredMessage | ChatError, is_given_back: bool
) -> None:
    gate = make(2)
    batch = [new(1), new(1)]
    gate.admit(batch)
    gate.settle(batch, [result, result])
    assert refused(gate.admit([new(1), new(1), new(1)])) == ([False] * 2 + [True] if is_given_back else [True] * 3)


def test_who_has_no_tokens_still_learns_what_was_stored(club: Club, make: Callable[[int], MessageAdmission]) -> None:
    ann = club.who("ann")
    room = conversations.open_group(club.ctx, ann, [], "room").id
    old = new(ann.user_id, room)
    with club.ctx.engine.begin() as conn:
        (stored,) = messages.append_batch(conn, [old])
    assert isinstance(stored, StoredMessage)
    gate, verdict = make(1), RateLimitedError("no")
    answers = gate.look_up([new(ann.user_id, room), old, old._replace(body="other")], [verdict] * 3)
    assert answers[:2] == [verdict, stored._replace(is_new=False)]
    assert isinstance(answers[2], ConflictError)


def test_looking_up_is_limited_too_and_then_asks_nobody(
    club: Club, make: Callable[[int], MessageAdmission], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission, "RETRY_LOOKUPS_PER_MINUTE", 2)
    gate, verdict = make(1), RateLimitedError("no")
    asked: list[str] = []
    sa.event.listen(club.ctx.engine, "before_cursor_execute", lambda *args: asked.append(args[2]))
    assert gate.look_up([new(1)] * 2, [verdict] * 2) == [verdict] * 2
    assert sum("FROM messages" in statement for statement in asked) == 1, "one question for all"
    asked.clear()
    assert gate.look_up([new(1)] * 3, [verdict] * 3) == [verdict] * 3
    assert asked == []


class CountedLimits(MemoryLimits):
    """Limits on a clock that stands, which count how often they were asked."""

    def __init__(self) -> None:
        super().__init__(lambda: 1000.0)
        self.asked = 0

    def take(
        self, kind: str, wanted: Mapping[str, int], *, limit: int, window_ms: int = 60_000
    ) -> Mapping[str, tuple[int, int]]:
        """See ``Limits``."""
        self.asked += 1
        return super().take(kind, wanted, limit=limit, window_ms=window_ms)


def test_who_keeps_sending_is_asked_for_once_in_a_while_and_gets_exactly_the_limit(club: Club) -> None:
    limits = CountedLimits()
    gate = MessageAdmission(limits, club.ctx.engine, 40)
    verdicts = [refused(gate.admit([new(1)]))[0] for _ in range(45)]
    assert verdicts == [False] * 40 + [True] * 5
    assert limits.asked <= 40 // 5 + 1 + 5, "one turn for five messages, and one for each refusal"
    many = MessageAdmission(CountedLimits(), club.ctx.engine, 40)
    assert refused(many.admit([new(1) for _ in range(45)])) == [False] * 40 + [True] * 5


def test_what_was_taken_in_advance_and_not_used_is_given_back(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admission, "ADVANCE_SECONDS", 0.02)
    limits = CountedLimits()
    here, there = (MessageAdmission(limits, club.ctx.engine, 40) for _ in range(2))  # two workers
    assert refused(here.admit([new(1)])) == [False]
    assert refused(there.admit([new(1) for _ in range(36)])) == [False] * 35 + [True], "four are held elsewhere"
    gevent.sleep(0.1)
    assert refused(there.admit([new(1) for _ in range(5)])) == [False] * 4 + [True]


def test_a_small_limit_is_counted_one_by_one(club: Club) -> None:
    limits = CountedLimits()
    here, there = (MessageAdmission(limits, club.ctx.engine, 9) for _ in range(2))
    for number in range(9):
        assert refused((here, there)[number % 2].admit([new(1)])) == [False]
    assert limits.asked == 9
    assert refused(here.admit([new(1)])) == [True]


def test_what_is_held_is_bounded_however_high_the_limit(club: Club) -> None:
    limits = CountedLimits()
    here, there = (MessageAdmission(limits, club.ctx.engine, 1_000_000) for _ in range(2))
    assert refused(here.admit([new(1)])) == [False]
    assert limits.take("message", {"1": 1_000_000}, limit=1_000_000)["1"][0] == 1_000_000 - 1 - admission.ADVANCE_MOST
    assert refused(there.admit([new(2)])) == [False]
