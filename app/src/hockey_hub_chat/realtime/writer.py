"""The group-commit writer: messages become transactions here, one batch at a time.

A message passes two stages, each with a greenlet of its own: it is *admitted* (has its sender tokens left?), then *committed*.
What arrives while a stage is busy is its next batch, so a busy conversation pays for its row lock and its commit once per batch,
and one batch is admitted while the one before is at the database. Messages keep their order through both. A batch that met a
database on its way out (a restart, a failover) is simply sent again: ``client_id`` makes a repeat harmless, also when the first
commit had gone through unseen. It knows no SQL and no limits: what the stages do is injected.
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
#: Fewer messages than this are worth a moment's wait for more: see ``breathe``.
FEW = 8
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
_N = TypeVar("_N", contravariant=True)
S = TypeVar("S", bound=Stored)


class Admission(Protocol[_N, S]):
    """Decides what may be stored (``services.admission``). Nothing here is called twice at the same time."""

    def admit(self, batch: Sequence[_N]) -> Sequence[ChatError | None]:
        """Return for each message None, or why it may not be stored. May wait; the next batch gathers meanwhile."""

    def admit_at_once(self, new: _N) -> bool:
        """Whether a message may be stored, if that can be said without waiting; False says nothing."""

    def look_up(self, refused: Sequence[_N], verdicts: Sequence[ChatError]) -> Sequence[S | ChatError]:
        """Return the answers to messages that were refused. May wait for the database; nobody else waits for it."""

    def settle(self, batch: Sequence[_N], results: Sequence[S | ChatError]) -> None:
        """Hear of admitted messages that made no new one: repeats, refusals, failures. Must not wait."""


@dataclass(slots=True, eq=False)
class _Entry(Generic[N, S]):
    new: N
    deliver: Callable[[S | ChatError], None]
    since: float
    answered: bool = False


class Writer(Generic[N, S]):
    """Commits messages in batches.

    Args:
        append: stores a batch in one transaction of its own and answers each message with the stored one or its error.
        is_transient: whether an exception of ``append`` may pass by itself (connection lost, deadlock, fail-over).
        is_conflict: whether it is a uniqueness race with another node, which one repetition settles.
        on_committed: called after each commit with everything stored, repeats included; publishes. Must not wait. Between the
            answers to the senders and this nothing else runs, so both may leave in one packet.
        admission: decides what may be stored; None: everything.
        breathe: called between a batch and one of few messages; may wait a millisecond, until the answers to the former have left.
            Who is answered sends again: then they go together, in one commit and one write for each socket, not in turns.
        release: lets go of what ``append`` holds; called when the writer has stopped.
    """

    def __init__(
        self,
        append: Callable[[Sequence[N]], Sequence[S | ChatError]],
        *,
        is_transient: Callable[[Exception], bool],
        is_conflict: Callable[[Exception], bool],
        on_committed: Callable[[Sequence[S]], None],
        admission: Admission[N, S] | None = None,
        breathe: Callable[[], None] = lambda: None,
        release: Callable[[], None] = lambda: None,
        max_batch: int = MAX_BATCH,
        max_queue: int = MAX_QUEUE,
        patience: float = PATIENCE_SECONDS,
    ) -> None:
        self._append = append
        self._is_transient = is_transient
        self._is_conflict = is_conflict
        self._on_committed = on_committed
        self._admission = admission
        self._breathe = breathe
        self._release = release
        self._max_batch = max_batch
        self._max_queue = max_queue
        self._patience = patience
        # arrived -> admitting -> queue -> batch, or arrived -> admitting -> refused -> looking; without admission from the queue on
        self._arrived: deque[_Entry[N, S]] = deque()
        self._admitting: list[_Entry[N, S]] = []
        self._queue: deque[_Entry[N, S]] = deque()
        self._batch: list[_Entry[N, S]] = []
        self._refused: deque[tuple[_Entry[N, S], ChatError]] = deque()
        self._looking: list[_Entry[N, S]] = []
        self._has_arrived = Event()
        self._has_work = Event()
        self._has_refused = Event()
        self._inbox, self._inbox_filled = (
            (self._queue, self._has_work) if admission is None else (self._arrived, self._has_arrived)
        )
        self._idle = Event()
        self._stopping = False
        self._greenlets: list[gevent.Greenlet] = []

    def start(self) -> None:
        """Start the greenlets, once, in the process that is to write. Safe to repeat."""
        if self._greenlets:
            return
        self._greenlets = [gevent.spawn(self._commit_loop), gevent.spawn(self._give_up_late)]
        if self._admission is not None:
            self._greenlets.append(gevent.spawn(self._admit_loop, self._admission))
            self._greenlets.append(gevent.spawn(self._look_up_loop, self._admission))

    def submit(self, new: N) -> S:
        """Store one message and wait for its commit.

        Raises:
            ChatError: what ``append`` or the admission answered for it, or UnavailableError after ten seconds without a database.
        """
        answer: AsyncResult[S | ChatError] = AsyncResult()
        self.submit_nowait(new, answer.set)
        result: S | ChatError = answer.get()
        if isinstance(result, ChatError):
            raise result
        return result

    def submit_nowait(self, new: N, deliver: Callable[[S | ChatError], None]) -> None:
        """Queue one message and return at once, from any greenlet, the event loop's own too.

        Args:
            deliver: called once with the stored message or its error. It must not wait.

        Raises:
            UnavailableError: the queue is full, or the writer is stopping.
        """
        if self._stopping:
            raise UnavailableError("The server is restarting; send again.")
        if len(self._arrived) + len(self._queue) + len(self._refused) >= self._max_queue:
            raise UnavailableError("Too many messages are waiting; send again shortly.")
        inbox, filled = self._inbox, self._inbox_filled
        if (
            self._admission is not None
            and not self._arrived  # nothing of this sender may be overtaken
            and not self._admitting
            and self._admission.admit_at_once(new)
        ):
            inbox, filled = self._queue, self._has_work
        if not inbox:
            filled.set()
        inbox.append(_Entry(new, deliver, time.monotonic()))

    def stop(self, timeout: float) -> bool:
        """Take nothing more, commit and answer what is held. Returns whether all was answered within ``timeout`` seconds."""
        self._stopping = True
        self._note_idle()
        finished = bool(self._idle.wait(timeout))
        gevent.killall(self._greenlets)
        self._greenlets = []
        self._release()
        for entry in self._held():
            self._answer(entry, UnavailableError("The server is restarting; send again."))
        return finished

    def _waiting(self) -> int:
        return len(self._arrived) + len(self._queue) + len(self._refused)

    def _held(self) -> list[_Entry[N, S]]:
        refused = (entry for entry, _ in self._refused)
        every = (*self._batch, *self._queue, *self._looking, *refused, *self._admitting, *self._arrived)
        return [entry for entry in every if not entry.answered]

    def _note_idle(self) -> None:
        if self._stopping and not self._held():
            self._idle.set()

    def _take(self, queue: deque[_Entry[N, S]], count: int) -> list[_Entry[N, S]]:
        taken: list[_Entry[N, S]] = []
        while queue and len(taken) < count:
            entry = queue.popleft()
            if not entry.answered:
                taken.append(entry)
        return taken

    def _answer(self, entry: _Entry[N, S], result: S | ChatError) -> None:
        """Deliver the first answer; a later one (the commit of a message given up on) has nobody waiting."""
        if entry.answered:
            return
        entry.answered = True
        try:
            entry.deliver(result)
        except Exception:  # the sender's callback must never take the writer, and everybody else's messages, with it
            log.exception("writer_callback_failed")

    # --- admission -------------------------------------------------------------------------------------------------------

    def _admit_loop(self, admission: Admission[N, S]) -> None:
        while True:
            if not self._arrived:
                self._has_arrived.clear()
                self._has_arrived.wait()
            batch = self._admitting = self._take(self._arrived, self._max_batch)
            if batch:
                self._admit(admission, batch)
            self._admitting = []
            self._note_idle()

    def _admit(self, admission: Admission[N, S], batch: Sequence[_Entry[N, S]]) -> None:
        verdicts: Sequence[ChatError | None]
        try:
            verdicts = admission.admit([entry.new for entry in batch])
        except Exception:  # refusing everybody would turn a small fault into a large one
            log.exception("writer_admission_failed")
            verdicts = [None] * len(batch)
        late: list[_Entry[N, S]] = []
        was_empty, had_refused = not self._queue, bool(self._refused)
        for entry, verdict in zip(batch, verdicts, strict=True):
            if verdict is not None:
                self._refused.append((entry, verdict))
            elif entry.answered:
                late.append(entry)  # given up on while it was being charged for
            else:
                self._queue.append(entry)
        if was_empty and self._queue:
            self._has_work.set()
        if self._refused and not had_refused:
            self._has_refused.set()
        self._settle(late, [_away()] * len(late))

    def _look_up_loop(self, admission: Admission[N, S]) -> None:
        """Answer what was refused, beside the stages: a client short of tokens must not hold up the others."""
        while True:
            if not self._refused:
                self._has_refused.clear()
                self._has_refused.wait()
            taken = [self._refused.popleft() for _ in range(min(len(self._refused), self._max_batch))]
            self._looking = [entry for entry, _ in taken]
            results: Sequence[S | ChatError]
            try:
                results = admission.look_up([entry.new for entry in self._looking], [verdict for _, verdict in taken])
            except ChatError as error:
                results = [error] * len(taken)
            except Exception:
                log.exception("writer_look_up_failed")
                results = [verdict for _, verdict in taken]
            found = 0
            for entry, result in zip(self._looking, results, strict=True):
                self._answer(entry, result)
                found += not isinstance(result, ChatError)
            if found:
                metrics.ACKS.inc(found)
            self._looking = []
            self._note_idle()

    def _settle(self, entries: Sequence[_Entry[N, S]], results: Sequence[S | ChatError]) -> None:
        if self._admission is None or not entries:
            return
        try:
            self._admission.settle([entry.new for entry in entries], results)
        except Exception:
            log.exception("writer_admission_failed")

    # --- commit ----------------------------------------------------------------------------------------------------------

    def _commit_loop(self) -> None:
        while True:
            if not self._queue:
                self._has_work.clear()
                self._has_work.wait()
            elif len(self._queue) < FEW:
                self._breathe()
            self._commit_next(self._max_batch)
            self._note_idle()

    def _commit_next(self, max_batch: int) -> None:
        """Commit one batch, through retries, taking newcomers along when it has to be repeated."""
        attempt = 0
        conflicts = 0
        while True:
            self._fill_batch(max_batch)
            if not self._batch:
                return
            # A gevent.Timeout, not an Exception: the half-used connection is then thrown away.
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
                        log.warning("writer_database_away", error=type(error).__name__, waiting=self._waiting())
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
            self._finish(batch, results)
            return

    def _fill_batch(self, max_batch: int) -> None:
        held = [entry for entry in self._batch if not entry.answered]
        self._batch = held + self._take(self._queue, max_batch - len(held))

    def _finish(self, batch: Sequence[_Entry[N, S]], results: Sequence[S | ChatError]) -> None:
        """Answer a committed batch: every sender, then the bus, and only then the books."""
        now = time.monotonic()
        stored: list[S] = []
        waited: list[float] = []
        unspent: list[_Entry[N, S]] = []
        unspent_on: list[S | ChatError] = []
        repeats = 0
        for entry, result in zip(batch, results, strict=True):
            is_unspent = True
            if not isinstance(result, ChatError):
                stored.append(result)
                if result.is_new:
                    is_unspent = False
                else:
                    repeats += 1
                if not entry.answered:
                    waited.append(now - entry.since)
            if entry.answered:  # given up on: nobody waits, and its token was given back then
                continue
            if is_unspent:
                unspent.append(entry)
                unspent_on.append(result)
            entry.answered = True
            try:
                entry.deliver(result)
            except (
                Exception
            ):  # the sender's callback must never take the writer, and everybody else's messages, with it
                log.exception("writer_callback_failed")
        if stored:
            try:
                self._on_committed(stored)
            except Exception:  # committed and acknowledged; the hubs' own comparison will find it
                log.exception("writer_publish_failed")
        self._settle(unspent, unspent_on)
        # After what was scheduled by now, the answers on their way out: nobody waits for the books.
        gevent.get_hub().loop.run_callback(self._book, len(batch), len(stored) - repeats, waited)

    def _book(self, size: int, stored: int, waited: Sequence[float]) -> None:
        metrics.WRITER_BATCH_SIZE.observe(size)
        metrics.WRITER_QUEUE_DEPTH.set(self._waiting())
        metrics.TEXTS_SENT.inc(stored)
        metrics.ACKS.inc(len(waited))
        metrics.observe_many(metrics.MESSAGE_SECONDS, waited)

    def _commit_one_by_one(self, error: Exception) -> None:
        """Keep one message the database cannot take from failing its whole batch."""
        batch, self._batch = self._batch, []
        if len(batch) == 1:
            log.error("writer_message_refused", exc_info=error)
            self._answer(batch[0], ChatError("The message could not be stored."))
            return
        for entry in reversed(batch):
            self._queue.appendleft(entry)
        for _ in batch:
            self._commit_next(1)

    # --- patience --------------------------------------------------------------------------------------------------------

    def _give_up_late(self) -> None:
        """Answer messages whose patience ran out, also while the transaction in progress hangs."""
        while True:
            gevent.sleep(0.25)
            limit = time.monotonic() - self._patience
            charged = [*_due(self._batch, limit), *_due(self._queue, limit)]
            refused = [entry for entry, _ in self._refused]
            others = [
                *_due(refused, limit),
                *_due(self._looking, limit),
                *_due(self._admitting, limit),
                *_due(self._arrived, limit),
            ]
            for entry in (*charged, *others):
                self._answer(entry, _away())
            self._settle(charged, [_away()] * len(charged))


def _due(entries: Sequence[_Entry[N, S]], limit: float) -> list[_Entry[N, S]]:
    """Return those that wait since ``limit`` or longer, of entries in the order they came."""
    if not entries or entries[0].since > limit:
        return []
    return [entry for entry in entries if entry.since <= limit and not entry.answered]


def _away() -> UnavailableError:
    return UnavailableError("The database is away; send again with the same client_id.")
