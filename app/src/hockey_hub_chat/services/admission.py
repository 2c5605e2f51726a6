"""Who may send how much: what the writer asks before it stores a batch, and tells afterwards.

Rules that live here:

- ``MESSAGE_RATE_LIMIT`` counts *new* messages of one person per minute, over all workers.
- A retry of something already stored is never refused: its token is given back (as it is when the database was away), and where
  none is left the first result is looked up instead. So a client that comes back with fifty unacknowledged messages is not locked
  out by its own repetitions, and gains nothing by them either.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import sqlalchemy as sa

from hockey_hub_chat.errors import ChatError, UnavailableError
from hockey_hub_chat.realtime.limits import Limits, MemoryLimits, count_refusals, refusal
from hockey_hub_chat.storage import messages
from hockey_hub_chat.storage.engine import reading
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage

#: Past its limit a person may still ask so many times a minute whether a repeated message is stored already.
RETRY_LOOKUPS_PER_MINUTE = 300
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

    def admit(self, batch: Sequence[NewMessage]) -> Sequence[ChatError | None]:
        """Take a token for each message: None, or the RateLimitedError of one that has none."""
        wanted: dict[int, int] = {}
        for new in batch:
            sender_id = new.sender_id
            wanted[sender_id] = wanted.get(sender_id, 0) + 1
        counts = {str(sender_id): count for sender_id, count in wanted.items()}
        short = self._limits.take(_KIND, counts, limit=self._per_minute)
        verdicts: list[ChatError | None] = [None] * len(batch)
        if not short:
            return verdicts
        left = {int(key): granted for key, (granted, _) in short.items()}
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
