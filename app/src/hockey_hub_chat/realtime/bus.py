"""What workers tell each other, and how it travels: nothing that matters may depend on one event arriving.

Redis pub/sub forgets what nobody was connected to hear, so every event can be repeated, merged or lost without harm: messages
carry their ``seq``, and what could not be published is remembered in its smallest form (a *poke*: this conversation has
reached this seq) and published when Redis is back. A worker's own events reach its own hub at once, without Redis, and are passed
over when they come back. ``MemoryBus`` is the same for a single process.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, Protocol
from uuid import UUID, uuid4

import gevent
import orjson
import redis
import structlog
from gevent.event import Event

from hockey_hub_chat import metrics
from hockey_hub_chat.realtime.redis_client import Line, Subscription

log = structlog.get_logger(__name__)

CHANNEL = "hhc:events"
#: Events in one PUBLISH.
MAX_PUBLISH = 500
#: Between two PUBLISHes at the least: what comes meanwhile goes together. Each costs us, Redis and every other worker a turn.
PACE_SECONDS = 0.002
#: Events held while a publish is under way; past that the oldest are merged as if their publish had failed.
MAX_QUEUE = 10_000
#: Merged events held while Redis is away, of each kind. Hubs compare with the database at every reconnect, so past
#: this bound the merged events are dropped without loss.
MAX_MERGED = 50_000
_RETRY_SECONDS = (0.1, 0.25, 0.5)
#: How long a publish of something taken away waits to be on its way.
_FLUSH_SECONDS = 0.5
#: A subscription idle for so long is asked for a sign of life; one that gives none for as long again is opened anew.
_LIVENESS_SECONDS = 0.75


@dataclass(slots=True)  # not frozen: one is made for every message, and that would double its price
class MessageStored:
    """A message is committed.

    Attributes:
        payload: the JSON text of its ``events.MessageSent``, encoded once for every socket of every worker.
    """

    conversation_id: int
    seq: int
    payload: bytes


@dataclass(frozen=True, slots=True)
class Poke:
    """A conversation has reached ``seq``: whoever holds less asks the database."""

    conversation_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class ReadPositionMoved:
    """A member has read up to ``seq``."""

    conversation_id: int
    user_id: int
    seq: int


@dataclass(frozen=True, slots=True)
class TypingSeen:
    """A member is typing; the one event that is simply forgotten when it cannot be published."""

    conversation_id: int
    user_id: int


@dataclass(frozen=True, slots=True)
class MembershipChanged:
    """A person joined or left a conversation."""

    conversation_id: int
    user_id: int
    change: Literal["joined", "left"]


@dataclass(frozen=True, slots=True)
class SessionEnded:
    """A session was logged out or revoked."""

    session_id: UUID


BusEvent = MessageStored | Poke | ReadPositionMoved | TypingSeen | MembershipChanged | SessionEnded

OnEvents = Callable[[Sequence[BusEvent]], None]


class Bus(Protocol):
    """Carries events to every worker, the publisher's own included."""

    def start(self, on_events: OnEvents, on_missed: Callable[[], None]) -> None:
        """Begin to deliver. Neither callback may wait. ``on_missed``: events may have been missed; compare."""

    def publish(self, events: Sequence[BusEvent]) -> None:
        """Send events; never fails. This worker's own hub has them when it returns. Returns at once, except with events that
        take something away (a membership, a session): then when they are on their way to the others, so that what the caller's
        answer permits cannot overtake them; after half a second in any case."""

    @property
    def healthy(self) -> bool:
        """Whether events of other workers arrive at the moment."""

    def close(self, timeout: float = 1.0) -> None:
        """Publish what is held, for at most ``timeout`` seconds, and stop."""


class MemoryBus:
    """The bus of a single process: calls straight through."""

    def __init__(self) -> None:
        self._on_events: OnEvents | None = None

    def start(self, on_events: OnEvents, on_missed: Callable[[], None]) -> None:
        """See ``Bus``."""
        self._on_events = on_events

    def publish(self, events: Sequence[BusEvent]) -> None:
        """See ``Bus``."""
        if self._on_events is not None:
            self._on_events(events)

    @property
    def healthy(self) -> bool:
        """See ``Bus``."""
        return True

    def close(self, timeout: float = 1.0) -> None:
        """See ``Bus``."""
        self._on_events = None


class OneWayBus:
    """The bus of a program that only tells and ends, such as the command line: publishes at once, hears nothing.

    Args:
        client: a Redis client with short timeouts.
    """

    def __init__(self, client: redis.Redis, *, channel: str = CHANNEL) -> None:
        self._client = client
        self._channel = channel

    def start(self, on_events: OnEvents, on_missed: Callable[[], None]) -> None:
        """See ``Bus``; nothing will be heard."""

    def publish(self, events: Sequence[BusEvent]) -> None:
        """See ``Bus``. What cannot be told is found by the hubs' own comparison."""
        try:
            self._client.publish(self._channel, encode_events(events))
        except (redis.RedisError, OSError) as error:
            log.warning("bus_publish_failed", error=type(error).__name__)

    @property
    def healthy(self) -> bool:
        """See ``Bus``."""
        return False

    def close(self, timeout: float = 1.0) -> None:
        """See ``Bus``."""
        self._client.close()


