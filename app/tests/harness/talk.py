"""Two and more people who keep talking at random moments while something is done to the site."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Sequence
from types import TracebackType

from harness.chat import ChatServer
from harness.checker import Verdict, check
from harness.client import ChatClient
from harness.people import Person


def new_seed() -> int:
    """Return ``HHC_TEST_SEED``, or a fresh one; printed, so that a failing run can be tried again."""
    seed = int(os.environ.get("HHC_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"HHC_TEST_SEED={seed}")
    return seed


class Talk:
    """Clients that send to random rooms of theirs at random moments until the block ends, then are judged.

    Args:
        servers: where they connect; each begins at another.
        people: who talks, each in all of ``rooms``.
        rooms: conversation ids.
        pause: mean seconds between two messages of one person.
    """

    def __init__(
        self,
        servers: Sequence[ChatServer],
        people: Sequence[Person],
        rooms: Sequence[int],
        seed: int,
        pause: float = 0.02,
    ) -> None:
        self.rooms = list(rooms)
        self.people = servers[0].people
        self.pause = pause
        self.random = random.Random(seed)  # noqa: S311  # moments, not secrets
        count = len(servers)
        self.clients = [
            ChatClient([*servers[n % count :], *servers[: n % count]], person, seed=seed)
            for n, person in enumerate(people)
        ]
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._talk, args=(client, random.Random(f"{seed}:{n}")), daemon=True)  # noqa: S311
            for n, client in enumerate(self.clients)
        ]

    def __enter__(self) -> Talk:
        for client in self.clients:
            client.start()
        for thread in self._threads:
            thread.start()
        return self

    def _talk(self, client: ChatClient, dice: random.Random) -> None:
        number = 0
        while not self._stop.wait(dice.expovariate(1 / self.pause)):
            if client.failure is not None:
                return
            number += 1
            client.send(dice.choice(self.rooms), f"{client.person.username} says {number}")

    def acked(self) -> int:
        """Return how many acknowledgements there were so far."""
        return sum(len(client.acks) for client in self.clients)

    def go_on(self, acks: int, timeout: float = 40) -> None:
        """Return when everyone has been given ``acks`` more acknowledgements."""
        for client in self.clients:
            client.wait_acks(len(client.acks) + acks, timeout)

    def a_moment(self, longest: float = 0.3) -> None:
        """Let a random time pass, so that what follows hits at any point of a message's way."""
        time.sleep(self.random.uniform(0, longest))

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(10)
        try:
            if kind is None:
                self.verdict = self._judge()
        finally:
            for client in self.clients:
                client.close(check=kind is None)
        if kind is None:
            self.verdict.assert_clean()

    def _judge(self) -> Verdict:
        for client in self.clients:
            client.wait_acked(timeout=40)
        for client in self.clients:
            for room in self.rooms:
                client.wait_seq(room, self.people.last_seq(room), timeout=40)
        verdict = check(self.people.history(*self.rooms), self.clients)
        print(verdict)
        assert verdict.acked and verdict.received, "nothing was said"
        return verdict
