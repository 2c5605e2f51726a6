"""``hockey-hub-chat serve`` with nothing else installed: starts in seconds, keeps everything, and refuses in one sentence."""

from __future__ import annotations

import os
import re
import signal
import socket
import sqlite3
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.checker import check
from harness.client import ChatClient
from harness.embedded import Embedded
from harness.people import People, Person
from harness.process import Workshop, alive, children_of, free_port
from harness.raw import RawSocket


@pytest.fixture
def embedded(workshop: Workshop) -> Iterator[Callable[..., Embedded]]:
    """Make embedded servers: ``embedded({"PORT": "abc"})``; nothing is started yet."""
    made: list[Embedded] = []

    def make(env: Any = None) -> Embedded:
        server = Embedded(workshop, env)
        made.append(server)
        return server

    yield make
    logs = [server.logs() for server in made]
    for server in made:
        server.destroy()
    for text in logs:
        assert "Traceback" not in text, text[-5000:]


def demo_users(text: str) -> list[tuple[str, str]]:
    """Return the user names and passwords that were printed."""
    return re.findall(r"^\s*(\S+)\s+password:?\s+(\S+)\s*$", text, re.MULTILINE | re.IGNORECASE)


def the_two(server: Embedded) -> list[Person]:
    """Return the people whose passwords the first start printed."""
    users = demo_users(server.logs())
    assert len(users) == 2, f"two people with passwords should have been printed:\n{server.logs()}"
    people = People(server.database_url)
    return [Person(people.id_of(name), name, password) for name, password in users]


def test_two_people_chat_and_a_restart_keeps_everything(embedded: Callable[..., Embedded]) -> None:
    server = embedded()
    started = time.monotonic()
    server.start()
    print(f"first start to ready: {time.monotonic() - started:.1f} s")
    assert server.origin in server.logs(), "the address is not printed"
    one, two = the_two(server)
    first_api = server.api()
    first_api.login(one.username, one.password).expect(200)
    room = (
        first_api.post("/api/conversations", {"kind": "direct", "member_ids": [two.id]}).expect(200, 201).json()["id"]
    )
    with ChatClient([server], one) as alice, ChatClient([server], two) as bob:
        for number in range(20):
            (alice, bob)[number % 2].send(room, f"message {number}")
        for client in (alice, bob):
            client.wait_acked()
            client.wait_seq(room, 20)
        said = len(server.logs())
        server.stop(timeout=15)
        server.start()
        assert one.password not in server.logs()[said:], "passwords are printed once"
        alice.send(room, "after the restart")
        for client in (alice, bob):
            client.wait_seq(room, 21)
        alice.wait_acked()
    history = People(server.database_url).history(room)
    check(history, [alice, bob]).assert_clean()
    assert len(history) == 21
    page = first_api.get(f"/api/conversations/{room}/messages?after_seq=0&limit=200").expect(200).json()
    assert [message["seq"] for message in page["messages"]] == list(range(1, 22)), "the session outlives the restart"


def test_kill9_of_everything_loses_nothing_acknowledged(embedded: Callable[..., Embedded]) -> None:
    server = embedded()
    server.start()
    one, two = the_two(server)
    api = server.api()
    api.login(one.username, one.password).expect(200)
    room = api.post("/api/conversations", {"kind": "direct", "member_ids": [two.id]}).expect(200, 201).json()["id"]
    with ChatClient([server], one) as alice, ChatClient([server], two) as bob:
        for turn in range(2):
            for number in range(40):
                alice.send(room, f"{turn}:{number}")
            alice.wait_acks(len(alice.acks) + 5)
            for pid in (server.pid, *children_of(server.pid)):
                os.kill(pid, signal.SIGKILL)
            server._reap(10)
            server.start()
        for client in (alice, bob):
            client.wait_acked()
            client.wait_seq(room, 80)
    check(People(server.database_url).history(room), [alice, bob]).assert_clean()


def test_nobody_else_can_read_what_it_keeps(embedded: Callable[..., Embedded]) -> None:
    server = embedded()
    server.start()
    with sqlite3.connect(server.database_url.removeprefix("sqlite:///")) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert database.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    database.close()
    open_to_others = [
        f"{path} {stat.filemode(path.stat().st_mode)}"
        for path in (server.data, *server.data.rglob("*"))
        if path.stat().st_mode & 0o077 and path.is_file() and (server.data.stat().st_mode & 0o077)
    ]
    assert not open_to_others, open_to_others
    keys = [path for path in server.data.rglob("*.pem") if "private" in path.name]
    assert keys and all(path.stat().st_mode & 0o077 == 0 for path in keys)


