"""Logging in, staying in, and getting out, over real workers (docs/protocol.md, "Logging in")."""

from __future__ import annotations

import re
import statistics
import time
import uuid
from collections.abc import Callable

import pytest

from harness import forge
from harness.chat import ChatServer
from harness.client import ChatClient
from harness.http import Api
from harness.people import PASSWORD
from harness.process import wait_until
from harness.raw import RawSocket, on_both_workers
from harness.rooms import Room, make_room


def test_cookies_carry_their_flags(own_site: Callable[..., ChatServer]) -> None:
    server = own_site({"COOKIE_SECURE": None}, workers=1)  # production's own default
    room = make_room(server)
    cookies = server.api().login(room.alice.username, PASSWORD).expect(200).cookies()
    assert set(cookies) == {"hhc_access", "hhc_refresh"}
    for cookie in cookies.values():
        assert cookie["httponly"] and cookie["secure"] and cookie["samesite"].lower() == "lax"
        assert cookie["domain"] == ""
    assert cookies["hhc_refresh"]["path"] == "/api/auth"
    assert cookies["hhc_access"]["path"] == "/"
    header, claims = forge.decode(cookies["hhc_access"].value)
    assert header["alg"] == "RS256"
    assert 0 < claims["exp"] - time.time() <= 600
    assert PASSWORD not in str(claims)


def test_log_in_answers_the_person_and_me_agrees(room: Room) -> None:
    api = room.server.api()
    answer = api.login(room.alice.username.upper(), PASSWORD).expect(200)
    assert answer.json()["user"]["id"] == room.alice.id
    assert "password" not in answer.body.decode().lower()
    assert api.get("/api/me").expect(200).json()["username"] == room.alice.username
    bearer = room.server.api()
    token = {"Authorization": f"Bearer {api.cookies['hhc_access']}"}
    assert bearer.get("/api/me", headers=token).expect(200).json()["id"] == room.alice.id
    assert room.server.api().get("/api/me").expect(401).error == "not_authenticated"


def test_a_wrong_password_and_an_unknown_user_answer_alike(room: Room) -> None:
    answers = [
        room.server.api().login(name, word).expect(401).json()["error"]
        for name, word in ((room.alice.username, "wrong"), ("nobody-has-this-name", PASSWORD))
    ]
    for answer in answers:
        assert answer.pop("request_id")
    assert answers[0] == answers[1]
    assert answers[0]["code"] == "invalid_credentials"


def test_an_unknown_user_takes_as_long_as_a_known_one(own_site: Callable[..., ChatServer]) -> None:
    server = own_site(workers=1)
    person = server.add_user("realhash", "the password given")
    assert server.api().login(person.username, "the password given").status == 200

    def seconds(name: str) -> float:
        started = time.perf_counter()
        server.api().login(name, "wrong password").expect(401)
        return time.perf_counter() - started

    known, unknown = [], []
    for number in range(7):  # alternating, so that a noisy moment hits both
        known.append(seconds(person.username))
        unknown.append(seconds(f"unknown{number}"))
    ratio = statistics.median(unknown) / statistics.median(known)
    print(f"unknown / known = {ratio:.2f} ({statistics.median(known) * 1000:.0f} ms)")
    assert 0.5 < ratio < 2.0, f"one can tell who exists: unknown {unknown}, known {known}"


def test_refresh_rotates_and_the_new_pair_works(room: Room) -> None:
    api = room.login()
    first = dict(api.cookies)
    api.post("/api/auth/refresh").expect(200, 204)
    assert api.cookies["hhc_refresh"] != first["hhc_refresh"]
    api.get("/api/me").expect(200)
    api.post("/api/auth/refresh").expect(200, 204)


def test_a_stolen_refresh_token_ends_the_session_and_its_sockets(room: Room) -> None:
    api = room.login()
    thief = room.server.api()
    thief.cookies = dict(api.cookies)
    sockets = on_both_workers(room.server, api, 2)
    api.post("/api/auth/refresh").expect(200, 204)
    room.server.people.age_rotations(room.alice, 11)
    assert thief.post("/api/auth/refresh").status == 401
    assert [socket.close_code() for socket in sockets] == [4403] * 4
    assert api.post("/api/auth/refresh").status == 401, "the session still lives"
    wait_until(lambda: api.get("/api/me").status == 401, 5, "the access token is refused too")


