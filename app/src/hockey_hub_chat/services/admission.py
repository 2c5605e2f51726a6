"""Who may send how much: what the writer asks before it stores a batch, and tells afterwards.

Rules that live here:

- ``MESSAGE_RATE_LIMIT`` counts *new* messages of one person per minute, over all workers.
- A retry of something already stored is never refused: its token is given back (as it is when the database was away), and where
  none is left the first result is looked up instead. So a client that comes back with fifty unacknowledged messages is not locked
  out by its own repetitions, and gains nothing by them either.
- Who sends takes a tenth of the limit in advance, so that not every message has to ask Redis first: that turn is a third of the way of
  a lone message. What is not used within a second is given back. Limits under ten are counted one by one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import gevent
import sqlalchemy as sa

from hockey_hub_chat.errors import ChatError, UnavailableError
from hockey_hub_chat.realtime.limits import Limits, MemoryLimits, count_refusals, refusal
from hockey_hub_chat.storage import messages
from hockey_hub_chat.storage.engine import reading
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage

#: Past its limit a person may still ask so many times a minute whether a repeated message is stored already.
RETRY_LOOKUPS_PER_MINUTE = 300
#: The part of the limit that is taken in advance, at most how many that may be, and how long they may lie unused. What a worker holds
#: when it is killed its sender has to earn again.
ADVANCE_PART = 10
ADVANCE_MOST = 100
ADVANCE_SECONDS = 1.0
_KIND = "message"


class MessageAdmission:
    """See ``realtime.writer.Admission``.

    Args:
        limits: counts over all workers.
        engine: where first results are looked up.
        per_minute: new messages of one person.
    """

    def __init__(self, limits: Limits, engine: sa.Engine, per_minute: int) -> None:
        self._limits = limits
        self._engine = engine
        self._per_minute = per_minute
        self._lookups = MemoryLimits()
        self._advance = min(per_minute // ADVANCE_PART, ADVANCE_MOST)
        self._held: dict[int, int] = {}
        self._used: set[int] = set()  # who has used of what is held since the last look
        self._looking = False

    def admit(self, batch: Sequence[NewMessage]) -> Sequence[ChatError | None]:
        """Take a token for each message: None, or the RateLimitedError of one that has none."""
        wanted: dict[int, int] = {}
        for new in batch:
            sender_id = new.sender_id
            wanted[sender_id] = wanted.get(sender_id, 0) + 1
        missing = self._use_held(wanted)
        if not missing:
            return [None] * len(batch)
        short = self._limits.take(
            _KIND,
            {str(sender_id): count + self._advance for sender_id, count in missing.items()},
            limit=self._per_minute,
        )
        refused = self._hold_rest(missing, short)
        verdicts: list[ChatError | None] = [None] * len(batch)
        if not refused:
            return verdicts
        left = {sender_id: wanted[sender_id] - lacking for sender_id, lacking in refused.items()}
        for number, new in enumerate(batch):
            granted = left.get(new.sender_id)
            if granted is None:
                continue
            if granted == 0:
                verdicts[number] = refusal(short[str(new.sender_id)][1])
            else:
                left[new.sender_id] = granted - 1
        count_refusals(_KIND, len(batch) - verdicts.count(None))
        return verdicts

    def admit_at_once(self, new: NewMessage) -> bool:
        """Use a token that is held."""
        held = self._held.get(new.sender_id, 0)
        if not held:
            return False
        self._held[new.sender_id] = held - 1
        self._used.add(new.sender_id)
        return True

    def _use_held(self, wanted: dict[int, int]) -> dict[int, int]:
        """Use what is held; return what each sender still lacks."""
        held = self._held
        missing: dict[int, int] = {}
        for sender_id, count in wanted.items():
            rest = held.get(sender_id, 0) - count
            if rest >= 0:
                held[sender_id] = rest
                self._used.add(sender_id)
            else:
                held.pop(sender_id, None)
                missing[sender_id] = -rest
        return missing

    def _hold_rest(self, missing: dict[int, int], short: Mapping[str, tuple[int, int]]) -> dict[int, int]:
        """Hold what was granted past what was missing; return what each sender lacks even so."""
        refused: dict[int, int] = {}
        for sender_id, count in missing.items():
            granted = short.get(str(sender_id), (count + self._advance, 0))[0]
            if granted < count:
                refused[sender_id] = count - granted
            elif granted > count:
                # Added, not set: Redis was waited for, and only this stage uses what is held.
                self._held[sender_id] = self._held.get(sender_id, 0) + granted - count
                self._used.add(sender_id)
        if self._held and not self._looking:
            self._looking = True
            gevent.spawn_later(ADVANCE_SECONDS, self._give_back_unused)
        return refused

    def _give_back_unused(self) -> None:
        """Give back what was held by those who have not used of it since the last look."""
        self._looking = False
        unused = {sender_id: count for sender_id, count in self._held.items() if sender_id not in self._used}
        self._used.clear()
        for sender_id in unused:
            del self._held[sender_id]
        if self._held:
            self._looking = True
            gevent.spawn_later(ADVANCE_SECONDS, self._give_back_unused)
        back = {str(sender_id): count for sender_id, count in unused.items() if count}
        if back:
            self._limits.give_back(_KIND, back, limit=self._per_minute)

    def look_up(
        self, refused: Sequence[NewMessage], verdicts: Sequence[ChatError]
    ) -> Sequence[StoredMessage | ChatError]:
        """Return the first result of what is a retry, or ConflictError; the verdict of what is none.

        Raises:
            UnavailableError: the database is away.
        """
        answers: list[StoredMessage | ChatError] = list(verdicts)
        asked = [
            number
            for number, new in enumerate(refused)
            if not self._lookups.take("message_retry", {str(new.sender_id): 1}, limit=RETRY_LOOKUPS_PER_MINUTE)
        ]
        if not asked:
            return answers
        with reading(self._engine) as conn:
            found = messages.find_retried(conn, [refused[number] for number in asked])
        for number, first in zip(asked, found, strict=True):
            answers[number] = first or answers[number]
        return answers

    def settle(self, batch: Sequence[NewMessage], results: Sequence[StoredMessage | ChatError]) -> None:
        """Give the tokens back for what made no message: a repetition, or a database that was away."""
        back = Counter(
            str(new.sender_id)
            for new, result in zip(batch, results, strict=True)
            if isinstance(result, UnavailableError) or (isinstance(result, StoredMessage) and not result.is_new)
        )
        if back:
            self._limits.give_back(_KIND, back, limit=self._per_minute)
