"""Two people who chat as the protocol asks: they keep what is not acknowledged, reconnect, resume and send it again.

Owns the client's half of the promises (docs/protocol.md) and records what was met; the tests judge it.
"""

from __future__ import annotations

import asyncio
import json
import random
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from site_under_test import Site
from websockets.asyncio.client import ClientConnection, connect  # not .sync: see library/chat_probe.py
from websockets.exceptions import ConnectionClosed, WebSocketException

RESEND_AFTER_SECONDS = 4.0


@dataclass
class Record:
    """What one person sent and met."""

    submitted: dict[str, str] = field(default_factory=dict)  # client_id -> body
    acked: dict[str, int] = field(default_factory=dict)  # client_id -> seq
    acked_at: list[tuple[float, str]] = field(default_factory=list)
    received: list[tuple[int, str, str]] = field(default_factory=list)  # (seq, client_id, body) in order of arrival
    connects: int = 0
    refused: list[dict[str, Any]] = field(default_factory=list)  # errors that no retry mends
    closes: list[int] = field(default_factory=list)


class Person(threading.Thread):
    """Someone with one socket at a time.

    Args:
        site: where.
        username, password: who.
        conversation: the one conversation this person follows and writes to.
        rng: makes the waits between connects, so that a seed repeats a run.
    """

    def __init__(self, site: Site, username: str, password: str, conversation: int, rng: random.Random) -> None:
        super().__init__(name=username, daemon=True)
        self.site, self.username, self.password, self.conversation, self.rng = (
            site,
            username,
            password,
            conversation,
            rng,
        )
        self.record = Record()
        self.cookie = ""
        self.cursor = 0
        self.ready = threading.Event()
        self._sent_at: dict[str, float] = {}
        self._leaving = threading.Event()

    # --- what a test does with a person ---
    def say(self, body: str) -> str:
        """Give a message to send; return its client_id. It is sent until it is acknowledged."""
        client_id = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        self.record.submitted[client_id] = body
        return client_id

    def unacknowledged(self) -> set[str]:
        """Return what has been given but not acknowledged."""
        return set(self.record.submitted) - set(self.record.acked)

    def leave(self) -> None:
        """Stop for good."""
        self._leaving.set()
        self.join(10)

    # --- the client ---
    def run(self) -> None:
        asyncio.run(self._live())

    async def _live(self) -> None:
        while not self._leaving.is_set():
            try:
                self._log_in_if_needed()
                async with self._open() as connection:
                    await self._converse(connection)
            except ConnectionClosed as end:
                code = end.rcvd.code if end.rcvd else 1006
                self.record.closes.append(code)
                if code == 4401:
                    self.cookie = ""
            except (OSError, WebSocketException, ValueError):
                self.record.closes.append(-1)  # refused or broken before it was open: the site is away for the moment
            self.ready.clear()
            await asyncio.sleep(0.1 + self.rng.random() * 0.4)

    def _log_in_if_needed(self) -> None:
        if self.cookie:
            return
        answer = self.site.ask(
            "POST", "/api/auth/login", body={"username": self.username, "password": self.password}, timeout=15
        )
        if answer.status != 200:
            raise ValueError(f"logging in was answered {answer.status}")
        self.cookie = "; ".join(value.split(";", 1)[0] for name, value in answer.headers if name == "set-cookie")

    def _open(self) -> connect:
        return connect(
            self.site.url.replace("https://", "wss://", 1) + "/ws",
            ssl=self.site.trust,
            additional_headers={"Cookie": self.cookie, "Origin": self.site.url},
            open_timeout=30,
            close_timeout=1,
            ping_interval=2,
            ping_timeout=10,
            proxy=None,
        )

    async def _converse(self, connection: ClientConnection) -> None:
        await self._take(connection, 30)
        await connection.send(json.dumps({"type": "resume", "cursors": {str(self.conversation): self.cursor}}))
        self._sent_at.clear()  # nothing of the last connection will be answered on this one
        self.record.connects += 1
        while not self._leaving.is_set():
            await self._send_what_is_due(connection)
            try:
                await self._take(connection, 0.02)
            except TimeoutError:
                continue

    async def _send_what_is_due(self, connection: ClientConnection) -> None:
        if not self.ready.is_set():
            return
        now = time.monotonic()
        for client_id in [c for c in list(self.record.submitted) if c not in self.record.acked]:
            if now - self._sent_at.get(client_id, float("-inf")) < RESEND_AFTER_SECONDS:
                continue
            self._sent_at[client_id] = now
            body = self.record.submitted[client_id]
            frame = {"type": "send", "client_id": client_id, "conversation_id": self.conversation, "body": body}
            await connection.send(json.dumps(frame))

    async def _take(self, connection: ClientConnection, timeout: float) -> None:
        frame = json.loads(await asyncio.wait_for(connection.recv(), timeout))
        kind = frame["type"]
        if kind == "message" and frame["conversation_id"] == self.conversation:
            self.record.received.append((frame["seq"], frame["client_id"], frame["body"]))
            self.cursor = max(self.cursor, frame["seq"])
        elif kind == "ack":
            self.record.acked.setdefault(frame["client_id"], frame["seq"])
            self.record.acked_at.append((time.monotonic(), frame["client_id"]))
        elif kind == "resumed":
            self.ready.set()
        elif kind == "error" and not frame["retryable"] and not frame["code"].startswith(("token_", "not_auth")):
            self.record.refused.append(frame)