def test_two_tabs_may_refresh_at_once_but_no_copy_lives_on(room: Room) -> None:
    api = room.login()
    tab = room.server.api()
    tab.cookies = dict(api.cookies)
    api.post("/api/auth/refresh").expect(200, 204)
    kept = tab.cookies["hhc_refresh"]
    tab.post("/api/auth/refresh").expect(200, 204)
    tab.get("/api/me").expect(200)
    assert tab.cookies["hhc_refresh"] == kept, "the older copy was given a life of its own"
    api.post("/api/auth/refresh").expect(200, 204)
    assert tab.post("/api/auth/refresh").status == 401, "two rotations later it still counts"


def test_log_out_ends_the_session_and_its_sockets_everywhere(room: Room) -> None:
    api = room.login()
    other = room.login()
    mine = on_both_workers(room.server, api, 2)
    theirs = RawSocket(room.server, other)
    theirs.resume()
    kept = dict(api.cookies)
    api.post("/api/auth/logout").expect(200, 204)
    assert "hhc_access" not in api.cookies and "hhc_refresh" not in api.cookies
    assert [socket.close_code() for socket in mine] == [4403] * 4
    theirs.send_json(type="ping", nonce="other session")
    assert theirs.receive() == {"type": "pong", "nonce": "other session"}, "another session was ended with it"
    api.cookies = kept
    for _ in range(6):  # on either worker
        assert api.get("/api/me").expect(401).error in ("token_invalid", "not_authenticated")
        with RawSocket(room.server, api) as late:
            code = late.expect("error")["code"]
            assert code in ("token_invalid", "not_authenticated") and late.close_code() in (4401, 4403)
    assert api.post("/api/auth/refresh").status == 401


def test_refused_tokens_on_both_doors(room: Room) -> None:
    good = room.login().cookies["hhc_access"]
    keys = room.server.keys
    wrong: list[str] = []
    for name, (token, code) in forge.refused_tokens(good, keys.private_pem, keys.public_pem).items():
        api = room.server.api()
        bearer = api.get("/api/me", headers={"Authorization": f"Bearer {token}"})
        api.cookies["hhc_access"] = token
        cookie = api.get("/api/me")
        for door, answer in (("bearer", bearer), ("cookie", cookie)):
            if answer.status != 401 or answer.error != code:
                wrong.append(f"{name} by {door}: {answer.status} {answer.body[:200]!r}")
        with RawSocket(room.server, api) as ws:
            first = ws.receive() if ws.status == 101 else None
            if first is None or first["type"] != "error" or first["code"] != code or ws.close_code() != 4401:
                wrong.append(f"{name} on the socket: {ws.status} {first} {ws.closed_with}")
    assert not wrong, "\n".join(wrong)


def test_no_token_completes_the_handshake_and_says_why(room: Room) -> None:
    with RawSocket(room.server, None) as ws:
        assert ws.status == 101
        first = ws.receive()
        assert first is not None and (first["type"], first["code"]) == ("error", "not_authenticated")
        assert ws.close_code() == 4401


def test_a_client_refreshes_on_4401_and_misses_nothing(room: Room) -> None:
    with ChatClient([room.server], room.alice) as alice, ChatClient([room.server], room.bob) as bob:
        alice.wait_acked(alice.send(room.id, "before"))
        bob.wait_seq(room.id, 1)
        header, claims = forge.decode(bob.api.cookies["hhc_access"])
        expired = {**claims, "iat": claims["iat"] - 900, "exp": int(time.time()) - 1}
        bob.api.cookies["hhc_access"] = forge.sign(header, expired, room.server.keys.private_pem)
        bob.drop()
        alice.wait_acked(alice.send(room.id, "while it was away"))
        bob.wait_seq(room.id, 2)
        assert 4401 in bob.close_codes()
        errors = [frame["code"] for connection in bob.connections for frame in connection.of_type("error")]
        assert errors == ["token_expired"]
        assert [m["seq"] for m in bob.messages(room.id)] == [1, 2]


ORIGINS = ["https://evil.example", "null", "http://127.0.0.1", "http://127.0.0.1:1", "{own}.evil.example", "file://"]


