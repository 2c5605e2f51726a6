"""The people of a fault campaign: they talk at random moments, are asked whether they hear, and are judged piece by piece.

What has been judged is dropped, so that a long campaign needs no more memory than a short one; a running hash of each
room shows at the end that what was judged early is still stored as it was.
"""

from __future__ import annotations

import hashlib
import random
import threading
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from harness.chat import ChatServer
from harness.checker import check
from harness.client import ChatClient
from harness.people import People, Person, Stored

#: Closes a client may see whatever is done to the site; 1011 (our mistake) is not among them, nor are those for bad manners.
FAIR_CLOSES = {None, 1000, 1001, 1006, 1012, 1013, 4401, 4408}

ROOMS = 4


@dataclass
class Totals:
    """What a campaign saw."""

    sent: int = 0
    acked: int = 0
    stored: int = 0
    received: int = 0
    connections: int = 0
    closes: Counter[int | None] = field(default_factory=Counter)

    def __str__(self) -> str:
        closes = ", ".join(f"{count} × {code or 'cut'}" for code, count in self.closes.most_common())
        return (
            f"{self.sent} sent, {self.acked} acked, {self.stored} stored, {self.received} received on "
            f"{self.connections} connections (closed: {closes or 'none'})"
        )


class Load:
    """Everybody is in the club room, and in some of the overlapping small ones.

    Args:
        servers: nodes of one site; each client begins at another.
        people: how many.
        pause: mean seconds between two messages of one person.
    """

    def __init__(self, servers: Sequence[ChatServer], seed: int, *, people: int = 12, pause: float = 0.2) -> None:
        self.people: People = servers[0].people
        self.persons: list[Person] = self.people.add(*(f"player{n}" for n in range(people)))
        self.club = self.people.group(self.persons, "club")
        self.rooms = {self.club: self.persons}
        for r in range(ROOMS):
            members = [person for n, person in enumerate(self.persons) if r in (n % ROOMS, n // 2 % ROOMS)]
            self.rooms[self.people.group(members, f"room {r}")] = members
        self.servers = servers
        count = len(servers)
        self.clients = [
            ChatClient([*servers[n % count :], *servers[: n % count]], person, seed=seed)
            for n, person in enumerate(self.persons)
        ]
        self.totals = Totals()
        self._pause = pause / people
        self._dice = random.Random(f"{seed}:load")  # noqa: S311  # moments, not secrets
        self._turn = threading.Lock()
        self._stopping = threading.Event()
        self._talker = threading.Thread(target=self._talk, daemon=True)
        self._number = 0
        self._verified = dict.fromkeys(self.rooms, 0)
        self._hashes = {room: hashlib.sha256() for room in self.rooms}

    def rooms_of(self, person: Person) -> list[int]:
        """Return the conversations of a person."""
        return [room for room, members in self.rooms.items() if person in members]

    def start(self) -> None:
        """Connect everybody and begin to talk."""
        for client in self.clients:
            client.start()
        self._talker.start()

    def stop(self) -> None:
        """Stop talking; everybody stays connected."""
        self._stopping.set()
        if self._talker.is_alive():
            self._talker.join(20)

    def close(self) -> None:
        """Stop talking and leave, without judging."""
        self.stop()
        for client in self.clients:
            client.close(check=False)

    def say(self, client: ChatClient, room: int, text: str) -> str:
        """Let somebody send a text that is unlike any other; returns the client_id."""
        self._number += 1  # only a number in a text: two threads may use the same
        return client.send(room, f"{client.person.username} {self._number}: {text}")

    def _talk(self) -> None:
        while not self._stopping.wait(self._dice.expovariate(1 / self._pause)):
            with self._turn:
                client = self._dice.choice(self.clients)
                if client.failure is not None:
                    return
                self.say(client, self._dice.choice(self.rooms_of(client.person)), "x" * self._dice.randrange(200))

    def spread(self) -> None:
        """Move some people to a node that few are on: who fled from a fault stays where it went."""
        for port in {site.port for site in self.servers}:
            here = [client for client in self.clients if client.server.port == port]
            others = [client for client in self.clients if client.server.port != port]
            for client in self._dice.sample(others, max(0, len(self.clients) // 3 - len(here))):
                client.drop(elsewhere=True)

    def roll_call(self, bound: float) -> float:
        """Let everybody say something in the club room and hear everybody; return the seconds it took.

        Raises:
            AssertionError: somebody was not heard, or did not hear, within ``bound`` seconds.
        """
        started = time.monotonic()

        def left() -> float:
            return max(0.0, started + bound - time.monotonic())

        keys = [(client, self.say(client, self.club, "here")) for client in self.clients]
        newest = 0
        for client, key in keys:
            client.wait_acked(key, timeout=left())
            newest = max(newest, next(seq for client_id, _, seq in reversed(client.acks) if client_id == key))
        for client in self.clients:
            client.wait_seq(self.club, newest, timeout=left())
        return time.monotonic() - started

    def checkpoint(self, timeout: float = 40) -> list[str]:
        """Hold the talk, judge everything since the last time, and forget it; return what is wrong."""
        with self._turn:
            for client in self.clients:
                client.wait_acked(timeout=timeout)
            tops = {room: self.people.last_seq(room) for room in self.rooms}
            for client in self.clients:
                for room in self.rooms_of(client.person):
                    client.wait_seq(room, tops[room], timeout=timeout)
            stored = self.people.history(*self.rooms, after=self._verified)
            verdict = check(stored, self.clients, since=self._verified)
            problems = list(verdict.problems)
            self.totals.stored += verdict.stored
            self.totals.acked += verdict.acked
            self.totals.received += verdict.received
            for client in self.clients:
                self.totals.sent += len(client.sent)
                ended = client.connections[: len(client.connections) - 1]
                self.totals.connections += len(ended)
                self.totals.closes.update(connection.close_code for connection in ended)
                problems += [
                    f"{client.person.username} was closed with {connection.close_code} {connection.close_reason}"
                    for connection in ended
                    if connection.close_code not in FAIR_CLOSES
                ]
                client.forget()
            for room, rows in _by_room(stored).items():
                _add(self._hashes[room], rows)
            self._verified = tops
        return problems

    def judge_all(self) -> list[str]:
        """Read the whole history once more, after ``stop`` and the last ``checkpoint``: what was judged at any time is still
        there, unchanged, and nothing else.
        """
        self.totals.connections += len(self.clients)
        problems = []
        for room, newest in self._verified.items():
            rows = self.people.history(room)
            again = hashlib.sha256()
            _add(again, rows)
            if again.digest() != self._hashes[room].digest():
                problems.append(f"the history of {room} has changed: {len(rows)} are stored, {newest} were judged")
        return problems


def _by_room(rows: Iterable[Stored]) -> dict[int, list[Stored]]:
    found: dict[int, list[Stored]] = {}
    for row in rows:
        found.setdefault(row.conversation_id, []).append(row)
    return found


def _add(digest: hashlib._Hash, rows: Iterable[Stored]) -> None:
    for row in rows:
        digest.update(f"{row.seq} {row.sender_id} {row.client_id} {row.body}\n".encode())
