"""The site the end-to-end tests share: PostgreSQL, Redis with its ACL, one gunicorn with two workers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import pytest

from harness.chat import ChatServer, Keys
from harness.postgres import Postgres
from harness.process import Workshop
from harness.redis_server import RedisServer
from harness.rooms import Room, make_room


@pytest.fixture(scope="session")
def site(
    workshop: Workshop, keys: Keys, postgres: Postgres, postgres_template: str, redis_server: RedisServer
) -> Iterator[ChatServer]:
    """One running site for every test that kills nothing."""
    server = ChatServer(workshop, keys, postgres.create_database(postgres_template), redis_server.env)
    try:
        server.start()
        server.wait_all_workers()
        yield server
    finally:
        server.destroy()


@pytest.fixture
def room(site: ChatServer) -> Iterator[Room]:
    """A fresh room on the shared site. Afterwards: same workers, still ready, nothing in the log to be ashamed of."""
    workers = site.worker_pids()
    since = len(site.logs())
    yield make_room(site)
    assert site.worker_pids() == workers, "a worker died of it"
    assert site.is_ready(), "the site does not serve any more"
    site.assert_quiet(since)


@pytest.fixture
def own_site(
    chat_server: Callable[..., ChatServer], database_url: str, redis_server: RedisServer
) -> Callable[..., ChatServer]:
    """Start a site of one's own on a fresh database: ``own_site({"MESSAGE_RATE_LIMIT": "5"}, workers=1)``."""

    def make(env: Mapping[str, str | None] | None = None, **options: object) -> ChatServer:
        redis = options.pop("redis", redis_server)
        assert isinstance(redis, RedisServer)
        return chat_server(database_url, redis.env, env=env or {}, **options)

    return make