def test_it_listens_on_the_loopback_alone(embedded: Callable[..., Embedded]) -> None:
    server = embedded()
    server.start()
    pids = (server.pid, *children_of(server.pid))
    inodes = set()
    for pid in pids:
        for link in Path(f"/proc/{pid}/fd").iterdir():
            target = os.readlink(link)
            if target.startswith("socket:["):
                inodes.add(target[8:-1])
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{server.pid}/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[9] in inodes
    ]
    assert listening and all(entry.startswith("0100007F:") for entry in listening), listening


def test_sigterm_ends_it_quickly_and_leaves_no_process(embedded: Callable[..., Embedded]) -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = embedded()
        server.start()
        one = the_two(server)[0]
        api = server.api()
        api.login(one.username, one.password).expect(200)
        children = children_of(server.pid)
        with RawSocket(server, api) as ws:
            ws.resume()
            started = time.monotonic()
            server.stop(number)
            assert time.monotonic() - started < 6
            assert ws.close_code() in ((1012,) if number == signal.SIGTERM else (1012, None)), "SIGINT may be abrupt"
        assert not any(map(alive, children)), "a child is left"


# --- refusals: one sentence, an exit status, nothing half made -----------------------------------------------------


def assert_one_sentence(code: int, said: str, *words: str) -> None:
    """Assert that a start was refused the way a person can use."""
    assert code not in (0, -9), f"exit status {code}:\n{said}"
    lines = [line for line in said.splitlines() if line.strip()]
    assert 1 <= len(lines) <= 1 + len(words), f"more than said in a sentence:\n{said}"
    assert "Traceback" not in said and 'File "' not in said, said
    for word in words:
        assert word in said, f"{word!r} is not named:\n{said}"


def test_a_taken_port_is_said_and_nothing_is_made(embedded: Callable[..., Embedded]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        server = embedded({"PORT": port})
        assert_one_sentence(*server.refuses(), port)
        assert server.files() == []
        metrics = embedded({"METRICS_PORT": port})
        assert_one_sentence(*metrics.refuses(), port)
        assert metrics.files() == []


def test_a_second_start_on_the_same_data_changes_nothing(embedded: Callable[..., Embedded]) -> None:
    server = embedded()
    server.start()
    before = [(path, (server.directory / path).stat().st_mtime_ns) for path in server.files() if path.endswith(".pem")]
    second = embedded({"DATA_DIR": str(server.data), "PORT": str(server.port), "HOME": str(server.directory)})
    assert_one_sentence(*second.refuses(), str(server.port))
    after = [(path, (server.directory / path).stat().st_mtime_ns) for path in server.files() if path.endswith(".pem")]
    assert before == after
    assert server.is_ready()


def test_a_place_it_may_not_write_is_said(embedded: Callable[..., Embedded], workshop: Workshop) -> None:
    closed = workshop.directory("closed")
    occupied = closed / "a-file"
    occupied.write_text("not a directory")
    places = [occupied, occupied / "below", Path("/proc/nothing-can-be-made-here")]
    if os.geteuid() != 0 or workshop.account is not None:
        closed.chmod(0o500)
        places.append(closed / "data")
    for place in places:
        server = embedded({"DATA_DIR": str(place)})
        assert_one_sentence(*server.refuses(), str(place))
        assert server.files() == []
    assert occupied.read_text() == "not a directory"
    closed.chmod(0o700)


def test_all_bad_settings_are_said_at_once(embedded: Callable[..., Embedded]) -> None:
    bad = {
        "PORT": "abc",
        "LOG_LEVEL": "loud",
        "MESSAGE_RATE_LIMIT": "-5",
        "DATABASE_URL": "mysql://x",
        "HEARTBEAT_SECONDS": "0",
    }
    server = embedded(bad)
    code, said = server.refuses()
    assert_one_sentence(code, said, *bad)
    assert server.files() == []


def test_production_without_its_settings_does_not_start(embedded: Callable[..., Embedded]) -> None:
    server = embedded({"APP_ENV": "production"})
    code, said = server.refuses()
    assert_one_sentence(code, said, "DATABASE_URL", "REDIS_URL", "PUBLIC_URL", "JWT_PRIVATE_KEY_PATH")
    assert server.files() == []


def test_a_secret_in_a_bad_setting_is_not_repeated(embedded: Callable[..., Embedded]) -> None:
    server = embedded({"DATABASE_URL": "mysql://chat:hunter2secret@db/x", "REDIS_URL": "http://x:hunter2secret@r"})
    code, said = server.refuses()
    assert code != 0 and "hunter2secret" not in said, said


def test_a_missing_database_is_one_sentence(embedded: Callable[..., Embedded]) -> None:
    port = free_port()
    server = embedded({"DATABASE_URL": f"postgresql://chat:hunter2secret@127.0.0.1:{port}/none"})
    code, said = server.refuses(timeout=60)
    assert_one_sentence(code, said, "127.0.0.1")
    assert "hunter2secret" not in said
