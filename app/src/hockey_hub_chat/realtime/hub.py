"""The sockets of this worker and what each has received.

Owns rooms, cursors and the comparison with the database. The border for the rest of the application is small, so that
another engine can stand in for it: ``attach`` gives a ``Subscription`` with ``resume``, ``typing`` and ``detach``;
``on_events`` takes what the bus brings; ``drain`` and ``close_all`` end it. It must not know SQL, HTTP or Redis: what it asks
the database is injected.

Exactly once, in order, without gaps: messages reach a room in any order and any number of times, and leave it by seq. A
gap is filled from the database after a short grace; what no event told of is found by comparing each room with the
database: every second while the bus is away, at once when it is back, and every 15 s anyway.
"""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from typing import TypeVar
from uuid import UUID

import gevent
import structlog
from gevent.event import Event

from hockey_hub_chat import events, metrics
from hockey_hub_chat.realtime import bus as bus_module
from hockey_hub_chat.realtime.connection import Connection
from hockey_hub_chat.realtime.room import Room
from hockey_hub_chat.realtime.source import Asker, HubSource, chunks, jitter
from hockey_hub_chat.realtime.subscription import Subscription
from hockey_hub_chat.realtime.wire import encode, text_frame
from hockey_hub_chat.realtime.writer import Stored

log = structlog.get_logger(__name__)

#: An event that overtook another is waited for this long before the database is asked.
REORDER_GRACE_SECONDS = 0.05
#: How often rooms, memberships and sessions are compared with the database; and rooms while the bus is away.
COMPARE_SECONDS = 15.0
COMPARE_WITHOUT_BUS_SECONDS = 1.0
#: How long a resume waits for a database that is away.
RESUME_PATIENCE_SECONDS = 10.0
#: A resuming reader that takes nothing for so long is a slow reader.
RESUME_STALL_SECONDS = 20.0
#: Rows asked for at once.
PAGE = 100


