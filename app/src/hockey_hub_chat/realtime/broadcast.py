"""What is said to several sockets at once: framed once, joined once a tick, the same bytes for all.

Invariant: a member receives exactly what is sent between its ``add`` and its ``discard``; both let go first of what was said
before. Knows connections and bytes; knows no rooms and no seq.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from hockey_hub_chat.realtime.reactor import Spreadable


class Receiver(Protocol):
    """Who hears it: ``connection.Connection``."""

    def post(self, frame: bytes) -> bool: ...
    def post_each(self, frames: list[bytes]) -> None: ...


class Spreader(Protocol):
    """Who says when the tick ends: ``reactor.Reactor``."""

    coalesce: bool

    def spread_later(self, spreadable: Spreadable) -> None: ...


class Broadcast:
    """A set of receivers, and the frames of this tick."""

    __slots__ = ("_frames", "_spreader", "members")

    def __init__(self, spreader: Spreader) -> None:
        self._spreader = spreader
        self._frames: list[bytes] = []
        self.members: set[Receiver] = set()

    def __len__(self) -> int:
        return len(self.members)

    def has(self, receiver: Receiver) -> bool:
        """Whether somebody is among them."""
        return receiver in self.members

    def add(self, receiver: Receiver) -> None:
        """Let somebody hear what is sent from now on."""
        self.spread()
        self.members.add(receiver)

    def discard(self, receiver: Receiver) -> None:
        """Let somebody hear nothing that is sent from now on."""
        self.spread()
        self.members.discard(receiver)

    def send(self, frame: bytes) -> None:
        """Say one frame to all; it leaves with the tick."""
        if not self.members:
            return
        if not self._frames:
            self._spreader.spread_later(self)
        self._frames.append(frame)

    def send_except(self, frame: bytes, left_out: Iterable[Receiver]) -> None:
        """Say one frame to all but these."""
        self.spread()
        out = set(left_out)
        for member in self.members:
            if member not in out:
                member.post(frame)

    def spread(self) -> None:
        """Post what was said since the last time to each member."""
        frames = self._frames
        if not frames:
            return
        self._frames = []
        if self._spreader.coalesce:
            chunk = frames[0] if len(frames) == 1 else b"".join(frames)
            for member in self.members:
                member.post(chunk)
        else:
            for member in self.members:
                member.post_each(frames)
