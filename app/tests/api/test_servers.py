"""The same API from real gunicorns: SQLite with the in-process bus, and PostgreSQL with Redis."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from harness.chat import ChatServer
from harness.process import Workshop
from harness.redis_server import RedisServer


@pytest.fixture(params=["sqlite", "postgresql"])
def server(request: pytest.FixtureRequest, chat_server: Callable[..., ChatServer], workshop: Workshop) -> ChatServer:
    """A running server."""
    if request.param == "postgresql":
        redis: RedisServer = request.getfixturevalue("redis_server")
        return chat_server(request.getfixturevalue("database_url"), redis.env)
    directory = workshop.directory("sqlite")
    template: Path = request.getfixturevalue("sqlite_template")
    for file in template.iterdir():
        shutil.copy(file, directory)
        if workshop.account is not None:
            shutil.chown(directory / file.name, *workshop.account)
    (database,) = directory.glob("*.sqlite3")
    return chat_server(f"sqlite:///{database}", workers=1, env={"APP_ENV": "development"})


def test_people_made_by_the_command_line_talk_over_http(server: ChatServer) -> None:
    ann, bob = server.add_user("ann"), server.add_user("bob", admin=True)
    listed = server.cli("user", "list", "--json")
    assert [one["username"] for one in json.loads(listed.stdout)] == ["ann", "bob"]
    apis = []
    for person in (ann, bob):
        api = server.api()
        api.login(person.username, person.password).expect(200)
        apis.append(api)
    room = apis[0].post("/api/conversations", {"kind": "direct", "member_ids": [bob.id]}).expect(201).json()["id"]
    for number in range(1, 31):
        sent = apis[number % 2].post(
            f"/api/conversations/{room}/messages", {"client_id": str(uuid4()), "body": f"message {number}"}
        )
        assert sent.expect(201).json()["seq"] == number
    paged: list[int] = []
    while True:
        after = paged[-1] if paged else 0
        page = apis[0].get(f"/api/conversations/{room}/messages?after_seq={after}&limit=7").expect(200).json()
        if not page["messages"]:
            break
        paged += [message["seq"] for message in page["messages"]]
    assert paged == list(range(1, 31))
    assert apis[1].get("/api/conversations").expect(200).json()["conversations"][0]["last_seq"] == 30
    assert server.cli("user", "disable", "ann").returncode == 0
    assert apis[0].get("/api/me").expect(401).error == "token_invalid"
    assert server.cli("health").returncode == 0
    assert server.cli("migrate", "--check").returncode == 0
    server.assert_quiet()


def test_each_request_is_one_line_with_its_id(server: ChatServer) -> None:
    api = server.api()
    answer = api.get("/api/me", headers={"X-Request-ID": "trace-me-0001"}).expect(401)
    assert answer.headers["X-Request-ID"] == "trace-me-0001"
    lines = [line for line in server.logs().splitlines() if "trace-me-0001" in line]
    assert len(lines) == 1
    logged = json.loads(lines[0])
    assert (logged["event"], logged["method"], logged["path"], logged["status"]) == ("request", "GET", "/api/me", 401)


def test_a_probe_comes_and_goes(server: ChatServer) -> None:
    begun = server.cli("probe", "begin")
    made = json.loads(begun.stdout)
    assert len(made["users"]) == 2 and begun.returncode == 0
    for user in made["users"]:
        api = server.api()
        api.login(user["username"], user["password"]).expect(200)
        api.get(f"/api/conversations/{made['conversation_id']}/messages").expect(200)
    assert json.loads(server.cli("probe", "end").stdout) == {"removed": 2}
    assert api.get("/api/me").status == 401


def test_old_sessions_are_pruned_while_people_are_logged_in(server: ChatServer) -> None:
    ann = server.add_user("ann")
    stays, goes, fresh = server.api(), server.api(), server.api()
    for api in (stays, goes, fresh):
        api.login(ann.username, ann.password).expect(200)
    for api in (goes, fresh):
        api.post("/api/auth/logout").expect(204)
    server.people.age_sessions(ann, days=31, only_ended=1)
    for said in ("Removed 1 log-in that ended over 30 days ago.", "Removed 0 log-ins that ended over 30 days ago."):
        done = server.cli("prune-sessions")
        assert (done.returncode, done.stdout.strip()) == (0, said)
    stays.get("/api/me").expect(200)
    stays.post("/api/auth/refresh").expect(204)
    assert server.people.count_sessions(ann) == 2