class RedisBus:
    """One channel, one subscription per worker, publishes batched by one greenlet.

    While Redis is away this worker's own events still reach its own sockets; other workers' hubs ask the database.

    Args:
        connect: makes a client; called once for publishing and once for the subscription, whose reads may block.
        channel: the pub/sub channel.
    """

    def __init__(self, connect: Callable[[], redis.Redis], *, channel: str = CHANNEL) -> None:
        self._connect = connect
        self._channel = channel
        self._origin = _origin(uuid4())
        self._on_events: OnEvents = lambda events: None
        self._on_missed: Callable[[], None] = lambda: None
        self._queue: deque[BusEvent] = deque()
        self._merged: dict[tuple[object, ...], BusEvent] = {}
        self._wake = Event()
        self._flushed = Event()
        self._flushed.set()
        self._subscribed = Event()
        self._publishing = True
        self._published_at = 0.0
        self._greenlets: list[gevent.Greenlet] = []
        self._clients: list[redis.Redis] = []
        self._publisher: Line | None = None
        self._subscriber: redis.Redis | None = None

    def start(self, on_events: OnEvents, on_missed: Callable[[], None]) -> None:
        """See ``Bus``."""
        if self._greenlets:
            return
        self._on_events = on_events
        self._on_missed = on_missed
        self._clients = [self._connect(), self._connect()]
        self._publisher, self._subscriber = Line(self._clients[0]), self._clients[1]
        self._greenlets = [gevent.spawn(self._publish_loop), gevent.spawn(self._subscribe_loop)]

    @property
    def healthy(self) -> bool:
        """See ``Bus``."""
        return self._subscribed.is_set() and self._publishing

    def wait_subscribed(self, timeout: float) -> bool:
        """Wait until the subscription stands. Returns whether it does."""
        return bool(self._subscribed.wait(timeout))

    def publish(self, events: Sequence[BusEvent]) -> None:
        """See ``Bus``."""
        if not events:
            return
        self._deliver(events)
        if not self._publishing:
            self._merge(events)
            self._wake.set()
            return
        self._queue.extend(events)
        self._flushed.clear()
        self._wake.set()
        while len(self._queue) > MAX_QUEUE:
            self._merge((self._queue.popleft(),))
        if any(isinstance(event, MembershipChanged | SessionEnded) for event in events):
            self._flushed.wait(_FLUSH_SECONDS)

    def close(self, timeout: float = 1.0) -> None:
        """See ``Bus``."""
        if self._greenlets:
            self._flushed.wait(timeout)
        gevent.killall(self._greenlets)
        self._greenlets = []
        if self._publisher is not None:
            self._publisher.close()
        for client in self._clients:
            client.close()
        self._subscribed.clear()

    # --- publishing ----------------------------------------------------------------------------------------------

    def _publish_loop(self) -> None:
        attempt = 0
        while True:
            if not self._queue and not self._merged:
                self._flushed.set()
                self._wake.clear()
                self._wake.wait()
            if (early := self._published_at + PACE_SECONDS - time.monotonic()) > 0:
                gevent.sleep(early)
            self._published_at = time.monotonic()
            batch = self._next_batch()
            try:
                self._publish_now(batch)
            except (redis.RedisError, OSError) as error:
                self._merge(batch)
                if attempt == 0:
                    log.warning("bus_publish_failed", error=type(error).__name__)
                if self._publishing:
                    self._publishing = False
                    self._merge(self._queue)
                    self._queue.clear()
                    self._on_missed()
                gevent.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])
                attempt += 1
                continue
            if attempt:
                log.info("bus_publish_restored", attempts=attempt)
            attempt = 0
            self._publishing = True

    def _next_batch(self) -> list[BusEvent]:
        batch: list[BusEvent] = []
        while self._queue and len(batch) < MAX_PUBLISH:
            batch.append(self._queue.popleft())
        while self._merged and len(batch) < MAX_PUBLISH:
            batch.append(self._merged.pop(next(iter(self._merged))))
        return batch

    def _publish_now(self, batch: Sequence[BusEvent]) -> None:
        if self._publisher is None:
            raise RuntimeError("the bus was not started")
        self._publisher.ask("PUBLISH", self._channel, encode_events(batch, self._origin))
        metrics.BUS_PUBLISHED.inc(len(batch))
        metrics.BUS_BATCH_SIZE.observe(len(batch))

    def _merge(self, events: Iterable[BusEvent]) -> None:
        """Remember events in their smallest repeatable form."""
        for event in events:
            match event:
                case MessageStored() | Poke():
                    self._remember(("message", event.conversation_id), Poke(event.conversation_id, event.seq))
                case ReadPositionMoved():
                    self._remember(("read", event.conversation_id, event.user_id), event)
                case MembershipChanged():
                    self._remember(("membership", event.conversation_id, event.user_id), event)
                case SessionEnded():
                    self._remember(("session", event.session_id), event)
                case TypingSeen():
                    pass

    def _remember(self, key: tuple[object, ...], event: BusEvent) -> None:
        held = self._merged.get(key)
        if isinstance(event, Poke | ReadPositionMoved) and isinstance(held, Poke | ReadPositionMoved):
            if event.seq > held.seq:
                self._merged[key] = event
        elif held is not None or len(self._merged) < MAX_MERGED:
            self._merged[key] = event

    # --- subscribing ---------------------------------------------------------------------------------------------

    def _subscribe_loop(self) -> None:
        attempt = 0
        while True:
            try:
                self._listen()
            except (redis.RedisError, OSError) as error:
                if self._subscribed.is_set() or attempt == 0:
                    log.warning("bus_subscription_lost", error=type(error).__name__)
                attempt = 0 if self._subscribed.is_set() else attempt + 1
                if self._subscribed.is_set():
                    self._subscribed.clear()
                    self._on_missed()
                gevent.sleep(_RETRY_SECONDS[min(attempt, len(_RETRY_SECONDS) - 1)])

    def _listen(self) -> None:
        """Receive until the connection fails."""
        if self._subscriber is None:
            raise RuntimeError("the bus was not started")
        with closing(Subscription(self._subscriber, self._channel)) as subscription:
            asked = False
            while True:
                received = subscription.receive(_LIVENESS_SECONDS)
                if received is None:
                    if asked:
                        raise redis.ConnectionError("the subscription gives no sign of life")
                    asked = True
                    subscription.ping()
                    continue
                asked = False
                kind, data = received
                if kind == b"subscribe":
                    log.info("bus_subscribed")
                    self._subscribed.set()
                    self._on_missed()
                elif kind == b"message" and not data.startswith(self._origin):
                    self._take(data)

    def _take(self, payload: bytes) -> None:
        """Deliver one payload; of what cannot be read only the database can tell what it said."""
        try:
            events = decode_events(payload)
        except Exception:
            log.exception("bus_payload_unreadable")
            self._on_missed()
            return
        self._deliver(events)

    def _deliver(self, events: Sequence[BusEvent]) -> None:
        try:
            self._on_events(events)
        except Exception:  # a fault in a consumer must not end the subscription of the whole worker
            log.exception("bus_consumer_failed")


