"""The daemons of the harness themselves: reachable, closed to strangers, back after ``kill -9``, gone at the end."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest
import redis
import sqlalchemy as sa
from sqlalchemy import Engine

from harness.postgres import Postgres
from harness.redis_server import NO_RETRY, RedisServer
from hockey_hub_chat.storage import tables


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
    stranger = redis.Redis(port=redis_server.port, retry=NO_RETRY)
    with stranger, pytest.raises(redis.exceptions.AuthenticationError):
        stranger.ping()


def test_every_test_gets_a_migrated_database_of_its_own(engine: Engine) -> None:
    with engine.begin() as connection:
        assert connection.execute(sa.select(sa.func.count()).select_from(tables.users)).scalar_one() == 0
        connection.execute(sa.insert(tables.users).values(username="u", display_name="U", password_hash="x"))
