"""The sockets of this worker and what each has received.

Owns rooms and who is in them. The border for the rest of the application is small: ``attach`` gives a ``Subscription`` with
``resume``, ``typing`` and ``detach``; ``on_events`` takes what the bus brings; ``drain`` and ``close_all`` end it. It must not know
SQL, HTTP or Redis: what it asks the database is injected.

Exactly once, in order, without gaps: messages reach a room in any order and any number of times, and leave it by seq. A
gap is filled from the database after a short grace; what no event told of is found by comparing each room with the
database (``compare``). Who comes back is caught up by ``resume``.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from uuid import UUID

import gevent
import structlog
from gevent.event import Event

from hockey_hub_chat import events, metrics
from hockey_hub_chat.realtime import bus as bus_module
from hockey_hub_chat.realtime.broadcast import Spreader
from hockey_hub_chat.realtime.compare import COMPARE_SECONDS, COMPARE_WITHOUT_BUS_SECONDS, Comparison
from hockey_hub_chat.realtime.resume import PAGE, RESUME_PATIENCE_SECONDS, Resumer
from hockey_hub_chat.realtime.room import Room
from hockey_hub_chat.realtime.source import Asker, Gatherer, HubSource, chunks, jitter
from hockey_hub_chat.realtime.subscription import Index, Receiver, Subscription
from hockey_hub_chat.realtime.wire import encode, encode_message

log = structlog.get_logger(__name__)

#: An event that overtook another is waited for this long before the database is asked.
REORDER_GRACE_SECONDS = 0.05
#: What a worker is asked to take back after a restart: half of what it was measured to. And the longest anybody is told to wait.
RETURNS_PER_SECOND = 1000
MAX_SPREAD_MS = 10_000
#: How late the number of sockets is told.
SIZE_SECONDS = 0.1


class Hub:
    """Delivers to the sockets of this worker.

    Args:
        source: what the hub may ask the database.
        bus: where ``typing`` is published, and whose health decides how often rooms are compared.
        spreader: joins what is said in a room in one tick (``reactor.Reactor``).
        compare_seconds: see COMPARE_SECONDS.
    """

    def __init__(
        self,
        source: HubSource,
        bus: bus_module.Bus,
        spreader: Spreader,
        *,
        compare_seconds: float = COMPARE_SECONDS,
    ) -> None:
        self.source = source
        self.database = Asker(source.is_transient)
        self.rooms: dict[int, Room] = {}
        self.users: Index[int] = Index()
        self.sessions: Index[UUID] = Index()
        #: When each person here last came or moved, by ``_moves``: an answer of the database asked for before that is not believed.
        self.generations: dict[int, int] = {}
        self._moves = 0
        self._bus = bus
        self._spreader = spreader
        self._size = 0
        self._telling_size = False
        self._moved_users: set[int] = set()
        self._users_moved = Event()
        self._beginnings = Gatherer(self._ask_beginnings)
        self._comparison = Comparison(self, bus, compare_seconds)
        self._resumer = Resumer(self)
        self._greenlets: list[gevent.Greenlet] = []
        self.draining = False

    # --- the border --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the greenlets, once, in the process that holds the sockets. Safe to repeat."""
        if not self._greenlets:
            self._greenlets = [gevent.spawn(self._comparison.run), gevent.spawn(self._membership_loop)]

    def stop(self) -> None:
        """End the greenlets."""
        gevent.killall(self._greenlets)
        self._greenlets = []

    @property
    def size(self) -> int:
        """How many sockets are attached."""
        return self._size

    def sockets_of(self, user_id: int) -> int:
        """How many sockets one person has here."""
        return self.users.count(user_id)

    def attach(self, connection: Receiver, *, user_id: int, session_id: UUID) -> Subscription:
        """Register a socket. It receives nothing before its ``resume``, but ends with its session from now on."""
        subscription = Subscription(self, connection, user_id, session_id)
        if user_id not in self.users:
            self._note_move(user_id)
        self.users.add(user_id, subscription)
        self.sessions.add(session_id, subscription)
        self._size += 1
        self._tell_size_soon()
        return subscription

    def detach(self, subscription: Subscription) -> None:
        """Forget a socket. Safe to repeat."""
        if subscription.state == "closed":
            return
        subscription.state = "closed"
        self._size -= 1
        self._tell_size_soon()
        for conversation_id in tuple(subscription.rooms):
            self.leave(subscription, conversation_id)
        self.sessions.discard(subscription.session_id, subscription)
        self.users.discard(subscription.user_id, subscription)
        if subscription.user_id not in self.users:
            self.generations.pop(subscription.user_id, None)

    def resume(self, subscription: Subscription, cursors: Mapping[int, int]) -> None:
        """See ``Subscription.resume``."""
        self._resumer.resume(subscription, cursors)

    def publish_typing(self, conversation_id: int, user_id: int) -> None:
        """Publish that a member is typing."""
        self._bus.publish([bus_module.TypingSeen(conversation_id, user_id)])

    def drain(self) -> None:
        """Tell every socket that this worker is leaving; their reconnects spread over a time that grows with their number."""
        self.draining = True
        spread_ms = min(MAX_SPREAD_MS, 500 + self.size * 1000 // RETURNS_PER_SECOND)
        for subscription in self._subscriptions():
            subscription.connection.post(encode(events.Drain(reconnect_after_ms=int(spread_ms * jitter(0.0, 1.0)))))

    def close_all(self, code: int, reason: str, *, timeout: float) -> None:
        """Close every socket after what it is owed; returns at once."""
        for subscription in self._subscriptions():
            for room in subscription.rooms.values():
                room.live.spread()
            subscription.connection.close(code, reason, timeout=timeout)

    def _tell_size_soon(self) -> None:
        """Set the gauge for everybody who comes or goes in this moment: by itself it costs as much as the rest of coming."""
        if not self._telling_size:
            self._telling_size = True
            gevent.spawn_later(SIZE_SECONDS, self._tell_size)

    def _tell_size(self) -> None:
        self._telling_size = False
        metrics.CONNECTIONS_ACTIVE.set(self._size)

    def _subscriptions(self) -> list[Subscription]:
        return [subscription for user_id in self.users for subscription in self.users.get(user_id)]

    # --- events ------------------------------------------------------------------------------------------------------

    def on_missed(self) -> None:
        """Events may have been missed: compare everything with the database, soon."""
        self._comparison.compare_soon()

    def on_events(self, batch: Iterable[bus_module.BusEvent]) -> None:
        """Take events from the bus; never waits."""
        for event in batch:
            match event:
                case bus_module.MessageStored():
                    self._on_message(event)
                case bus_module.Poke():
                    self.on_poke(event.conversation_id, event.seq)
                case bus_module.ReadPositionMoved():
                    self.on_read(event.conversation_id, event.user_id, event.seq)
                case bus_module.TypingSeen():
                    frame = encode(events.Typing(conversation_id=event.conversation_id, user_id=event.user_id))
                    self._tell_others(event.conversation_id, event.user_id, frame)
                case bus_module.MembershipChanged():
                    self._on_membership(event)
                case bus_module.SessionEnded():
                    self.end_session(event.session_id)

    def _on_message(self, message: bus_module.MessageStored) -> None:
        room = self.rooms.get(message.conversation_id)
        if room is None or not room.needs(message.seq):
            return
        room.offer(message.seq, encode_message(message))
        if room.behind:
            self._refill_soon(room, REORDER_GRACE_SECONDS)

    def on_poke(self, conversation_id: int, seq: int) -> None:
        """Learn that a conversation has reached ``seq``."""
        room = self.rooms.get(conversation_id)
        if room is not None:
            room.wanted = max(room.wanted, seq)
            if room.behind:
                self._refill_soon(room, 0.0)

    def on_read(self, conversation_id: int, user_id: int, seq: int) -> None:
        """Learn that a member has read up to ``seq``."""
        room = self.rooms.get(conversation_id)
        if room is not None and seq > room.read_seqs.get(user_id, 0):
            room.read_seqs[user_id] = seq
            room.live.send(encode(events.ReadMoved(conversation_id=conversation_id, user_id=user_id, seq=seq)))

    def _on_membership(self, event: bus_module.MembershipChanged) -> None:
        if event.user_id in self.users:
            self._note_move(event.user_id)
            self.user_moved(event.user_id)
            if event.change == "left":  # at once, whatever the database answers later: nothing more may reach them
                for subscription in self.users.get(event.user_id):
                    self._remove(subscription, event.conversation_id)
        room = self.rooms.get(event.conversation_id)
        if room is not None:
            if event.change == "left":
                room.read_seqs.pop(event.user_id, None)
            else:
                room.read_seqs.setdefault(event.user_id, 0)
            room.live.send(encode(events.MembersChanged(conversation_id=event.conversation_id)))

    def _note_move(self, user_id: int) -> None:
        """Give somebody a generation nobody had before, so that who left and came back is not taken for who was asked about."""
        self._moves += 1
        self.generations[user_id] = self._moves

    def end_session(self, session_id: UUID) -> None:
        """Close the sockets of a session that is over."""
        for subscription in self.sessions.get(session_id):
            subscription.connection.close(events.CLOSE_SESSION_ENDED, "session ended")

    def _tell_others(self, conversation_id: int, user_id: int, frame: bytes) -> None:
        room = self.rooms.get(conversation_id)
        if room is not None:
            room.live.send_except(frame, [subscription.connection for subscription in self.users.get(user_id)])

    # --- rooms -------------------------------------------------------------------------------------------------------

    def enter(self, subscription: Subscription, conversation_id: int) -> Room:
        """Register as a member without receiving yet; from here on the room misses nothing."""
        room = self.rooms.get(conversation_id)
        if room is None:
            room = self.rooms[conversation_id] = Room(conversation_id, self._spreader)
        room.subscriptions.add(subscription)
        subscription.rooms[conversation_id] = room
        return room

    def leave(self, subscription: Subscription, conversation_id: int) -> None:
        """Undo ``enter``."""
        room = subscription.rooms.pop(conversation_id, None)
        if room is not None:
            room.live.discard(subscription.connection)
            room.subscriptions.discard(subscription)
            if not room.subscriptions and self.rooms.get(conversation_id) is room:
                del self.rooms[conversation_id]

    def _remove(self, subscription: Subscription, conversation_id: int) -> None:
        """Take a socket out of a conversation its person has left, and say so."""
        if conversation_id in subscription.rooms:
            self.leave(subscription, conversation_id)
            if subscription.cursors is not None:
                subscription.cursors.pop(conversation_id, None)
            subscription.connection.post(encode(events.ConversationRemoved(conversation_id=conversation_id)))

    def establish(self, rooms: Collection[Room]) -> None:
        """Give new rooms their starting point. Asked after they are registered, so nothing falls between.

        Raises:
            UnavailableError: the database stayed away.
        """
        unknown = [room.id for room in rooms if room.head is None]
        if not unknown:
            return
        for conversation_id, (head, roster) in self._beginnings.get_many(unknown).items():
            room = self.rooms.get(conversation_id)
            if room is not None and room.head is None:
                for user_id, seq in roster.items():
                    room.read_seqs.setdefault(user_id, seq)
                room.establish(head)
                if room.behind:
                    self._refill_soon(room, REORDER_GRACE_SECONDS)

    def _ask_beginnings(self, ids: Collection[int]) -> dict[int, tuple[int, Mapping[int, int]]]:
        deadline = time.monotonic() + RESUME_PATIENCE_SECONDS
        heads = self.database.patiently(deadline, self.source.last_seqs, ids)
        rosters = self.database.patiently(deadline, self.source.rosters, ids)
        return {key: (heads.get(key, 0), rosters.get(key, {})) for key in ids}

    def _refill_soon(self, room: Room, grace: float) -> None:
        if not room.refilling:
            room.refilling = True
            gevent.spawn(self._refill, room, grace)

    def _refill(self, room: Room, grace: float) -> None:
        """Bring a room up to what is known to exist."""
        try:
            gevent.sleep(grace)
            counted = False
            while room.behind and self.rooms.get(room.id) is room:
                before = room.head or 0
                page = self.database.patiently(None, self.source.history, room.id, before, PAGE)
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

    # --- memberships -------------------------------------------------------------------------------------------------

    def user_moved(self, user_id: int) -> None:
        """Compare a person's memberships with the database, soon."""
        self._moved_users.add(user_id)
        self._users_moved.set()

    def _membership_loop(self) -> None:
        while True:
            self._users_moved.wait()
            self._users_moved.clear()
            moved, self._moved_users = self._moved_users, set()
            for user_ids in chunks([user_id for user_id in moved if user_id in self.users]):
                try:
                    self._compare_memberships(user_ids)
                except Exception as error:
                    if not self.source.is_transient(error):
                        log.exception("hub_memberships_failed")
                    self._moved_users.update(user_ids)
                    self._users_moved.set()
                    gevent.sleep(COMPARE_WITHOUT_BUS_SECONDS)

    def _compare_memberships(self, user_ids: Collection[int]) -> None:
        generations = {user_id: self.generations[user_id] for user_id in user_ids if user_id in self.users}
        current = self.database.once(self.source.memberships, user_ids)
        joining: list[tuple[Subscription, Room]] = []
        for user_id, generation in generations.items():
            if generation != self.generations.get(user_id):
                self.user_moved(user_id)  # moved again, or left and came, while we asked: what we heard may be old
                continue
            mine = current.get(user_id, {})
            for subscription in self.users.get(user_id):
                if subscription.state == "live":
                    for conversation_id in tuple(subscription.rooms.keys() - mine.keys()):
                        self._remove(subscription, conversation_id)
                    for conversation_id in mine.keys() - subscription.rooms.keys():
                        joining.append((subscription, self.enter(subscription, conversation_id)))
        try:
            self.establish([room for _, room in joining])
        except Exception:
            for subscription, room in joining:
                if subscription.rooms.get(room.id) is room:
                    self.leave(subscription, room.id)
            raise
        for subscription, room in joining:
            if subscription.rooms.get(room.id) is room:  # else it left again, or closed
                room.live.add(subscription.connection)
                frame = encode(events.ConversationAdded(conversation_id=room.id, last_seq=room.head or 0))
                subscription.connection.post(frame)