class Talk:
    """Two people talking at a steady rate in the background.

    Args:
        each_per_second: messages of each person.
    """

    def __init__(self, site: Site, probe: dict[str, Any], rng: random.Random, each_per_second: float = 10) -> None:
        self.site, self.conversation = site, int(probe["conversation_id"])
        self.people = [
            Person(site, user["username"], user["password"], self.conversation, random.Random(rng.getrandbits(64)))  # noqa: S311 - chance for tests
            for user in probe["users"][:2]
        ]
        self._pause = 1 / each_per_second
        self._quiet = threading.Event()
        self._talker = threading.Thread(target=self._talk, name="talker", daemon=True)

    def __enter__(self) -> Talk:
        for person in self.people:
            person.start()
        for person in self.people:
            assert person.ready.wait(30), f"{person.username} could not log in and resume"
        self._talker.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._quiet.set()
        self._talker.join(10)
        for person in self.people:
            person.leave()

    def _talk(self) -> None:
        number = 0
        while not self._quiet.wait(self._pause):
            number += 1
            for person in self.people:
                person.say(f"{person.username} {number}")

    def count(self) -> int:
        """Return how many messages are acknowledged by now."""
        return sum(len(person.record.acked) for person in self.people)

    def seconds_until_both_are_heard(self, since: float, timeout: float) -> float:
        """Return after how many seconds each person had something acknowledged that was said after ``since``."""
        marks = {person: person.say(f"{person.username} after") for person in self.people}
        wait_for(
            lambda: all(mark in p.record.acked for p, mark in marks.items()), timeout, "the site did not come back"
        )
        return time.monotonic() - since

    def finish(self, timeout: float = 60) -> list[dict[str, Any]]:
        """Fall silent, wait until everything is acknowledged and received, and return the history."""
        self._quiet.set()
        self._talker.join(10)
        wait_for(lambda: not any(p.unacknowledged() for p in self.people), timeout, "something was never acknowledged")
        last = max(seq for person in self.people for seq in person.record.acked.values())
        wait_for(
            lambda: all(p.cursor >= last for p in self.people), timeout, "something acknowledged was never received"
        )
        return self.history()

    def history(self) -> list[dict[str, Any]]:
        """Return the whole conversation as HTTP pages tell it."""
        got: list[dict[str, Any]] = []
        while True:
            after = got[-1]["seq"] if got else 0
            path = f"/api/conversations/{self.conversation}/messages?after_seq={after}&limit=200"
            answer = self.site.ask("GET", path, headers={"Cookie": self.people[0].cookie})
            assert answer.status == 200, answer.body
            page = answer.json()
            page = page["messages"] if isinstance(page, dict) else page
            if not page:
                return got
            got += page

    def judge(self, history: list[dict[str, Any]]) -> None:
        """Assert every promise of the protocol on what both people met."""
        stored = [(row["seq"], row["client_id"], row["body"]) for row in history]
        by_client_id = {client_id: seq for seq, client_id, _ in stored}
        assert [seq for seq, _, _ in stored] == list(range(1, len(stored) + 1)), "the history has gaps"
        assert len(by_client_id) == len(stored), "a retried message was stored twice"
        submitted = {c: b for person in self.people for c, b in person.record.submitted.items()}
        assert {c: b for _, c, b in stored} == submitted, "the history is not what was sent"
        for person in self.people:
            record = person.record
            assert not record.refused, record.refused
            lost = {c: seq for c, seq in record.acked.items() if by_client_id.get(c) != seq}
            assert not lost, f"acknowledged, but not so in the history: {lost}"
            assert record.received == stored, f"{person.username} did not receive the history exactly once and in order"


class Prober(threading.Thread):
    """Somebody who opens the site again and again, each time on a new connection, and notes every failure."""

    def __init__(
        self, site: Site, paths: tuple[str, ...] = ("/", "/health", "/api/me", "/static/js/app.js"), pause: float = 0.1
    ) -> None:
        super().__init__(name="prober", daemon=True)
        self.site, self.paths, self.pause = site, paths, pause
        self.asked = 0
        self.slowest = 0.0
        self.failures: list[str] = []
        self._enough = threading.Event()

    def __enter__(self) -> Prober:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._enough.set()
        self.join(40)

    def run(self) -> None:
        while not self._enough.wait(self.pause):
            path = self.paths[self.asked % len(self.paths)]
            begin = time.monotonic()
            try:
                status = self.site.ask("GET", path, timeout=40).status
                if status >= 500 or status == 429:
                    self.failures.append(f"{path} was answered {status} after {time.monotonic() - begin:.1f} s")
            except OSError as problem:
                self.failures.append(f"{path} failed after {time.monotonic() - begin:.1f} s: {problem}")
            self.slowest = max(self.slowest, time.monotonic() - begin)
            self.asked += 1


def wait_for(condition: Callable[[], bool], timeout: float, otherwise: str) -> None:
    """Wait until something holds; fail with a sentence when it does not in time."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"{otherwise} within {timeout:.0f} s"
        time.sleep(0.05)
