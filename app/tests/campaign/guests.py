"""Sockets with bad manners, beside the people of a campaign: they stop reading, vanish, or end in the middle of a frame."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable

from campaign.load import Load
from campaign.site import HEARTBEAT_SECONDS, TwoNodes
from harness.client import NETWORK_TROUBLE
from harness.http import Api
from harness.people import Person
from harness.raw import TEXT, RawSocket, frame

#: What the kernel keeps for a reader that does not read; it doubles it.
SMALL_BUFFER = 2048


class BadGuestError(AssertionError):
    """A guest was not treated as the protocol says."""


class Guest:
    """A second device of one of the people."""

    def __init__(self, site: TwoNodes, load: Load, dice: random.Random) -> None:
        self.site = site
        self.load = load
        self.dice = dice
        self.person: Person = dice.choice(load.persons)
        self.cursors: dict[int, int] = {}
        self.socket = self._connect(receive_buffer=SMALL_BUFFER)

    def _connect(self, *, receive_buffer: int | None = None) -> RawSocket:
        deadline = time.monotonic() + 30
        while True:
            server = self.dice.choice(self.site.servers)
            try:
                api: Api = server.api()
                api.login(self.person.username, self.person.password).expect(200)
                opened = RawSocket(server, api, timeout=30, receive_buffer=receive_buffer)
                self._resume(opened)
                return opened
            except BadGuestError:
                raise
            except (*NETWORK_TROUBLE, AssertionError):
                if time.monotonic() > deadline:
                    raise

    def _resume(self, opened: RawSocket) -> None:
        seen = len(opened.frames)
        told = opened.resume(self.cursors)
        self._take(opened, seen)
        for key, seq in told["last_seqs"].items():
            self.cursors.setdefault(int(key), seq)

    def _take(self, opened: RawSocket, since: int) -> None:
        """Follow the frames from ``since`` on: each message is the next one of its conversation."""
        for told in opened.frames[since:]:
            if told["type"] == "gap":
                self.cursors[told["conversation_id"]] = told["last_seq"]
            elif told["type"] == "message":
                room, seq = told["conversation_id"], told["seq"]
                expected = self.cursors.setdefault(room, seq - 1) + 1
                if seq != expected:
                    raise BadGuestError(f"{self.person.username}: seq {seq} of {room} where {expected} belongs")
                self.cursors[room] = seq

    def _read_until(self, wanted: Callable[[], bool]) -> bool:
        """Read until something holds; False when the server closed before."""
        while not wanted():
            seen = len(self.socket.frames)
            if self.socket.receive() is None:
                return False
            self._take(self.socket, seen)
        return True

    def leave(self) -> None:
        """End the visit and check what is to be checked."""
        self.socket.reset()


class Stalled(Guest):
    """Stops reading right after ``resumed``. Later it reads on, or resumes, and then holds everything."""

    def leave(self) -> None:
        """Read on, come back when the server has closed, and hold everything in the end."""
        tops = {room: self.load.people.last_seq(room) for room in self.load.rooms_of(self.person)}

        def complete() -> bool:
            return all(self.cursors.get(room, 0) >= seq for room, seq in tops.items())

        if not self._read_until(complete):
            code = self.socket.closed_with
            if code not in (None, 1001, 1012, 4408):
                raise BadGuestError(f"{self.person.username}: a stalled reader was closed with {code}")
            self.socket = self._connect()
            if not self._read_until(complete):
                raise BadGuestError(f"{self.person.username}: closed with {self.socket.closed_with} after resuming")
        self.socket.reset()


class Vanished(Guest):
    """Says nothing any more, not even pongs. The server has to notice."""

    def __init__(self, site: TwoNodes, load: Load, dice: random.Random) -> None:
        super().__init__(site, load, dice)
        self.socket.answers_pings = False
        self.since = time.monotonic()

    def leave(self) -> None:
        """Check that the server ends the connection within three heartbeats."""
        self.socket.sock.settimeout(max(2.0, self.since + 3 * HEARTBEAT_SECONDS + 4 - time.monotonic()))
        try:
            self._read_until(lambda: False)
        except TimeoutError:
            raise BadGuestError(f"{self.person.username}: nobody noticed that it had vanished") from None
        if self.socket.closed_with not in (None, 1001, 1012, 4408):
            raise BadGuestError(f"{self.person.username}: vanished, and closed with {self.socket.closed_with}")


class Torn(Guest):
    """Ends with a TCP reset in the middle of a frame."""

    def leave(self) -> None:
        """Send half a frame, then reset."""
        whole = frame(TEXT, b'{"type":"ping","nonce":"torn"}')
        with contextlib.suppress(OSError):  # the server may have gone first
            self.socket.send(whole[: self.dice.randrange(1, len(whole))])
        self.socket.reset()
