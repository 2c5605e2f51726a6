"""One conversation as one worker sees it: how far it has come, who listens, and what arrived ahead of its turn.

Pure state, no waiting and no database; the hub moves it. The rule everything rests on: ``head`` only ever moves by one, and
who is in ``live`` has been posted everything up to ``head``. So a live listener needs no cursor of its own: it is the room's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from hockey_hub_chat.realtime.broadcast import Broadcast, Spreader

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.subscription import Subscription

#: Frames kept for those who resume a moment behind (after a restart that is nearly everybody at once).
RECENT_FRAMES = 64
RECENT_BYTES = 65_536
#: Frames held that arrived ahead of their turn; past this the database is asked for all of them.
MAX_AHEAD = 256


class Room:
    """The state of one conversation in this worker; exists while somebody here listens.

    Attributes:
        head: newest seq of the unbroken sequence seen here; None until the database was asked.
        wanted: newest seq known to exist.
        subscriptions: everyone here who is a member, those still catching up included.
        live: the connections of those who have reached ``head``; they receive what comes.
        read_seqs: each member's read position, as far as known.
    """

    __slots__ = (
        "_ahead",
        "_recent",
        "_recent_bytes",
        "head",
        "id",
        "live",
        "read_seqs",
        "refilling",
        "subscriptions",
        "wanted",
    )

    def __init__(self, conversation_id: int, spreader: Spreader) -> None:
        self.id = conversation_id
        self.head: int | None = None
        self.wanted = 0
        self.subscriptions: set[Subscription] = set()
        self.live = Broadcast(spreader)
        self.read_seqs: dict[int, int] = {}
        self.refilling = False
        self._ahead: dict[int, bytes] = {}
        self._recent: list[bytes] = []  # those up to head; a list, because there are many rooms
        self._recent_bytes = 0

    @property
    def behind(self) -> bool:
        """Whether something is known to exist that was not delivered."""
        return self.head is not None and self.wanted > self.head

    def needs(self, seq: int) -> bool:
        """Whether the message ``seq`` is news."""
        return (self.head is None or seq > self.head) and seq not in self._ahead

    def offer(self, seq: int, frame: bytes) -> None:
        """Take one message in whatever order it comes."""
        if seq > self.wanted:
            self.wanted = seq
        if self.head is not None and seq == self.head + 1:  # nearly always
            self._ahead.pop(seq, None)
            self._deliver(frame)
        elif self.needs(seq) and len(self._ahead) < MAX_AHEAD:
            self._ahead[seq] = frame
        if self._ahead:
            self._advance()

    def establish(self, last_seq: int) -> None:
        """Set the starting point, once."""
        if self.head is None:
            self.head = last_seq
            self.wanted = max(self.wanted, last_seq)
            self._ahead = {seq: frame for seq, frame in self._ahead.items() if seq > last_seq}
            self._advance()

    def give_up_to(self, last_seq: int) -> None:
        """Accept that the database holds nothing past ``last_seq``."""
        self.head = self.wanted = last_seq
        self._ahead.clear()
        self._recent.clear()
        self._recent_bytes = 0

    def recent_after(self, seq: int) -> list[tuple[int, bytes]]:
        """Return the kept frames after ``seq`` when they join on without a gap, else nothing."""
        missed = (self.head or 0) - seq
        if not 0 < missed <= len(self._recent):
            return []
        return list(enumerate(self._recent[-missed:], seq + 1))

    def _advance(self) -> None:
        while self.head is not None and (frame := self._ahead.pop(self.head + 1, None)) is not None:
            self._deliver(frame)

    def _deliver(self, frame: bytes) -> None:
        self.head = (self.head or 0) + 1
        self.live.send(frame)
        self._recent.append(frame)
        self._recent_bytes += len(frame)
        while len(self._recent) > RECENT_FRAMES or self._recent_bytes > RECENT_BYTES:
            self._recent_bytes -= len(self._recent.pop(0))
