"""Compares what this worker believes with the database, because events may be lost: newest seqs, rosters, sessions, memberships.

Every second while the bus is away (newest seqs only), at once when it is back, and every 15 s anyway.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import gevent
import structlog
from gevent.event import Event

from hockey_hub_chat import events
from hockey_hub_chat.realtime.bus import Bus
from hockey_hub_chat.realtime.source import chunks, jitter
from hockey_hub_chat.realtime.wire import encode

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.hub import Hub

log = structlog.get_logger(__name__)

#: How often rooms, memberships and sessions are compared with the database; and rooms while the bus is away.
COMPARE_SECONDS = 15.0
COMPARE_WITHOUT_BUS_SECONDS = 1.0


class Comparison:
    """The hub's comparison.

    Args:
        hub: whose rooms, sessions and people are compared.
        bus: whose health decides how often.
        seconds: see COMPARE_SECONDS.
    """

    def __init__(self, hub: Hub, bus: Bus, seconds: float) -> None:
        self._hub = hub
        self._bus = bus
        self._seconds = seconds
        self._now = Event()

    def compare_soon(self) -> None:
        """Compare everything as soon as possible; never waits."""
        self._now.set()

    def run(self) -> None:
        """Compare for ever, in a greenlet of its own."""
        hub = self._hub
        due = time.monotonic() + self._seconds * jitter(0.5, 1.0)
        while True:
            asked = self._now.wait(min(COMPARE_WITHOUT_BUS_SECONDS, self._seconds))
            self._now.clear()
            everything = asked or time.monotonic() >= due
            if not everything and self._bus.healthy:
                continue
            try:
                self._heads()
                if everything:
                    self._sessions()
                    self._rosters()
                    for user_id in hub.users:
                        hub.user_moved(user_id)
                    due = time.monotonic() + self._seconds * jitter(0.8, 1.2)
            except Exception as error:
                if not hub.source.is_transient(error):
                    log.exception("hub_comparison_failed")
                if asked:
                    self._now.set()
                    gevent.sleep(COMPARE_WITHOUT_BUS_SECONDS)

    def _heads(self) -> None:
        hub = self._hub
        before = {room.id: room.head for room in hub.rooms.values() if room.head is not None}
        for ids in chunks(before):
            newest = hub.database.once(hub.source.last_seqs, ids)
            for conversation_id, last_seq in newest.items():
                room = hub.rooms.get(conversation_id)
                if room is None or room.head is None:
                    continue
                if last_seq < before[conversation_id]:
                    # A database restored to an earlier time. Cursors mean nothing any more: everybody starts over.
                    log.error("room_went_back", conversation_id=conversation_id, head=room.head, stored=last_seq)
                    room.give_up_to(last_seq)
                    for subscription in tuple(room.subscriptions):
                        subscription.connection.close(events.CLOSE_RESTART, "resume from the stored history")
                else:
                    hub.on_poke(conversation_id, last_seq)

    def _sessions(self) -> None:
        hub = self._hub
        for ids in chunks(hub.sessions):
            for session_id in set(ids).difference(hub.database.once(hub.source.live_sessions, ids)):
                hub.end_session(session_id)

    def _rosters(self) -> None:
        hub = self._hub
        for ids in chunks([room.id for room in hub.rooms.values() if room.head is not None]):
            for conversation_id, roster in hub.database.once(hub.source.rosters, ids).items():
                room = hub.rooms.get(conversation_id)
                if room is None:
                    continue
                if roster.keys() != room.read_seqs.keys():
                    room.read_seqs = {user_id: room.read_seqs.get(user_id, 0) for user_id in roster}
                    room.live.send(encode(events.MembersChanged(conversation_id=conversation_id)))
                for user_id, seq in roster.items():
                    hub.on_read(conversation_id, user_id, seq)
