"""``make soak``: thousands of sockets on one worker for minutes, some always coming and going, everyone always reachable.

Watches the worker's memory, its open files and its own count of sockets. It must not judge speed: how long the club's
messages took to the last of all is printed, and only bounded.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import statistics
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

from harness.chat import ChatServer, Keys
from harness.crowd import Crowd
from harness.crowd_member import HOWS
from harness.masses import Masses, make_masses
from harness.postgres import Postgres
from harness.process import Workshop, cpu_seconds, open_files, peer_ports, pss_bytes, rss_bytes, wait_until
from harness.redis_server import RedisServer

BUILD = Path(__file__).parents[3] / "build"
ROOM_SIZE = 20
#: Seconds between two messages to everybody, and between two to a small room.
CLUB_SECONDS = 5.0
ROOM_SECONDS = 0.1
#: Small rooms in which people talk. A server may keep the newest messages of each room: in so few that is full before memory
#: is judged; spread over all rooms it would go on filling for hours, and look like a leak.
LIVELY_ROOMS = 25
SAMPLE_SECONDS = 10.0
#: Sockets that come from beyond the plan: people who come back before the server knows that they had gone.
SPARE = 1_000
#: How far the memory may grow in ten minutes once warm: the smaller of both.
MAX_GROWTH = 0.03
MAX_GROWTH_BYTES = 10 * 2**20
#: A trend over less than this is not worth extending to ten minutes: it is taken as it is, and only the bytes count.
LONG_SECONDS = 120.0
#: Files that may be open beside the sockets, more than at the start: the database's pool, a request of ours.
SPARE_FILES = 12
#: Heartbeats until a peer that has vanished is known to have.
HEARTBEATS = 3


@dataclass(frozen=True)
class Plan:
    """What is asked for. Times in seconds."""

    connections: int = 10_000
    seconds: float = 600.0
    churn: float = 20.0
    seed: int = 0
    reach_seconds: float = 20.0
    heartbeat_seconds: int = 25
    sample_seconds: float = SAMPLE_SECONDS


@dataclass(frozen=True)
class Sample:
    """The worker at one moment. ``leaving``: sockets we have left and the server has not ended yet."""

    at: float
    live: int
    opening: int
    leaving: int
    gauge: int
    files: int
    pss: int
    rss: int
    cpu: float

    def __str__(self) -> str:
        return (
            f"{self.at:6.0f} s  {self.live:6} live, {self.opening:4} coming, {self.leaving:4} going, gauge {self.gauge:6}, "
            f"{self.files:6} files, PSS {self.pss / 2**20:7.1f} MiB, RSS {self.rss / 2**20:7.1f} MiB, {self.cpu:4.0%} CPU"
        )


@dataclass
class Report:
    """A whole run."""

    plan: Plan
    samples: list[Sample] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    opened_seconds: float = 0.0
    club: int = 0
    club_seconds: list[float] = field(default_factory=list)
    acked: int = 0
    received: int = 0
    reopened: int = 0
    files_before: int = 0
    files_after: int = 0
    growth: float = 0.0
    bytes_per_socket: float = 0.0

    def __str__(self) -> str:
        took = sorted(self.club_seconds) or [0.0]
        lines = [
            f"{self.plan.connections} sockets opened in {self.opened_seconds:.0f} s, {self.reopened} more by churn, "
            f"{self.bytes_per_socket / 1024:.1f} KiB of the worker for each",
            f"{self.acked} messages acknowledged, {self.received} deliveries; {self.club} to the club, which reached the "
            f"last of all after {statistics.median(took):.2f} s (median), {took[-1]:.2f} s (worst)",
            f"memory once warm: {self.growth / 2**20:+.2f} MiB in ten minutes (in a short run: in all)",
            f"open files: {self.files_before} before, {self.files_after} when all had left",
        ]
        return "\n".join(
            [*lines, *self.problems[:25], "clean" if not self.problems else f"{len(self.problems)} problems"]
        )


def trend(points: Sequence[tuple[float, float]]) -> float:
    """Return the slope of the least-squares line through (x, y) points; 0 for fewer than two."""
    if len({x for x, _ in points}) < 2:
        return 0.0
    return statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope


def judge_memory(samples: Sequence[Sample]) -> tuple[float, list[str]]:
    """Return (bytes grown in ten minutes, what is wrong with it), from the last two thirds of the samples."""
    warm = samples[len(samples) // 3 :]
    if len(warm) < 2:
        return 0.0, []
    window = warm[-1].at - warm[0].at
    is_long = window >= LONG_SECONDS
    growth = trend([(sample.at, sample.pss) for sample in warm]) * (600.0 if is_long else window)
    allowed = min(MAX_GROWTH_BYTES, MAX_GROWTH * warm[0].pss) if is_long else MAX_GROWTH_BYTES
    if growth < allowed:
        return growth, []
    return growth, [f"memory grows by {growth / 2**20:.1f} MiB, and {allowed / 2**20:.1f} MiB would be noise"]


@contextmanager
def site(plan: Plan) -> Iterator[tuple[ChatServer, Postgres, RedisServer]]:
    """Start PostgreSQL, Redis and the application with one worker; end them all."""
    workshop = Workshop("hhc-soak-")
    postgres, redis = Postgres(workshop), RedisServer(workshop)
    server: ChatServer | None = None
    try:
        postgres.start()
        redis.start()
        env = {
            "MAX_CONNECTIONS_PER_WORKER": str(plan.connections + SPARE),
            "HEARTBEAT_SECONDS": str(plan.heartbeat_seconds),
        }
        url = postgres.create_database(postgres.migrated_template())
        keys = Keys(workshop.directory("keys"), workshop.account)
        server = ChatServer(workshop, keys, url, redis.env, workers=1, env=env)
        server.start()
        server.wait_all_workers()
        yield server, postgres, redis
    finally:
        for daemon in (server, redis, postgres):
            if daemon is not None:
                daemon.destroy()
        workshop.close()


class _Soak:
    def __init__(self, plan: Plan, server: ChatServer, ports: dict[int, str], say: Callable[[str], object]) -> None:
        self.plan = plan
        self.server = server
        self.ports = ports
        self.say = say
        self.dice = random.Random(plan.seed)  # noqa: S311  # chance, not secrets
        self.report = Report(plan)
        (self.worker,) = server.worker_pids()
        self.started = time.monotonic()
        self.cpu = (self.started, cpu_seconds(self.worker))
        self.club_sent: dict[str, float] = {}

    def run(self) -> Report:
        """Run the whole plan."""
        masses = make_masses(self.server, self.plan.connections, room_size=ROOM_SIZE)
        address = ("127.0.0.1", self.server.port)
        self._warm_up(masses)
        self.report.files_before = open_files(self.worker)
        self.say(f"open files at the start: {self._files()}")
        empty = pss_bytes(self.worker)
        with Crowd(address, self.server.origin, seed=self.plan.seed) as crowd:
            self.started = time.monotonic()
            for person, token in zip(masses.people, masses.tokens, strict=True):
                crowd.join(person.id, token)
            crowd.wait_live(60 + self.plan.connections / 10)
            self.report.opened_seconds = time.monotonic() - self.started
            self.say(f"all connected after {self.report.opened_seconds:.0f} s")
            self.report.bytes_per_socket = (pss_bytes(self.worker) - empty) / self.plan.connections
            try:
                self._go_on(crowd, masses)
                self._settle(crowd, masses)
                self._all_leave(crowd)
            except AssertionError as error:  # what was not within its time; the figures so far are worth having
                self.report.problems.append(str(error))
            self.report.problems += crowd.problems
            self.report.acked = len(crowd.acks)
            self.report.received = sum(member.received for member in crowd.members)
        if (stored := self.server.people.count_messages()) != self.report.acked:
            self.report.problems.append(f"{stored} messages are stored, {self.report.acked} were acknowledged")
        self.report.growth, problems = judge_memory(self.report.samples)
        self.report.problems += problems
        if "Traceback (most recent call last)" in self.server.logs():
            self.report.problems.append("there is a traceback in the log of the server")
        return self.report

    def _files(self) -> str:
        """Say what the worker's open files are."""
        found: Counter[str] = Counter()
        for port, count in peer_ports(self.worker).items():
            found["other" if port is None else self.ports.get(port, "clients")] += count
        return ", ".join(f"{count} {what}" for what, count in found.most_common())

    def _warm_up(self, masses: Masses) -> None:
        """Let the worker open what it keeps: its connections to the database, its modules."""
        few = min(50, self.plan.connections)
        with Crowd(("127.0.0.1", self.server.port), self.server.origin) as crowd:
            for person, token in zip(masses.people[:few], masses.tokens[:few], strict=True):
                crowd.join(person.id, token)
            crowd.wait_live(60)
            self._all_leave(crowd)

    def _sample(self, crowd: Crowd) -> Sample:
        now, used = time.monotonic(), cpu_seconds(self.worker)
        before, self.cpu = self.cpu, (now, used)
        made = Sample(
            at=round(now - self.started, 1),
            live=crowd.count(),
            opening=len(crowd.members) - crowd.count(),
            leaving=len(crowd.ghosts),
            gauge=int(self.server.metric("chat_websocket_connections_active")),
            files=open_files(self.worker),
            pss=pss_bytes(self.worker),
            rss=rss_bytes(self.worker),
            cpu=(used - before[1]) / max(0.001, now - before[0]),
        )
        self.report.samples.append(made)
        self.say(str(made))
        return made

    def _go_on(self, crowd: Crowd, masses: Masses) -> None:
        """Talk, come and go, and look, until the time is over."""
        lively = set(self.dice.sample(masses.rooms, min(LIVELY_ROOMS, len(masses.rooms))))
        talkers = [member for member in crowd.members if masses.room_of(member.number) in lively]
        begun = now = time.monotonic()
        due = {"club": now, "room": now, "churn": now, "sample": now}
        pauses = {
            "club": CLUB_SECONDS,
            "room": ROOM_SECONDS,
            "churn": 1 / self.plan.churn if self.plan.churn else 1e9,
            "sample": self.plan.sample_seconds,
        }
        while now < begun + self.plan.seconds:
            for what, at in due.items():
                if now < at:
                    continue
                # a late one is not made up for: a busy machine would only get busier
                due[what] = max(at + pauses[what], now)
                if what == "club":
                    self._to_the_club(crowd, masses)
                elif what == "room":
                    member = self.dice.choice(talkers)
                    crowd.send(member, masses.room_of(member.number), "z" * self.dice.randrange(1, 300))
                elif what == "churn":
                    self._come_and_go(crowd)
                else:
                    self._sample(crowd)
            self._check_reached(crowd, masses.club)
            time.sleep(max(0.0, min(due.values()) - time.monotonic()))
            now = time.monotonic()

    def _to_the_club(self, crowd: Crowd, masses: Masses) -> None:
        member = self.dice.choice(
            [m for m in self.dice.sample(crowd.members, 20) if m.state == "live"] or crowd.members
        )
        self.club_sent[crowd.send(member, masses.club, "to everybody")] = time.monotonic()
        self.report.club += 1

    def _come_and_go(self, crowd: Crowd) -> None:
        member = self.dice.choice(crowd.members)
        if member.state == "live":
            crowd.leave(member, self.dice.choice(HOWS), back_after=self.dice.uniform(0, 2))
            self.report.reopened += 1

    def _check_reached(self, crowd: Crowd, club: int, *, wait: bool = False) -> None:
        """See that every message to the club reached every live member in time."""
        now = time.monotonic()
        for client_id, at in tuple(self.club_sent.items()):
            if now < at + self.plan.reach_seconds and not wait:
                return
            del self.club_sent[client_id]
            place = crowd.acks.get(client_id)
            if place is None:
                self.report.problems.append(f"a message to the club was not acknowledged in {now - at:.1f} s")
                continue
            missing = [m.number for m in crowd.members if m.state == "live" and m.cursors.get(club, 0) < place[1]]
            if missing:
                self.report.problems.append(
                    f"seq {place[1]} of the club did not reach {len(missing)} in {now - at:.1f} s: {missing[:10]}"
                )
            if place in crowd.last_heard:
                self.report.club_seconds.append(crowd.last_heard[place] - at)

    def _settle(self, crowd: Crowd, masses: Masses) -> None:
        """Nobody comes or goes any more: what the server believes must become exactly true."""
        patience = self.plan.reach_seconds + HEARTBEATS * self.plan.heartbeat_seconds
        crowd.wait_live(60)
        crowd.wait(lambda: not any(m.pending for m in crowd.members), "all sends are answered", 60)
        crowd.wait_seq(masses.club, self.server.people.last_seq(masses.club), 60)
        self._check_reached(crowd, masses.club, wait=True)
        crowd.wait(lambda: not crowd.ghosts, "the server has ended what we had left", patience)
        try:
            wait_until(
                lambda: self.server.metric("chat_websocket_connections_active") == self.plan.connections,
                patience,
                "the gauge is the number of sockets",
            )
        except AssertionError as error:
            self.report.problems.append(str(error))
        last = self._sample(crowd)
        if (spare := last.files - last.live - self.report.files_before) > SPARE_FILES:
            self.report.problems.append(
                f"{spare} files are open that are neither sockets nor were there before: {self._files()}"
            )

    def _all_leave(self, crowd: Crowd) -> None:
        for member in crowd.members:
            crowd.leave(member, "clean")
        crowd.wait(lambda: not crowd.count("live") and not crowd.ghosts, "everybody has left", 120)
        try:
            wait_until(lambda: self.server.metric("chat_websocket_connections_active") == 0, 60, "the gauge is 0")
            if self.report.files_before:
                wait_until(
                    lambda: open_files(self.worker) <= self.report.files_before + SPARE_FILES,
                    30,
                    "the files are closed",
                )
        except AssertionError as error:
            self.report.problems.append(f"after all had left: {error}: {self._files()}")
        self.report.files_after = open_files(self.worker)
        if self.report.files_before:
            self.say(f"open files when all had left: {self._files()}")


