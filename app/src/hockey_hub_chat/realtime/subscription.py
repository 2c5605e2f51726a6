"""One socket's place in the hub: which rooms it is in, and how far it has come in those it does not receive live yet."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar
from uuid import UUID

from hockey_hub_chat.realtime.room import Room

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.hub import Hub

#: A person's ``typing`` is passed on at most so often for one conversation of one socket.
TYPING_SECONDS = 1.0

K = TypeVar("K")


class Receiver(Protocol):
    """What the hub needs of a socket: ``connection.Connection``."""

    @property
    def closing(self) -> bool: ...
    def post(self, frame: bytes) -> bool: ...
    def post_each(self, frames: list[bytes]) -> None: ...
    def wait_roomy(self, timeout: float) -> bool: ...
    def close(self, code: int, reason: str = "", *, timeout: float = ...) -> None: ...


class Subscription:
    """One socket's place in the hub. Made by ``Hub.attach``; ended by ``detach``, also when the socket closes by itself.

    Attributes:
        state: new -> resuming -> live; closed from any.
        rooms: where it is registered.
        cursors: the newest seq it was sent of rooms it does not receive live yet; None when there are none such.
    """

    __slots__ = ("_hub", "_typed", "connection", "cursors", "rooms", "session_id", "state", "user_id")

    def __init__(self, hub: Hub, connection: Receiver, user_id: int, session_id: UUID) -> None:
        self._hub = hub
        self.connection = connection
        self.user_id = user_id
        self.session_id = session_id
        self.state = "new"
        self.rooms: dict[int, Room] = {}
        self.cursors: dict[int, int] | None = None
        self._typed: dict[int, float] | None = None

    def resume(self, cursors: Mapping[int, int]) -> None:
        """Send what was missed since ``cursors`` (conversation_id -> seq), then ``resumed``, then whatever comes.

        Waits: run it in a greenlet of its own. After an UnavailableError it may be called again.

        Raises:
            UnavailableError: the database stayed away.
            ValueError: it was called before, and worked.
        """
        self._hub.resume(self, cursors)

    def typing(self, conversation_id: int) -> None:
        """Tell the others that this person is typing; dropped when not a member, or told a moment ago."""
        if self.state != "live" or conversation_id not in self.rooms:
            return
        now = time.monotonic()
        typed = self._typed = self._typed if self._typed is not None else {}
        if now - typed.get(conversation_id, -TYPING_SECONDS) >= TYPING_SECONDS:
            typed[conversation_id] = now
            self._hub.publish_typing(conversation_id, self.user_id)

    def detach(self) -> None:
        """Receive nothing more. Safe to repeat."""
        self._hub.detach(self)


class Index(Generic[K]):
    """Subscriptions by something they have in common. Nearly all keys have one: it is kept bare, a set would cost 200 bytes."""

    def __init__(self) -> None:
        self._by_key: dict[K, Subscription | set[Subscription]] = {}

    def __contains__(self, key: K) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[K]:
        """Yield every key that has a subscription now; the index may change meanwhile."""
        return iter(tuple(self._by_key))

    def add(self, key: K, subscription: Subscription) -> None:
        """Remember one."""
        held = self._by_key.get(key)
        if held is None:
            self._by_key[key] = subscription
        elif isinstance(held, set):
            held.add(subscription)
        elif held is not subscription:
            self._by_key[key] = {held, subscription}

    def discard(self, key: K, subscription: Subscription) -> None:
        """Forget one."""
        held = self._by_key.get(key)
        if held is subscription:
            del self._by_key[key]
        elif isinstance(held, set):
            held.discard(subscription)
            if not held:
                del self._by_key[key]

    def get(self, key: K) -> tuple[Subscription, ...]:
        """Return those of one key."""
        held = self._by_key.get(key)
        return () if held is None else tuple(held) if isinstance(held, set) else (held,)

    def count(self, key: K) -> int:
        """Return how many one key has."""
        held = self._by_key.get(key)
        return 0 if held is None else len(held) if isinstance(held, set) else 1
