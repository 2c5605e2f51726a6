"""The client of docs/examples, run as its reader would run it: what docs/protocol.md says is enough to write one."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.chat import ChatServer
from harness.people import Person
from harness.process import wait_until
from harness.rooms import Room, make_room

CLIENT = Path(__file__).parents[3] / "docs" / "examples" / "client.py"


class Running:
    """One client in a process of its own."""

    def __init__(self, room: Room, person: Person, directory: Path, password: str | None = None) -> None:
        self.output, self.errors = directory / f"{person.username}.out", directory / f"{person.username}.err"
        with self.output.open("w") as out, self.errors.open("w") as err:
            self.process = subprocess.Popen(
                [sys.executable, str(CLIENT), room.server.base_url, person.username, str(room.id)],
                stdin=subprocess.PIPE,
                stdout=out,
                stderr=err,
                text=True,
                env={**os.environ, "PASSWORD": password or person.password, "no_proxy": "*"},
            )

    def say(self, *lines: str) -> None:
        """Type lines."""
        assert self.process.stdin is not None
        self.process.stdin.write("".join(f"{line}\n" for line in lines))
        self.process.stdin.flush()

    def end(self) -> int:
        """End its input, and wait for it."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(30)

    def heard(self) -> list[str]:
        """What it printed."""
        return self.output.read_text().splitlines()


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start clients that end with the test."""
    started: list[Running] = []

    def start(room: Room, person: Person, password: str | None = None) -> Running:
        started.append(Running(room, person, tmp_path, password))
        return started[-1]

    yield start
    for running in started:
        running.process.kill()
        running.process.wait()
        if running.process.stdin is not None:
            with contextlib.suppress(BrokenPipeError):
                running.process.stdin.close()


def test_two_of_them_talk_and_a_restart_between_loses_and_doubles_nothing(
    own_site: Callable[..., ChatServer], run: Callable[..., Running]
) -> None:
    room = make_room(own_site())
    alice, bob = run(room, room.alice), run(room, room.bob)
    alice.say("here")
    bob.say("here too")
    wait_until(lambda: bool(alice.heard()) and bool(bob.heard()), 30, "both are there")  # who is new hears from then on
    joined = len(bob.heard())
    alice.say(*(f"before {number}" for number in range(100)))
    bob.process.send_signal(signal.SIGSTOP)  # asleep, as a phone in a pocket
    room.server.restart()
    alice.say(*(f"after {number}" for number in range(100)))
    wait_until(lambda: "after 99" in alice.heard()[-1], 40, "alice heard herself")
    bob.process.send_signal(signal.SIGCONT)
    wait_until(lambda: bob.heard()[-1:] == alice.heard()[-1:], 40, "everything")
    assert alice.end() == 0
    stored = [f"{room.id}#{m.seq} {m.sender_id}: {m.body}" for m in room.server.people.history(room.id)]
    assert len(stored) == 202
    assert bob.heard() == stored[-len(bob.heard()) :] and len(bob.heard()) >= 200 + joined
    assert sorted(line.split(": ", 1)[1] for line in stored) == sorted(
        ["here", "here too", *(f"{when} {number}" for when in ("before", "after") for number in range(100))]
    )
    assert alice.errors.read_text() == bob.errors.read_text() == ""


def test_what_is_refused_is_said_and_the_rest_goes_on(room: Room, run: Callable[..., Running]) -> None:
    mallory, alice = run(room, room.mallory), run(room, room.alice)
    mallory.say("let me in")
    assert mallory.end() == 0
    assert mallory.errors.read_text() == "not sent, not_a_member: let me in\n" and mallory.heard() == []
    alice.say("x" * 20_000, "fits")
    assert alice.end() == 0
    assert alice.errors.read_text().startswith("not sent, validation_failed: xxx")
    assert [m.body for m in room.server.people.history(room.id)] == ["fits"]


def test_a_wrong_password_is_one_sentence(room: Room, run: Callable[..., Running]) -> None:
    stranger = run(room, room.alice, "not the password")
    assert stranger.process.wait(30) == 1
    assert stranger.errors.read_text() == "Wrong user name or password.\n"
