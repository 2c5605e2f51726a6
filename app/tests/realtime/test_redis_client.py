"""The connections to Redis: what they do when the server restarts, is slow or refuses."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import closing

import gevent
import pytest
import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from harness.redis_server import RedisServer
from hockey_hub_chat.config import Settings
from hockey_hub_chat.realtime.redis_client import Line, Subscription, make_client


@pytest.fixture
def server(make_redis: Callable[[], RedisServer]) -> RedisServer:
    """A Redis to be restarted."""
    return make_redis()


@pytest.fixture
def line(server: RedisServer) -> Iterator[Line]:
    """A line to it."""
    client = make_client(Settings(redis_url=server.url), timeout=0.25)
    made = Line(client)
    yield made
    made.close()
    client.close()


def test_a_command_has_its_answer(line: Line) -> None:
    assert line.ask("SET", "hhc:x", b"1") == b"OK"
    assert line.ask("INCR", "hhc:x") == 2
    assert line.ask("MGET", "hhc:x", "hhc:y") == [b"2", None]


def test_a_refused_command_costs_no_connection(line: Line) -> None:
    mine = line.ask("CLIENT", "ID")
    with pytest.raises(redis.ResponseError):
        line.ask("EVALSHA", "0" * 40, 0)
    assert line.ask("CLIENT", "ID") == mine


def test_a_restarted_server_is_not_noticed(server: RedisServer, line: Line) -> None:
    assert line.ask("PING") == b"PONG"
    server.kill9()
    server.start()
    assert line.ask("PING") == b"PONG"


def test_a_server_that_is_away_is_said(server: RedisServer, line: Line) -> None:
    assert line.ask("PING") == b"PONG"
    server.kill9()
    for _ in range(2):
        with pytest.raises(redis.RedisError):
            line.ask("PING")
    server.start()
    assert line.ask("PING") == b"PONG"


def test_an_answer_nobody_waited_for_is_not_the_next_ones(server: RedisServer, line: Line) -> None:
    assert line.ask("PING") == b"PONG"
    with server.ops() as ops:
        ops.client_pause(600)
        with pytest.raises(redis.RedisError):
            line.ask("ECHO", "late")
        ops.client_unpause()
    assert line.ask("ECHO", "prompt") == b"prompt"


def test_nor_one_whose_wait_was_broken_off(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    def break_off() -> None:
        raise gevent.Timeout

    assert line.ask("PING") == b"PONG"
    monkeypatch.setattr(line._connection, "read_response", break_off)
    with pytest.raises(gevent.Timeout):
        line.ask("ECHO", "late")
    assert line.ask("ECHO", "prompt") == b"prompt"


def test_a_subscription_hears_its_channel_and_knows_silence_from_death(server: RedisServer, line: Line) -> None:
    client = make_client(Settings(redis_url=server.url))
    with closing(Subscription(client, "hhc:news")) as subscription:
        assert subscription.receive(5) == (b"subscribe", 1)
        line.ask("PUBLISH", "hhc:other", "not this")
        line.ask("PUBLISH", "hhc:news", "one")
        line.ask("PUBLISH", "hhc:news", "x" * 1_000_000)
        assert subscription.receive(5) == (b"message", b"one")
        assert subscription.receive(5) == (b"message", b"x" * 1_000_000)
        assert subscription.receive(0.01) is None
        subscription.ping()
        assert subscription.receive(5) == (b"pong", b"")
        server.kill9()
        with pytest.raises(redis.RedisError):
            subscription.receive(5)
    client.close()


def test_a_long_outage_uses_nothing_up() -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        client = redis.Redis(host="127.0.0.1", port=nobody.getsockname()[1], retry=Retry(NoBackoff(), 0))
        line = Line(client)
        for _ in range(150):
            for attempt in (lambda: line.ask("PING"), lambda: Subscription(client, "c")):
                with pytest.raises(redis.ConnectionError) as refused:
                    attempt()
                assert not isinstance(refused.value, redis.exceptions.MaxConnectionsError)
        client.close()
