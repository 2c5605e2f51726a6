"""Rate limits: counted over all workers, told in time, harmless when Redis is away."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable

from harness.chat import ChatServer
from harness.raw import RawSocket, on_both_workers
from harness.redis_server import RedisServer
from harness.rooms import make_room


def test_sending_too_much_is_refused_and_the_connection_stays(own_site: Callable[..., ChatServer]) -> None:
    server = own_site({"MESSAGE_RATE_LIMIT": "5"})
    room = make_room(server)
    sockets = on_both_workers(server, room.login(), 2)
    answers = []
    started = time.monotonic()
    for number in range(8):  # one person on two workers
        socket = sockets[number % 4]
        key = str(uuid.uuid4())
        socket.send_json(type="send", client_id=key, conversation_id=room.id, body="x")
        answers.append(socket.answer_to(key))
    earned = int((time.monotonic() - started) / 12)  # five a minute: one more every twelve seconds
    acked = sum(answer["type"] == "ack" for answer in answers)
    assert 5 <= acked <= 5 + earned, [answer["type"] for answer in answers]
    assert [answer["type"] for answer in answers[:5]] == ["ack"] * 5
    for answer in [answer for answer in answers if answer["type"] == "error"]:
        assert answer["code"] == "rate_limited" and answer["retryable"]
        assert 0 < answer["details"]["retry_after_ms"] <= 60_000
    assert server.people.last_seq(room.id) == acked
    for _ in range(20):  # more than the budget of broken frames
        key = str(uuid.uuid4())
        sockets[0].send_json(type="send", client_id=key, conversation_id=room.id, body="x")
        assert sockets[0].answer_to(key).get("code", "rate_limited") == "rate_limited"
    sockets[0].send_json(type="ping", nonce="stays")
    assert sockets[0].expect("pong")["nonce"] == "stays"
    over_http = room.login().post(
        f"/api/conversations/{room.id}/messages", {"client_id": str(uuid.uuid4()), "body": "the other door"}
    )
    assert over_http.status in ((429,) if time.monotonic() - started < 12 else (201, 429))
    with RawSocket(server, room.login(room.bob)) as bob:
        bob.resume()
        bob.send_json(type="send", client_id=str(uuid.uuid4()), conversation_id=room.id, body="not limited")
        bob.expect("ack")


def test_too_many_requests_are_refused_with_the_time_to_wait(own_site: Callable[..., ChatServer]) -> None:
    server = own_site({"RATE_LIMIT_MAX_REQUESTS": "20", "RATE_LIMIT_WINDOW_MS": "60000"})
    room = make_room(server)
    api = room.login()
    answers = [api.get("/api/me") for _ in range(30)]
    refused = [answer for answer in answers if answer.status == 429]
    assert 8 <= len(refused) <= 12 and answers[-1].status == 429
    assert refused[0].error == "rate_limited"
    assert 0 < int(refused[0].headers["Retry-After"]) <= 60
    assert server.api().get("/health").status == 200 and server.api().get("/ready").status == 200


def test_limits_never_make_people_wait_for_a_redis_that_is_away(
    own_site: Callable[..., ChatServer], make_redis: Callable[[], RedisServer]
) -> None:
    redis = make_redis()
    server = own_site({"LOGIN_RATE_LIMIT": "5"}, redis=redis)
    room = make_room(server)
    redis.kill9()
    started = time.monotonic()
    answers = [server.api().login(room.alice.username, "wrong").status for _ in range(16)]
    took = time.monotonic() - started
    assert answers[0] == 401
    assert answers.count(401) <= 11, "without Redis each of the two workers counts by itself"
    assert took < 6, f"16 log-ins took {took:.1f} s while Redis was away"
    assert server.api().login(room.bob.username, room.bob.password).status == 200
    redis.destroy()
