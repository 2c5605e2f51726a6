"""The group-commit writer: messages become transactions here, one greenlet and one batch at a time.

What arrives while a batch is at the database is the next batch, so a busy conversation pays for its row lock and its commit
once per batch. A batch that met a database on its way out (a restart, a failover) is simply sent again: ``client_id`` makes
a repeat harmless, also when the first commit had gone through unseen. It knows no SQL: the transaction is injected.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Generic, Protocol, TypeVar
from uuid import UUID

import gevent
import structlog
from gevent.event import AsyncResult, Event

from hockey_hub_chat import metrics
from hockey_hub_chat.errors import ChatError, UnavailableError

log = structlog.get_logger(__name__)

MAX_BATCH = 500
MAX_QUEUE = 10_000
#: How long a message waits for a database that is away before its sender is told to try again.
PATIENCE_SECONDS = 10.0
#: One transaction may not take longer, or a connection into nowhere would block everybody behind it.
TRANSACTION_SECONDS = 12.0
_RETRY_SECONDS = (0.02, 0.1, 0.25, 0.5)


class Stored(Protocol):
    """What the injected transaction answers for a message (``storage.messages.StoredMessage``)."""

    @property
    def conversation_id(self) -> int: ...
    @property
    def seq(self) -> int: ...
    @property
    def sender_id(self) -> int: ...
    @property
    def client_id(self) -> UUID: ...
    @property
    def body(self) -> str: ...
    @property
    def created_at(self) -> datetime: ...
    @property
    def is_new(self) -> bool: ...


N = TypeVar("N")
S = TypeVar("S", bound=Stored)


@dataclass(slots=True, eq=False)
class _Entry(Generic[N, S]):
    new: N
    deliver: Callable[[S | ChatError], None]
    deadline: float
    answered: bool = False

    def answer(self, result: S | ChatError) -> None:
        """Deliver the first answer; a later one (the commit of a message given up on) has nobody waiting."""
        if self.answered:
            return
        self.answered = True
        try:
            self.deliver(result)
        except Exception:  # the sender's callback must never take the writer, and everybody else's messages, with it
            log.exception("writer_callback_failed")


class Writer(Generic[N, S]):
    """Commits messages in batches.

    Args:
        append: stores a batch in one transaction of its own and answers each message with the stored one or its error.
        is_transient: whether an exception of ``append`` may pass by itself (connection lost, deadlock, fail-over).
        is_conflict: whether it is a uniqueness race with another node, which one repetition settles.
        on_committed: called after each commit with everything stored, repeats included; publishes. Must not wait.
        release: lets go of what ``append`` holds; called when the writer has stopped.
    """

    def __init__(
        self,
        append: Callable[[Sequence[N]], Sequence[S | ChatError]],
        *,
        is_transient: Callable[[Exception], bool],
        is_conflict: Callable[[Exception], bool],
        on_committed: Callable[[Sequence[S]], None],
        release: Callable[[], None] = lambda: None,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._append = append
        self._is_transient = is_transient
        self._is_conflict = is_conflict
        self._on_committed = on_committed
        self._release = release
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._patience = patience
        self._queue: deque[_Entry[N, S]] = deque()
        self._batch: list[_Entry[N, S]] = []
        self._wake = Event()
        self._idle = Event()
        self._idle.set()
        self._stopping = False
        self._greenlets: list[gevent.Greenlet] = []

    def start(self) -> None:
        """Start the greenlets, once, in the process that is to write. Safe to repeat."""
        if not self._greenlets:
            self._greenlets = [gevent.spawn(self._run), gevent.spawn(self._give_up_late)]

    def submit(self, new: N) -> S:
        """Store one message and wait for its commit.

        Raises:
            ChatError: what ``append`` answered for it, or UnavailableError after ten seconds without a database.
        """
        answer: AsyncResult[S | ChatError] = AsyncResult()
        self.submit_nowait(new, answer.set)
        result: S | ChatError = answer.get()
        if isinstance(result, ChatError):
            raise result
        return result

    def submit_nowait(self, new: N, deliver: Callable[[S | ChatError], None]) -> None:
        """Queue one message; ``deliver`` is called once with the stored message or its error. It must not wait.

        Raises:
            UnavailableError: the queue is full, or the writer is stopping.
        """
        if self._stopping:
            raise UnavailableError("The server is restarting; send again.")
        if len(self._queue) >= self._max_queue:
            raise UnavailableError("Too many messages are waiting; send again shortly.")
        self._queue.append(_Entry(new, deliver, time.monotonic() + self._patience))
        self._idle.clear()
        self._wake.set()

    def stop(self, timeout: float) -> bool:
        """Take nothing more, commit and answer what is held. Returns whether all was answered within ``timeout`` seconds."""
        self._stopping = True
        finished = bool(self._idle.wait(timeout))
        gevent.killall(self._greenlets)
        self._greenlets = []
        self._release()
        for entry in (*self._batch, *self._queue):
            entry.answer(UnavailableError("The server is restarting; send again."))
        return finished

    # --- the greenlets -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            if not self._queue:
                self._idle.set()
                self._wake.clear()
                self._wake.wait()
            self._commit_next()

    def _commit_next(self) -> None:
        """Commit one batch, through retries, taking newcomers along when it has to be repeated."""
        attempt = 0
        conflicts = 0
        while True:
            self._fill_batch()
            if not self._batch:
                return
            # A gevent.Timeout, not an Exception: the connection pool then throws the half-used connection away.
            timeout = gevent.Timeout.start_new(TRANSACTION_SECONDS)
            try:
                results = self._append([entry.new for entry in self._batch])
            except (Exception, gevent.Timeout) as error:
                if isinstance(error, gevent.Timeout) and error is not timeout:
                    raise
                if isinstance(error, gevent.Timeout) or self._is_transient(error):
                    timeout.close()
                    delay = _RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)]
                    if attempt in (0, 3) or attempt % 20 == 0:
                        log.warning("writer_database_away", error=type(error).__name__, waiting=len(self._queue))
                    attempt += 1
                    gevent.sleep(delay)
                    continue
                if self._is_conflict(error) and conflicts < 3:
                    conflicts += 1
                    continue
                timeout.close()
                self._commit_one_by_one(error)
                return
            finally:
                timeout.close()
            if attempt:
                log.info("writer_database_back", attempts=attempt)
            batch, self._batch = self._batch, []
            self._settle(batch, results)
            return

    def _fill_batch(self) -> None:
        self._batch = [entry for entry in self._batch if not entry.answered]
        while self._queue and len(self._batch) < self._max_batch:
            entry = self._queue.popleft()
            if not entry.answered:
                self._batch.append(entry)

    def _settle(self, batch: Sequence[_Entry[N, S]], results: Sequence[S | ChatError]) -> None:
        metrics.WRITER_BATCH_SIZE.observe(len(batch))
        for entry, result in zip(batch, results, strict=True):
            entry.answer(result)
        stored = [result for result in results if not isinstance(result, ChatError)]
        new = sum(1 for message in stored if message.is_new)
        if new:
            metrics.MESSAGES_SENT.labels(type="text").inc(new)
        if stored:
            try:
                self._on_committed(stored)
            except Exception:  # committed and acknowledged; the hubs' own comparison will find it
                log.exception("writer_publish_failed")

    def _commit_one_by_one(self, error: Exception) -> None:
        """Keep one message the database cannot take from failing its whole batch."""
        batch, self._batch = self._batch, []
        if len(batch) == 1:
            log.error("writer_message_refused", exc_info=error)
            batch[0].answer(ChatError("The message could not be stored."))
            return
        for entry in reversed(batch):
            self._queue.appendleft(entry)
        for _ in batch:
            saved, self._max_batch = self._max_batch, 1
            try:
                self._commit_next()
            finally:
                self._max_batch = saved

    def _give_up_late(self) -> None:
        """Answer messages whose patience ran out, also while the transaction in progress hangs."""
        while True:
            gevent.sleep(0.25)
            now = time.monotonic()
            for entry in (*self._batch, *self._queue) if self._overdue(now) else ():
                if entry.deadline <= now:
                    entry.answer(UnavailableError("The database is away; send again with the same client_id."))

    def _overdue(self, now: float) -> bool:
        oldest = self._batch[0] if self._batch else self._queue[0] if self._queue else None
        return oldest is not None and oldest.deadline <= now
