"""What may happen to a site: each kind of fault does its harm, lifts it again, and returns a few words on what it did.

Where a fault lasts and the site must serve meanwhile (Redis away), the people are asked before it is lifted.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from campaign.guests import Guest, Stalled, Torn, Vanished
from campaign.load import Load
from campaign.site import TwoNodes
from harness.chat import ChatServer
from harness.process import wait_until

FLOOD_MESSAGES = 300


@dataclass
class Scene:
    """What a fault may lay its hands on.

    Args:
        bound: seconds within which everybody must be heard.
    """

    site: TwoNodes
    load: Load
    dice: random.Random
    bound: float
    guests: list[Guest] = field(default_factory=list)

    def server(self) -> ChatServer:
        """Return either server."""
        return self.dice.choice(self.site.servers)

    def a_while(self, shortest: float, longest: float) -> float:
        """Let a random time pass: how long the fault lasts."""
        seconds = self.dice.uniform(shortest, longest)
        time.sleep(seconds)
        return seconds

    def see_off_guests(self) -> None:
        """Let every guest leave, with what it has to say about its treatment."""
        leaving, self.guests = self.guests, []
        for guest in leaving:
            guest.leave()


Fault = Callable[[Scene], str]


def worker_kill(scene: Scene) -> str:
    """``kill -9`` of a worker."""
    server = scene.server()
    return f"worker {server.kill9_worker(scene.dice.randrange(server.workers))}"


def master_kill(scene: Scene) -> str:
    """``kill -9`` of a gunicorn master; the supervisor starts the unit again."""
    server = scene.server()
    server.kill9_master()
    server.wait_all_workers()
    return f"port {server.port}"


def restart(scene: Scene) -> str:
    """A graceful restart: drain, 1012, start."""
    server = scene.server()
    server.restart()
    server.wait_all_workers()
    return f"port {server.port}"


def redis_kill(scene: Scene) -> str:
    """``kill -9`` of Redis; the site serves without it."""
    scene.site.redis.kill9()
    took = scene.load.roll_call(scene.bound)
    scene.site.redis.start()
    return f"without it everybody was heard in {took:.2f} s"


def redis_stop(scene: Scene) -> str:
    """Redis stops politely for a while."""
    scene.site.redis.stop()
    took = scene.load.roll_call(scene.bound)
    scene.a_while(0, 1)
    scene.site.redis.start()
    return f"without it everybody was heard in {took:.2f} s"


def redis_freeze(scene: Scene) -> str:
    """Redis hangs for a few seconds: connections stay open, nothing is answered."""
    scene.site.redis.send_signal(signal.SIGSTOP)
    try:
        took = scene.load.roll_call(scene.bound)
        scene.a_while(0, 2)
    finally:
        scene.site.redis.send_signal(signal.SIGCONT)
    return f"meanwhile everybody was heard in {took:.2f} s"


def postgres_kill(scene: Scene) -> str:
    """``kill -9`` of the postmaster."""
    scene.site.postgres.kill9()
    lasted = scene.a_while(0, 1.5)
    scene.site.postgres.start()
    return f"away for {lasted:.1f} s and its recovery"


def postgres_stop(scene: Scene) -> str:
    """PostgreSQL stops (fast) for a while."""
    scene.site.postgres.stop()
    lasted = scene.a_while(0, 1.5)
    scene.site.postgres.start()
    return f"away for {lasted:.1f} s"


def postgres_freeze(scene: Scene) -> str:
    """PostgreSQL hangs for a few seconds."""
    frozen = scene.site.freeze_postgres()
    try:
        lasted = scene.a_while(0.5, 3)
    finally:
        scene.site.thaw(frozen)
    return f"{len(frozen)} processes for {lasted:.1f} s"


def backend_kill(scene: Scene) -> str:
    """``kill -9`` of one backend: the postmaster then ends all others and recovers."""
    found: list[int] = []

    def look() -> bool:  # after a fault there may be none for a moment
        query = "SELECT pid FROM pg_stat_activity WHERE usename = 'chat_user' ORDER BY pid"
        found[:] = [row[0] for row in scene.site.postgres.admin(query)]
        return bool(found)

    wait_until(look, 10, "the application is connected to its database")
    pid = scene.dice.choice(found)
    with contextlib.suppress(ProcessLookupError):  # it has just been given up
        os.kill(pid, signal.SIGKILL)
    # only then: a query before the postmaster knows would still succeed
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"), 10, "the postmaster noticed")
    return f"backend {pid}"


def client_reset(scene: Scene) -> str:
    """TCP resets: some people, who come back here or elsewhere, and one guest in the middle of a frame."""
    scene.guests.append(Torn(scene.site, scene.load, scene.dice))
    scene.guests.pop().leave()
    hit = scene.dice.sample(scene.load.clients, scene.dice.randrange(1, 5))
    for client in hit:
        client.drop(reset=True, elsewhere=scene.dice.random() < 0.5)
    return f"{len(hit)} people and a guest"


def client_stalled(scene: Scene) -> str:
    """Somebody's second device stops reading, for several faults."""
    scene.guests.append(Stalled(scene.site, scene.load, scene.dice))
    return scene.guests[-1].person.username


def client_vanished(scene: Scene) -> str:
    """Somebody's second device vanishes without a word."""
    scene.guests.append(Vanished(scene.site, scene.load, scene.dice))
    return scene.guests[-1].person.username


def client_flood(scene: Scene) -> str:
    """Somebody sends to one small room as fast as possible, and is cut on the way half of the times."""
    client = scene.dice.choice(scene.load.clients)
    room = scene.dice.choice([r for r in scene.load.rooms_of(client.person) if r != scene.load.club])
    cut = scene.dice.randrange(2 * FLOOD_MESSAGES)
    for number in range(FLOOD_MESSAGES):
        scene.load.say(client, room, "flood " + "y" * 500)
        if number == cut:
            client.drop(elsewhere=scene.dice.random() < 0.5)
    return f"{FLOOD_MESSAGES} messages" + (", cut once" if cut < FLOOD_MESSAGES else "")


KINDS: dict[str, Fault] = {
    "worker-kill": worker_kill,
    "master-kill": master_kill,
    "restart": restart,
    "redis-kill": redis_kill,
    "redis-stop": redis_stop,
    "redis-freeze": redis_freeze,
    "postgres-kill": postgres_kill,
    "postgres-stop": postgres_stop,
    "postgres-freeze": postgres_freeze,
    "backend-kill": backend_kill,
    "client-reset": client_reset,
    "client-stalled": client_stalled,
    "client-vanished": client_vanished,
    "client-flood": client_flood,
}


def shuffled(kinds: list[str], dice: random.Random) -> Iterator[str]:
    """Yield kinds for ever, in a random order in which each comes as often as any other."""
    while True:
        yield from dice.sample(kinds, len(kinds))
