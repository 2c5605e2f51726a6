"""The daemons of the harness themselves: reachable, closed to strangers, back after ``kill -9``, gone at the end."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import redis
from harness.postgres import Postgres
from harness.redis_server import RedisServer


def test_postgres_wants_a_password_and_gives_fresh_databases(postgres: Postgres) -> None:
    url = postgres.create_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t (n int)")
        version = connection.info.server_version
    assert version // 10000 == postgres.major >= 15
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(url.replace(postgres.password, "wrong"))
    postgres.drop_database(url)


def test_postgres_is_back_after_kill9_with_what_was_committed(make_postgres: Callable[..., Postgres]) -> None:
    server = make_postgres(durable=True)
    url = server.create_database()
    with psycopg.connect(url) as connection:
        connection.execute("CREATE TABLE t AS SELECT 1 AS n")
    server.kill9()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(url)
    server.start()
    with psycopg.connect(url) as connection:
        assert connection.execute("SELECT n FROM t").fetchall() == [(1,)]
    server.destroy()


def test_redis_holds_the_application_to_its_keys(redis_server: RedisServer) -> None:
    with redis.Redis.from_url(redis_server.url) as client:
        client.set("hhc:test:key", 1, px=1000)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.set("other", 1)
        with pytest.raises(redis.exceptions.NoPermissionError):
            client.flushall()
    with redis.Redis(port=redis_server.port, retry=None) as stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()