@pytest.mark.parametrize("origin", ORIGINS)
def test_another_site_is_refused_on_both_doors(room: Room, origin: str) -> None:
    origin = origin.format(own=room.server.origin)
    api = room.login()
    with RawSocket(room.server, api, origin=origin) as ws:
        if ws.status == 101:
            first = ws.receive()
            assert first is not None and (first["type"], first["code"]) == ("error", "bad_origin")
            assert ws.close_code() is not None
        else:
            assert ws.status == 403
    api.origin = origin
    body = {"client_id": str(uuid.uuid4()), "body": "forged"}
    assert api.post(f"/api/conversations/{room.id}/messages", body).expect(403).error == "bad_origin"
    assert api.post("/api/auth/logout").expect(403).error == "bad_origin"
    assert room.server.api(origin).login(room.alice.username, PASSWORD).expect(403).error == "bad_origin"
    assert room.server.people.history(room.id) == []


def test_a_program_without_origin_uses_its_bearer_token(room: Room) -> None:
    token = {"Authorization": f"Bearer {room.login().cookies['hhc_access']}"}
    program = room.server.api(origin=None)
    body = {"client_id": str(uuid.uuid4()), "body": "from a program"}
    program.post(f"/api/conversations/{room.id}/messages", body, headers=token).expect(201)


def test_guessing_is_throttled_per_account_and_says_when(own_site: Callable[..., ChatServer]) -> None:
    server = own_site({"LOGIN_RATE_LIMIT": "5"})
    room = make_room(server)
    answers = [server.api().login(room.alice.username, f"guess {n}") for n in range(9)]  # over both workers
    assert [answer.status for answer in answers] == [401] * 5 + [429] * 4
    error = answers[-1].json()["error"]
    assert error["code"] == "rate_limited" and error["retryable"] and 0 < error["details"]["retry_after_ms"] <= 60_000
    assert server.api().login(room.alice.username, PASSWORD).status == 429, "the right password tells a guesser"
    assert server.api().login(room.bob.username, PASSWORD).status == 200, "somebody else was locked out"


def test_no_secret_reaches_the_log(own_site: Callable[..., ChatServer]) -> None:
    server = own_site({"LOG_LEVEL": "debug"}, workers=1)
    person = server.add_user("secretive", "a password nobody may read")
    api = server.api()
    api.login(person.username, "a wrong password nobody may read").expect(401)
    api.login(person.username, person.password).expect(200)
    first = dict(api.cookies)
    api.post("/api/auth/refresh").expect(200, 204)
    body = {"current": "a wrong current nobody may read", "new": "a new one nobody may read"}
    api.put("/api/me/password", body).expect(403)
    api.put("/api/me/password", {**body, "current": person.password}).expect(204)
    api.put("/api/me/password", {**body, "new": ["a new one in a list nobody may read"]}).expect(422)
    api.post("/api/auth/login", raw=b'{"username": "x", "password": "half a secret', headers=JSON).expect(400)
    api.post("/api/auth/login", {"username": "x", "password": ["a secret in a list"]}).expect(400, 422)
    with RawSocket(server, api) as ws:
        ws.resume()
    api.post("/api/auth/logout")
    log = server.logs()
    secrets = [
        *("nobody may read", "half a secret", "a secret in a list"),
        *first.values(),
        *api.cookies.values(),
        server.settings["REDIS_PASSWORD"],
        re.sub(r".*:(.*)@.*", r"\1", server.database_url),
    ]
    assert len(log) > 200
    for secret in secrets:
        assert secret and secret not in log


JSON = {"Content-Type": "application/json"}


def test_a_disabled_person_is_out(own_site: Callable[..., ChatServer]) -> None:
    server = own_site(workers=2)
    room = make_room(server)
    api: Api = room.login()
    with RawSocket(server, api, timeout=25) as ws:
        ws.resume()
        done = server.cli("user", "disable", room.alice.username)
        assert done.returncode == 0, done.stderr
        assert server.api().login(room.alice.username, PASSWORD).expect(401).error == "invalid_credentials"
        assert ws.close_code() == 4403
    assert api.post("/api/auth/refresh").status == 401
