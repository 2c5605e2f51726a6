"""Catches up sockets that come back: what they missed, in order, then whatever comes; never neither, never both.

Waits for the database and for the reader, so each resume runs in a greenlet of its own; what hundreds of them ask at once is asked
together (``source.Gatherer``).
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import TYPE_CHECKING

import structlog

from hockey_hub_chat import events, metrics
from hockey_hub_chat.realtime.room import Room
from hockey_hub_chat.realtime.source import Gatherer
from hockey_hub_chat.realtime.subscription import Subscription
from hockey_hub_chat.realtime.wire import encode, encode_message

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.hub import Hub

log = structlog.get_logger(__name__)

#: How long a resume waits for a database that is away.
RESUME_PATIENCE_SECONDS = 10.0
#: A resuming reader that takes nothing for so long is a slow reader.
RESUME_STALL_SECONDS = 20.0
#: Rows asked for at once.
PAGE = 100
#: Bytes posted before they are written and the reader is waited for.
WRITE_BYTES = 65_536


class Resumer:
    """Moves subscriptions from ``new`` to ``live``."""

    def __init__(self, hub: Hub) -> None:
        self._hub = hub
        self._memberships = Gatherer(self._ask_memberships)

    def _ask_memberships(self, user_ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
        return self._hub.database.patiently(deadline, self._hub.source.memberships, user_ids)

    def resume(self, subscription: Subscription, cursors: Mapping[int, int]) -> None:
        """See ``Subscription.resume``."""
        if subscription.state == "closed":
            return
        if subscription.state != "new":
            raise ValueError("this connection has resumed already")
        subscription.state = "resuming"
        hub = self._hub
        try:
            while True:
                generation = hub.generations.get(subscription.user_id)
                mine = self._memberships.get(subscription.user_id) or {}
                if generation == hub.generations.get(subscription.user_id):
                    break
            if subscription.state != "resuming":
                return
            rooms = [hub.enter(subscription, conversation_id) for conversation_id in mine]
            hub.establish(rooms)
            unwritten = [0]
            for room in rooms:
                start = cursors.get(room.id)
                # after a resume that failed half-way, what this socket was already sent counts
                known = subscription.cursors.get(room.id) if subscription.cursors is not None else None
                if known is not None:
                    start = known if start is None else max(known, start)
                if not self._catch_up(subscription, room, start, unwritten):
                    return
            if subscription.state != "resuming":
                return
            subscription.state = "live"
            subscription.cursors = None
            for room in subscription.rooms.values():
                room.live.spread()  # what ``last_seqs`` counts has to be on its way before it
            last_seqs = {str(room.id): room.head or 0 for room in subscription.rooms.values()}
            subscription.connection.post(encode(events.Resumed(last_seqs=last_seqs)))
            metrics.RESUMES.inc()
            if generation != hub.generations.get(subscription.user_id):
                hub.user_moved(subscription.user_id)
        finally:
            if subscription.state == "resuming":  # it failed: the client may ask again on this socket
                for conversation_id, room in tuple(subscription.rooms.items()):
                    if room.live.has(subscription.connection):
                        self._note(subscription, room, room.head or 0)
                    hub.leave(subscription, conversation_id)
                subscription.state = "new"

    @staticmethod
    def _note(subscription: Subscription, room: Room, seq: int) -> None:
        """Remember how far this socket was sent a room it does not receive live yet."""
        if subscription.cursors is None:
            subscription.cursors = {}
        subscription.cursors[room.id] = seq

    def _catch_up(self, subscription: Subscription, room: Room, start: int | None, unwritten: list[int]) -> bool:
        """Send what ``subscription`` misses of one room, then let it receive live. Returns False when the socket is done for.

        Between the last check of the room's head and joining nothing waits, so a message either is in what was sent here
        or arrives through the room: never neither, never both. ``unwritten`` counts the bytes posted over all rooms since the
        reader was last waited for.
        """
        hub = self._hub
        connection = subscription.connection
        is_confirmed = False
        while subscription.rooms.get(room.id) is room:
            if unwritten[0] > WRITE_BYTES:
                if not connection.wait_roomy(RESUME_STALL_SECONDS):
                    connection.close(events.CLOSE_SLOW_CONSUMER, "read too slowly")
                    return False
                unwritten[0] = 0
                continue
            head = room.head or 0
            if start is not None and start > head and not is_confirmed:
                # Received from another worker while this one is behind (the bus is away); or before the database was
                # restored to an earlier time. Only the database knows which.
                deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
                stored = hub.database.patiently(deadline, hub.source.last_seqs, [room.id]).get(room.id, 0)
                hub.on_poke(room.id, stored)
                start = min(start, stored)
                is_confirmed = True
                continue
            cursor = head if start is None else start
            if cursor > head:
                # The database has more than this worker was told of: it is being refilled. Joining now would send again what this
                # socket has.
                if not self._bring_up(room):
                    start = room.head
                continue
            if cursor == head:
                room.live.add(connection)
                return True
            if head - cursor > events.RESUME_MAX_MESSAGES:
                connection.post(encode(events.Gap(conversation_id=room.id, after_seq=cursor, last_seq=head)))
                start = head
                self._note(subscription, room, head)
                continue
            batch = room.recent_after(cursor)
            if not batch:
                deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
                page = hub.database.patiently(deadline, hub.source.history, room.id, cursor, PAGE)
                batch = [(message.seq, encode_message(message)) for message in page if message.seq <= head]
            if not batch:
                log.warning("room_claims_more_than_stored", conversation_id=room.id, head=head, wanted=cursor + 1)
                start = head
                continue
            for seq, frame in batch:
                if unwritten[0] > WRITE_BYTES:
                    break
                if subscription.rooms.get(room.id) is not room:
                    break  # left meanwhile
                connection.post(frame)
                unwritten[0] += len(frame)
                start = seq
                self._note(subscription, room, seq)
        return not connection.closing

    def _bring_up(self, room: Room) -> bool:
        """Fetch the next page of a room that is behind. Returns whether there was one."""
        before = room.head or 0
        deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
        for message in self._hub.database.patiently(deadline, self._hub.source.history, room.id, before, PAGE):
            room.offer(message.seq, encode_message(message))
        return (room.head or 0) > before