class Hub:
    """Delivers to the sockets of this worker.

    Args:
        source: what the hub may ask the database.
        bus: where ``typing`` is published, and whose health decides how often rooms are compared.
        compare_seconds: see COMPARE_SECONDS.
    """

    def __init__(self, source: HubSource, bus: bus_module.Bus, *, compare_seconds: float = COMPARE_SECONDS) -> None:
        self._source = source
        self._bus = bus
        self._compare_seconds = compare_seconds
        self._rooms: dict[int, Room] = {}
        self._users: dict[int, set[Subscription]] = {}
        self._sessions: dict[UUID, set[Subscription]] = {}
        self._generations: dict[int, int] = defaultdict(int)
        self._moved_users: set[int] = set()
        self._users_moved = Event()
        self._compare_now = Event()
        self._database = Asker(source.is_transient)
        self._greenlets: list[gevent.Greenlet] = []
        self.draining = False

    # --- the border --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the greenlets, once, in the process that holds the sockets. Safe to repeat."""
        if not self._greenlets:
            self._greenlets = [gevent.spawn(self._compare_loop), gevent.spawn(self._membership_loop)]

    def stop(self) -> None:
        """End the greenlets."""
        gevent.killall(self._greenlets)
        self._greenlets = []

    @property
    def size(self) -> int:
        """How many sockets are attached."""
        return sum(len(subscriptions) for subscriptions in self._users.values())

    def sockets_of(self, user_id: int) -> int:
        """How many sockets one person has here."""
        return len(self._users.get(user_id, ()))

    def attach(self, connection: Connection, *, user_id: int, session_id: UUID) -> Subscription:
        """Register a socket. It receives nothing before its ``resume``, but ends with its session from now on."""
        subscription = Subscription(self, connection, user_id, session_id)
        self._users.setdefault(user_id, set()).add(subscription)
        self._sessions.setdefault(session_id, set()).add(subscription)
        metrics.CONNECTIONS_ACTIVE.inc()
        return subscription

    def detach(self, subscription: Subscription) -> None:
        """Forget a socket. Safe to repeat."""
        if subscription.state == "closed":
            return
        subscription.state = "closed"
        metrics.CONNECTIONS_ACTIVE.dec()
        for conversation_id in tuple(subscription.rooms):
            self._leave(subscription, conversation_id)
        _discard(self._sessions, subscription.session_id, subscription)
        _discard(self._users, subscription.user_id, subscription)
        if subscription.user_id not in self._users:
            self._generations.pop(subscription.user_id, None)

    def publish_typing(self, conversation_id: int, user_id: int) -> None:
        """Publish that a member is typing."""
        self._bus.publish([bus_module.TypingSeen(conversation_id, user_id)])

    def drain(self) -> None:
        """Tell every socket that this worker is leaving; their reconnects spread over a time that grows with their number."""
        self.draining = True
        spread_ms = min(10_000, 500 + 5 * self.size)
        for subscription in self._subscriptions():
            subscription.connection.post(encode(events.Drain(reconnect_after_ms=int(spread_ms * jitter(0.0, 1.0)))))

    def close_all(self, code: int, reason: str, *, timeout: float) -> None:
        """Close every socket after what it is owed; returns at once."""
        for subscription in self._subscriptions():
            subscription.connection.close(code, reason, timeout=timeout)

    def _subscriptions(self) -> list[Subscription]:
        return [subscription for mine in self._users.values() for subscription in mine]

    # --- events ------------------------------------------------------------------------------------------------------

    def on_missed(self) -> None:
        """Events may have been missed: compare everything with the database, soon."""
        self._compare_now.set()

    def on_events(self, batch: Iterable[bus_module.BusEvent]) -> None:
        """Take events from the bus; never waits."""
        for event in batch:
            match event:
                case bus_module.MessageStored():
                    self._on_message(event)
                case bus_module.Poke():
                    self._on_poke(event.conversation_id, event.seq)
                case bus_module.ReadPositionMoved():
                    self._on_read(event.conversation_id, event.user_id, event.seq)
                case bus_module.TypingSeen():
                    frame = encode(events.Typing(conversation_id=event.conversation_id, user_id=event.user_id))
                    self._tell_room(event.conversation_id, frame, except_user=event.user_id)
                case bus_module.MembershipChanged():
                    self._on_membership(event)
                case bus_module.SessionEnded():
                    self._end_session(event.session_id)

    def _on_message(self, message: bus_module.MessageStored) -> None:
        room = self._rooms.get(message.conversation_id)
        if room is None or not room.needs(message.seq):
            return
        room.offer(message.seq, encode_message(message))
        if room.behind:
            self._refill_soon(room, REORDER_GRACE_SECONDS)

    def _on_poke(self, conversation_id: int, seq: int) -> None:
        room = self._rooms.get(conversation_id)
        if room is not None:
            room.wanted = max(room.wanted, seq)
            if room.behind:
                self._refill_soon(room, 0.0)

    def _on_read(self, conversation_id: int, user_id: int, seq: int) -> None:
        room = self._rooms.get(conversation_id)
        if room is not None and seq > room.read_seqs.get(user_id, 0):
            room.read_seqs[user_id] = seq
            frame = encode(events.ReadMoved(conversation_id=conversation_id, user_id=user_id, seq=seq))
            self._tell_room(conversation_id, frame)

    def _on_membership(self, event: bus_module.MembershipChanged) -> None:
        if event.user_id in self._users:
            self._generations[event.user_id] += 1
            self._user_moved(event.user_id)
            if event.change == "left":  # at once, whatever the database answers later: nothing more may reach them
                for subscription in tuple(self._users[event.user_id]):
                    self._remove(subscription, event.conversation_id)
        room = self._rooms.get(event.conversation_id)
        if room is not None:
            if event.change == "left":
                room.read_seqs.pop(event.user_id, None)
            else:
                room.read_seqs.setdefault(event.user_id, 0)
            self._tell_room(event.conversation_id, encode(events.MembersChanged(conversation_id=event.conversation_id)))

    def _end_session(self, session_id: UUID) -> None:
        for subscription in tuple(self._sessions.get(session_id, ())):
            subscription.connection.close(events.CLOSE_SESSION_ENDED, "session ended")

    def _tell_room(self, conversation_id: int, frame: bytes, *, except_user: int | None = None) -> None:
        room = self._rooms.get(conversation_id)
        for subscription in tuple(room.live) if room is not None else ():
            if subscription.user_id != except_user:
                subscription.connection.post(frame)

    # --- rooms -------------------------------------------------------------------------------------------------------

    def _enter(self, subscription: Subscription, conversation_id: int) -> Room:
        """Register as a member without receiving yet; from here on the room misses nothing."""
        room = self._rooms.get(conversation_id)
        if room is None:
            room = self._rooms[conversation_id] = Room(conversation_id)
        room.subscriptions.add(subscription)
        subscription.rooms[conversation_id] = room
        return room

    def _leave(self, subscription: Subscription, conversation_id: int) -> None:
        room = subscription.rooms.pop(conversation_id, None)
        if room is not None:
            room.live.discard(subscription)
            room.subscriptions.discard(subscription)
            if not room.subscriptions and self._rooms.get(conversation_id) is room:
                del self._rooms[conversation_id]

    def _remove(self, subscription: Subscription, conversation_id: int) -> None:
        """Take a socket out of a conversation its person has left, and say so."""
        if conversation_id in subscription.rooms:
            self._leave(subscription, conversation_id)
            subscription.cursors.pop(conversation_id, None)
            subscription.connection.post(encode(events.ConversationRemoved(conversation_id=conversation_id)))

    def _establish(self, rooms: Collection[Room], deadline: float) -> None:
        """Give new rooms their starting point. Asked after they are registered, so nothing falls between."""
        unknown = [room.id for room in rooms if room.head is None]
        for ids in chunks(unknown):
            heads = self._database.patiently(deadline, self._source.last_seqs, ids)
            rosters = self._database.patiently(deadline, self._source.rosters, ids)
            for conversation_id in ids:
                room = self._rooms.get(conversation_id)
                if room is not None and room.head is None:
                    room.read_seqs.update(rosters.get(conversation_id, {}))
                    room.establish(heads.get(conversation_id, 0))
                    if room.behind:
                        self._refill_soon(room, REORDER_GRACE_SECONDS)

    def _refill_soon(self, room: Room, grace: float) -> None:
        if not room.refilling:
            room.refilling = True
            gevent.spawn(self._refill, room, grace)

    def _refill(self, room: Room, grace: float) -> None:
        """Bring a room up to what is known to exist."""
        try:
            gevent.sleep(grace)
            counted = False
            while room.behind and self._rooms.get(room.id) is room:
                before = room.head or 0
                page = self._database.patiently(None, self._source.history, room.id, before, PAGE)
                if not counted:
                    metrics.GAPS_REFILLED.inc()
                    counted = True
                for message in page:
                    room.offer(message.seq, encode_message(message))
                if room.head == before:
                    log.warning(
                        "room_claims_more_than_stored", conversation_id=room.id, head=before, wanted=room.wanted
                    )
                    room.give_up_to(before)
        except Exception:  # the next comparison asks again; a fault here must be seen
            log.exception("room_refill_failed", conversation_id=room.id)
        finally:
            room.refilling = False

    # --- resuming ----------------------------------------------------------------------------------------------------

    def resume(self, subscription: Subscription, cursors: Mapping[int, int]) -> None:
        """See ``Subscription.resume``."""
        if subscription.state == "closed":
            return
        if subscription.state != "new":
            raise ValueError("this connection has resumed already")
        subscription.state = "resuming"
        deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
        try:
            if not self._database.patiently(deadline, self._source.live_sessions, [subscription.session_id]):
                self._end_session(subscription.session_id)
                return
            generation = self._generations[subscription.user_id]
            while True:
                mine = self._database.patiently(deadline, self._source.memberships, [subscription.user_id]).get(
                    subscription.user_id, {}
                )
                if generation == self._generations[subscription.user_id]:
                    break
                generation = self._generations[subscription.user_id]
            if subscription.state != "resuming":
                return
            rooms = [self._enter(subscription, conversation_id) for conversation_id in mine]
            self._establish(rooms, deadline)
            for room in rooms:
                start = cursors.get(room.id)
                # after a resume that failed half-way, what this socket was already sent counts
                known = subscription.cursors.get(room.id)
                if known is not None:
                    start = known if start is None else max(known, start)
                if not self._catch_up(subscription, room, start):
                    return
            if subscription.state != "resuming":
                return
            subscription.state = "live"
            last_seqs = {str(room_id): subscription.cursors[room_id] for room_id in subscription.rooms}
            subscription.connection.post(encode(events.Resumed(last_seqs=last_seqs)))
            metrics.RESUMES.inc()
            if generation != self._generations[subscription.user_id]:
                self._user_moved(subscription.user_id)
        finally:
            if subscription.state == "resuming":  # it failed: the client may ask again on this socket
                for conversation_id in tuple(subscription.rooms):
                    self._leave(subscription, conversation_id)
                subscription.state = "new"

    def _catch_up(self, subscription: Subscription, room: Room, start: int | None) -> bool:
        """Send what ``subscription`` misses of one room, then let it receive live. Returns False when the socket is done for.

        Between the last check of the room's head and joining nothing waits, so a message either is in what was sent here
        or arrives through the room: never neither, never both.
        """
        connection = subscription.connection
        is_confirmed = False
        while subscription.rooms.get(room.id) is room:
            head = room.head or 0
            if start is not None and start > head and not is_confirmed:
                # Received from another worker while this one is behind (the bus is away); or before the database was
                # restored to an earlier time. Only the database knows which.
                deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
                stored = self._database.patiently(deadline, self._source.last_seqs, [room.id]).get(room.id, 0)
                self._on_poke(room.id, stored)
                start = min(start, stored)
                is_confirmed = True
                continue
            cursor = head if start is None else start
            if cursor >= head:
                subscription.cursors[room.id] = cursor
                room.live.add(subscription)
                return True
            if head - cursor > events.RESUME_MAX_MESSAGES:
                connection.post(encode(events.Gap(conversation_id=room.id, after_seq=cursor, last_seq=head)))
                start = subscription.cursors[room.id] = head
                continue
            batch = room.recent_after(cursor)
            if not batch:
                deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
                page = self._database.patiently(deadline, self._source.history, room.id, cursor, PAGE)
                batch = [(message.seq, encode_message(message)) for message in page if message.seq <= head]
            if not batch:
                log.warning("room_claims_more_than_stored", conversation_id=room.id, head=head, wanted=cursor + 1)
                start = head
                continue
            for seq, frame in batch:
                if not connection.wait_roomy(RESUME_STALL_SECONDS):
                    connection.close(events.CLOSE_SLOW_CONSUMER, "read too slowly")
                    return False
                if subscription.rooms.get(room.id) is not room:
                    break  # left meanwhile
                connection.post(frame)
                start = subscription.cursors[room.id] = seq
        return not connection.closing

    # --- comparing with the database ---------------------------------------------------------------------------------

    def _compare_loop(self) -> None:
        due = time.monotonic() + self._compare_seconds * jitter(0.5, 1.0)
        while True:
            asked = self._compare_now.wait(min(COMPARE_WITHOUT_BUS_SECONDS, self._compare_seconds))
            self._compare_now.clear()
            everything = asked or time.monotonic() >= due
            if not everything and self._bus.healthy:
                continue
            try:
                self._compare_heads()
                if everything:
                    self._compare_sessions()
                    self._compare_rosters()
                    for user_id in tuple(self._users):
                        self._user_moved(user_id)
                    due = time.monotonic() + self._compare_seconds * jitter(0.8, 1.2)
            except Exception as error:
                if not self._source.is_transient(error):
                    log.exception("hub_comparison_failed")
                if asked:
                    self._compare_now.set()
                    gevent.sleep(COMPARE_WITHOUT_BUS_SECONDS)

    def _compare_heads(self) -> None:
        before = {room.id: room.head for room in self._rooms.values() if room.head is not None}
        for ids in chunks(before):
            newest = self._database.once(self._source.last_seqs, ids)
            for conversation_id, last_seq in newest.items():
                room = self._rooms.get(conversation_id)
                if room is None or room.head is None:
                    continue
                if last_seq < before[conversation_id]:
                    # A database restored to an earlier time. Cursors mean nothing any more: everybody starts over.
                    log.error("room_went_back", conversation_id=conversation_id, head=room.head, stored=last_seq)
                    room.give_up_to(last_seq)
                    for subscription in tuple(room.subscriptions):
                        subscription.connection.close(events.CLOSE_RESTART, "resume from the stored history")
                else:
                    self._on_poke(conversation_id, last_seq)

    def _compare_sessions(self) -> None:
        for ids in chunks(self._sessions):
            for session_id in set(ids).difference(self._database.once(self._source.live_sessions, ids)):
                self._end_session(session_id)

    def _compare_rosters(self) -> None:
        for ids in chunks([room.id for room in self._rooms.values() if room.head is not None]):
            for conversation_id, roster in self._database.once(self._source.rosters, ids).items():
                room = self._rooms.get(conversation_id)
                if room is None:
                    continue
                if roster.keys() != room.read_seqs.keys():
                    room.read_seqs = {user_id: room.read_seqs.get(user_id, 0) for user_id in roster}
                    self._tell_room(conversation_id, encode(events.MembersChanged(conversation_id=conversation_id)))
                for user_id, seq in roster.items():
                    self._on_read(conversation_id, user_id, seq)

    # --- memberships -------------------------------------------------------------------------------------------------

    def _user_moved(self, user_id: int) -> None:
        self._moved_users.add(user_id)
        self._users_moved.set()

    def _membership_loop(self) -> None:
        while True:
            self._users_moved.wait()
            self._users_moved.clear()
            moved, self._moved_users = self._moved_users, set()
            for user_ids in chunks([user_id for user_id in moved if user_id in self._users]):
                try:
                    self._compare_memberships(user_ids)
                except Exception as error:
                    if not self._source.is_transient(error):
                        log.exception("hub_memberships_failed")
                    self._moved_users.update(user_ids)
                    self._users_moved.set()
                    gevent.sleep(COMPARE_WITHOUT_BUS_SECONDS)

    def _compare_memberships(self, user_ids: Collection[int]) -> None:
        generations = {user_id: self._generations[user_id] for user_id in user_ids if user_id in self._users}
        current = self._database.once(self._source.memberships, user_ids)
        joining: list[tuple[Subscription, Room]] = []
        for user_id, generation in generations.items():
            if generation != self._generations.get(user_id, generation):
                self._user_moved(user_id)  # moved again while we asked: what we heard may be old
                continue
            mine = current.get(user_id, {})
            for subscription in tuple(self._users.get(user_id, ())):
                if subscription.state == "live":
                    for conversation_id in tuple(subscription.rooms.keys() - mine.keys()):
                        self._remove(subscription, conversation_id)
                    for conversation_id in mine.keys() - subscription.rooms.keys():
                        joining.append((subscription, self._enter(subscription, conversation_id)))
        try:
            self._establish([room for _, room in joining], time.monotonic() + RESUME_PATIENCE_SECONDS)
        except Exception:
            for subscription, room in joining:
                if subscription.rooms.get(room.id) is room:
                    self._leave(subscription, room.id)
            raise
        for subscription, room in joining:
            if subscription.rooms.get(room.id) is room:  # else it left again, or closed
                head = room.head or 0
                subscription.cursors[room.id] = head
                room.live.add(subscription)
                frame = encode(events.ConversationAdded(conversation_id=room.id, last_seq=head))
                subscription.connection.post(frame)


def encode_message(message: Stored | bus_module.MessageStored) -> bytes:
    """Return the frame every socket of the conversation receives."""
    if isinstance(message, bus_module.MessageStored):
        return text_frame(message.payload)
    return text_frame(
        events.message_json(
            message.conversation_id,
            message.seq,
            message.sender_id,
            message.client_id,
            message.body,
            message.created_at,
        )
    )


K = TypeVar("K")


def _discard(index: dict[K, set[Subscription]], key: K, value: Subscription) -> None:
    if (values := index.get(key)) is not None:
        values.discard(value)
        if not values:
            del index[key]