def run(plan: Plan, say: Callable[[str], object] = print) -> Report:
    """Run a plan on daemons of its own."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = plan.connections + SPARE + 200
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise SystemExit(f"{plan.connections} connections need {needed} open files in one process; here are {hard}.")
    if soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # inherited by the daemons
    with site(plan) as (server, postgres, redis):
        return _Soak(plan, server, {postgres.port: "PostgreSQL", redis.port: "Redis"}, say).run()


def main(argv: Sequence[str] | None = None) -> int:
    """Run the plan the command line asks for; the status says whether it was clean."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__, allow_abbrev=False)
    parser.add_argument("--connections", type=int, default=10_000, help="sockets (default: %(default)s)")
    parser.add_argument("--minutes", type=float, default=10, help="after all have connected (default: %(default)s)")
    parser.add_argument(
        "--churn", type=float, default=20, help="sockets that go and come each second (default: %(default)s)"
    )
    parser.add_argument("--seed", type=int, default=None, help="of everything random (default: a fresh one)")
    parser.add_argument(
        "--reach", type=float, default=20, help="seconds for a message to reach all (default: %(default)s)"
    )
    args = parser.parse_args(argv)
    seed = random.SystemRandom().randrange(10**6) if args.seed is None else args.seed
    plan = Plan(args.connections, args.minutes * 60, args.churn, seed, args.reach)
    print(f"seed {seed}", flush=True)

    def say(line: str) -> None:
        print(line, flush=True)

    report = run(plan, say)
    BUILD.mkdir(exist_ok=True)
    (BUILD / "soak.json").write_text(json.dumps(asdict(report), indent=1) + "\n")
    print(report)
    return 1 if report.problems else 0


if __name__ == "__main__":
    sys.exit(main())
