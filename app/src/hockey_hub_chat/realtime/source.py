"""What the hub asks the database, and how often and how patiently it asks. Knows no SQL: the questions are injected."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, ParamSpec, TypeVar
from uuid import UUID

import gevent
from gevent.event import AsyncResult
from gevent.lock import BoundedSemaphore

from hockey_hub_chat.errors import UnavailableError
from hockey_hub_chat.realtime.writer import Stored

#: Questions at the same time: a thousand resumes must leave connections for those who write.
SLOTS = 6
#: Ids in one question.
IDS_AT_ONCE = 500
#: How long a question waits for others like it, while many are asked.
CROWD_SECONDS = 0.005

P = ParamSpec("P")
T = TypeVar("T")
K = TypeVar("K")
V = TypeVar("V")


@dataclass(frozen=True, slots=True)
class HubSource:
    """The questions; each is one short transaction of its own.

    Attributes:
        history: (conversation_id, after_seq, limit) -> messages in ascending seq.
        last_seqs: conversation ids -> newest seq of each that exists.
        memberships: user ids -> {user_id: {conversation_id: last_seq}} of their current memberships.
        live_sessions: session ids -> those still valid.
        rosters: conversation ids -> {conversation_id: {user_id: read_seq}} of the current members.
        is_transient: whether an exception of these may pass by itself.
    """

    history: Callable[[int, int, int], Sequence[Stored]]
    last_seqs: Callable[[Collection[int]], Mapping[int, int]]
    memberships: Callable[[Collection[int]], Mapping[int, Mapping[int, int]]]
    live_sessions: Callable[[Collection[UUID]], Collection[UUID]]
    rosters: Callable[[Collection[int]], Mapping[int, Mapping[int, int]]]
    is_transient: Callable[[Exception], bool]


class Asker:
    """Asks a few questions at a time.

    Args:
        is_transient: whether asking again may help.
    """

    def __init__(self, is_transient: Callable[[Exception], bool], slots: int = SLOTS) -> None:
        self._is_transient = is_transient
        self._slots = BoundedSemaphore(slots)

    def once(self, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask when a slot is free; errors are the caller's."""
        with self._slots:
            return question(*args, **kwargs)

    def patiently(self, deadline: float | None, question: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Ask again while the database is away, until ``deadline`` (monotonic; None: for ever).

        Raises:
            UnavailableError: it stayed away.
        """
        delay = 0.05
        while True:
            try:
                return self.once(question, *args, **kwargs)
            except Exception as error:
                if not self._is_transient(error):
                    raise
                if deadline is not None and time.monotonic() + delay > deadline:
                    raise UnavailableError("The database is away; resume again shortly.") from error
            gevent.sleep(delay * jitter(0.5, 1.0))
            delay = min(1.0, delay * 2)


class Gatherer(Generic[K, V]):
    """Turns questions about one id each into few questions about many.

    Whoever asks while an answer is under way is in the next question, so a thousand who come back at once cost the database a handful
    of statements. One alone waits for nobody; in a crowd a question waits ``CROWD_SECONDS`` for those who are about to ask.

    Args:
        ask: ids -> {id: answer}; ids without an answer may be missing.
    """

    def __init__(self, ask: Callable[[Collection[K]], Mapping[K, V]]) -> None:
        self._ask = ask
        self._waiting: deque[tuple[K, AsyncResult[V | None]]] = deque()
        self._running = False

    def get(self, key: K) -> V | None:
        """Ask about one id, and wait. The answer is never older than the call.

        Raises:
            Exception: what ``ask`` raised.
        """
        answer: V | None = self._put(key).get()
        return answer

    def get_many(self, keys: Collection[K]) -> dict[K, V]:
        """Ask about several, and wait; ids without an answer are missing."""
        answers = {key: self._put(key) for key in keys}
        found = {key: answer.get() for key, answer in answers.items()}
        return {key: value for key, value in found.items() if value is not None}

    def _put(self, key: K) -> AsyncResult[V | None]:
        answer: AsyncResult[V | None] = AsyncResult()
        self._waiting.append((key, answer))
        if not self._running:
            self._running = True
            gevent.spawn(self._run)  # a greenlet of its own: whoever asked may be killed, the others still wait
        return answer

    def _run(self) -> None:
        is_crowd = False
        try:
            while self._waiting:
                if is_crowd and len(self._waiting) < IDS_AT_ONCE:
                    gevent.sleep(CROWD_SECONDS)
                is_crowd = len(self._waiting) > 1
                batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), IDS_AT_ONCE))]
                try:
                    found = self._ask({key for key, _ in batch})
                except Exception as error:
                    for _, answer in batch:
                        answer.set_exception(error)
                else:
                    for key, answer in batch:
                        answer.set(found.get(key))
        finally:
            self._running = False


def jitter(low: float, high: float) -> float:
    """Return a random factor that keeps workers from acting in step."""
    return random.uniform(low, high)  # noqa: S311  # nothing secret


def chunks(ids: Iterable[K]) -> Iterator[list[K]]:
    """Yield ids in lists of at most ``IDS_AT_ONCE``; taken when first asked, so the source may change meanwhile."""
    every = list(ids)
    for start in range(0, len(every), IDS_AT_ONCE):
        yield every[start : start + IDS_AT_ONCE]