# --- the wire between workers ------------------------------------------------------------------------------------

# A JSON list of ``[kind, {fields}]``. The first may name the worker it comes from: ``["origin", {"id": …}]``, so that this worker knows
# its own by their first bytes. Messages that follow each other are one entry, ``["messages", {"of": [[conversation_id, seq, text], …]}]``;
# a poke for each conversation goes with it, for workers of a release that has no such entry: they ask the database.

_KINDS: dict[str, type[Any]] = {
    "poke": Poke,
    "read": ReadPositionMoved,
    "typing": TypingSeen,
    "membership": MembershipChanged,
    "session": SessionEnded,
}
_NAMES = {cls: name for name, cls in _KINDS.items()}


def _origin(worker: UUID) -> bytes:
    return orjson.dumps([("origin", {"id": worker})])[:-1]


def encode_events(events: Sequence[BusEvent], origin: bytes = b"") -> bytes:
    """Return events as one payload, in their order.

    Args:
        origin: how the payloads of this worker begin.
    """
    entries: list[tuple[str, object]] = []
    run: list[tuple[int, int, str]] = []
    for event in events:
        if isinstance(event, MessageStored):
            run.append((event.conversation_id, event.seq, event.payload.decode()))
            continue
        if run:
            entries += _encode_messages(run)
            run = []
        entries.append((_NAMES[type(event)], event))
    if run:
        entries += _encode_messages(run)
    payload = orjson.dumps(entries)
    return origin + b"," + payload[1:] if origin else payload


def _encode_messages(run: Sequence[tuple[int, int, str]]) -> list[tuple[str, object]]:
    newest: dict[int, int] = {}
    for conversation_id, seq, _ in run:
        newest[conversation_id] = max(seq, newest.get(conversation_id, 0))
    told = [
        ("poke", {"conversation_id": conversation_id, "seq": seq, "told": True})
        for conversation_id, seq in newest.items()
    ]
    return [("messages", {"of": run}), *told]


def decode_events(payload: bytes) -> list[BusEvent]:
    """Return the events of one payload; kinds this release does not know are skipped (a newer worker beside us)."""
    decoded: list[BusEvent] = []
    for kind, fields in orjson.loads(payload):
        if kind == "messages":
            decoded += [
                MessageStored(conversation_id, seq, text.encode()) for conversation_id, seq, text in fields["of"]
            ]
        elif kind == "session":
            decoded.append(SessionEnded(UUID(fields["session_id"])))
        elif (cls := _KINDS.get(kind)) is not None:
            if "told" not in fields:  # else the messages themselves came with it
                decoded.append(cls(**{name: fields[name] for name in cls.__slots__}))
        elif kind != "origin":
            log.warning("bus_unknown_event", kind=kind)
    return decoded
