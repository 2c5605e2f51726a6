"""What a load balancer, a monitor and a stranger see of a server."""

from __future__ import annotations

import http.client
import json
import re
import signal
import uuid
from collections.abc import Callable

import pytest

from harness.chat import ChatServer
from harness.postgres import Postgres
from harness.process import wait_until
from harness.raw import RawSocket, on_both_workers
from harness.redis_server import RedisServer
from harness.rooms import Room, make_room


def test_health_and_ready_are_open_and_say_little(room: Room) -> None:
    for path in ("/health", "/ready"):
        answer = room.server.api().get(path).expect(200)
        assert answer.headers["X-Request-ID"]
        assert len(answer.body) < 200
        assert "postgresql" not in answer.body.decode()


SPOOFS: list[dict[str, str]] = [
    {},
    {"Host": "127.0.0.1:{metrics}"},
    {"Host": "localhost:{metrics}"},
    {"X-Forwarded-Host": "127.0.0.1:{metrics}", "X-Forwarded-Port": "{metrics}", "X-Forwarded-For": "127.0.0.1"},
    {"X-Real-IP": "127.0.0.1", "Forwarded": "for=127.0.0.1;host=127.0.0.1:{metrics}"},
]


@pytest.mark.parametrize("headers", SPOOFS, ids=lambda headers: "+".join(headers) or "plain")
def test_metrics_and_details_are_not_public(room: Room, headers: dict[str, str]) -> None:
    sent = {key: value.format(metrics=room.server.metrics_port) for key, value in headers.items()}
    for api in (room.server.api(), room.login()):
        answer = api.get("/metrics", headers=sent)
        assert answer.status == 404
        assert b"chat_" not in answer.body
        assert api.get("/health/detailed", headers=sent).status in (401, 403, 404)


def test_details_are_for_administrators_and_the_metrics_port(room: Room) -> None:
    server = room.server
    name = f"admin{uuid.uuid4().hex[:6]}"
    (admin,) = server.people.add(name, admin=True)
    for api in (server.metrics_api(), room.login(admin)):
        details = api.get("/health/detailed").expect(200)
        text = json.dumps(details.json()).lower()
        for part in ("database", "redis", "migration", "version"):
            assert part in text, f"no {part} in {text}"
        for secret in (server.settings["REDIS_PASSWORD"], "password", server.database_url.split(":")[2].split("@")[0]):
            assert secret and secret.lower() not in text


GUIDE = {
    "chat_messages_sent_total": "counter",
    "chat_websocket_connections_active": "gauge",
    "chat_message_processing_duration_seconds": "histogram",
    "http_requests_total": "counter",
    "chat_acks_total": "counter",
    "chat_resumes_total": "counter",
    "chat_gaps_refilled_total": "counter",
    "chat_slow_consumers_closed_total": "counter",
    "chat_writer_batch_size": "histogram",
    "chat_login_failures_total": "counter",
    "chat_rate_limited_total": "counter",
}


def test_names_and_kinds_are_those_promised(room: Room) -> None:
    room.server.api().login("nobody", "x")
    answer = room.server.metrics_api().get("/metrics").expect(200)
    assert answer.headers["Content-Type"].startswith("text/plain")
    text = answer.body.decode()
    kinds = dict(re.findall(r"^# TYPE (\S+) (\S+)$", text, re.MULTILINE))
    for name, kind in GUIDE.items():
        assert kinds.get(name, kinds.get(name.removesuffix("_total"))) == kind, f"{name}: {kinds}"
    assert 'le="0.001"' in text, "the latency buckets begin at one millisecond"
    assert str(room.alice.username) not in text


def test_figures_are_those_of_all_workers_and_survive_one(own_site: Callable[..., ChatServer]) -> None:
    server = own_site()
    workers = server.wait_all_workers()
    room = make_room(server)
    api = room.login()
    sockets = on_both_workers(server, api, 4)
    for number, socket in enumerate(sockets):
        socket.send_json(type="send", client_id=str(uuid.uuid4()), conversation_id=room.id, body=str(number))
        socket.expect("ack")
    wait_until(lambda: server.metric("chat_websocket_connections_active") == 8, 10, "8 connections counted")
    for _ in range(6):  # whichever worker answers
        assert server.metric("chat_messages_sent_total") == 8
        assert server.metric("chat_acks_total") == 8
        assert server.metric("chat_resumes_total") == 8
        assert server.metric("chat_websocket_connections_active") == 8
        assert server.metric("chat_message_processing_duration_seconds_count") == 8
    requests = server.metric("http_requests_total")
    server.kill9_worker(0)
    server.wait_all_workers()
    left = 0
    for socket in sockets:
        socket.send_json(type="ping", nonce="")
        while (frame := socket.receive()) is not None and frame["type"] != "pong":
            pass
        left += frame is not None
    assert left == 4
    wait_until(lambda: server.metric("chat_websocket_connections_active") == left, 10, f"{left} connections counted")
    assert server.metric("chat_messages_sent_total") == 8, "what the killed worker counted is gone"
    assert server.metric("http_requests_total") >= requests
    assert len(set(workers) & set(server.worker_pids())) == 1
    for socket in sockets:
        socket.sock.close()
    wait_until(lambda: server.metric("chat_websocket_connections_active") == 0, 10, "all gone")


def test_ready_says_503_without_the_database_and_health_does_not_care(
    chat_server: Callable[..., ChatServer], make_postgres: Callable[..., Postgres], redis_server: RedisServer
) -> None:
    postgres = make_postgres()
    server = chat_server(postgres.create_database(postgres.migrated_template()), redis_server.env)
    postgres.kill9()
    wait_until(lambda: server.api().get("/ready").status == 503, 10, "/ready notices")
    for _ in range(4):
        refused = server.api().get("/ready").expect(503)
        assert server.api().get("/health").status == 200
        assert "traceback" not in refused.body.decode().lower() and "127.0.0.1" not in refused.body.decode()
    assert server.api().get("/api/me").status in (401, 503)
    postgres.start()
    wait_until(lambda: server.api().get("/ready").status == 200, 10, "/ready notices the return")
    server.assert_quiet()
    postgres.destroy()


def test_ready_stays_200_without_redis(
    own_site: Callable[..., ChatServer], make_redis: Callable[[], RedisServer]
) -> None:
    redis = make_redis()
    server = own_site(redis=redis)
    redis.kill9()
    for _ in range(6):
        server.api().get("/ready").expect(200)
    redis.destroy()


def test_ready_is_never_200_once_drain_was_told(own_site: Callable[..., ChatServer]) -> None:
    server = own_site(workers=1)
    room = make_room(server)
    kept = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    kept.request("GET", "/ready")
    assert kept.getresponse().read() is not None
    with RawSocket(server, room.login()) as ws:
        ws.resume()
        server.send_signal(signal.SIGTERM)
        ws.expect("drain")
        try:
            kept.request("GET", "/ready")
            assert kept.getresponse().status == 503
        except (ConnectionError, http.client.HTTPException):
            assert not server.is_ready()
        assert not server.is_ready()
        assert ws.close_code() == 1012
    kept.close()
    wait_until(lambda: not server.running, 10, "the server has left")
