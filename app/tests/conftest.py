"""Fixtures every app test may use: a real PostgreSQL, a real Redis, migrated databases, real gunicorns.

Session-wide daemons are shared by all tests; each test has databases of its own. Tests that kill things take
``make_postgres`` / ``make_redis`` and get their own.
"""

from __future__ import annotations

import itertools
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from harness.chat import ChatServer, Keys
from harness.postgres import Postgres
from harness.process import Workshop
from harness.redis_server import RedisServer
from hockey_hub_chat.config import Settings
from hockey_hub_chat.storage import migrate
from hockey_hub_chat.storage.engine import make_engine

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def workshop() -> Iterator[Workshop]:
    """A directory and an account for daemons; its end is the end of all of them."""
    shop = Workshop()
    try:
        yield shop
    finally:
        shop.close()


@pytest.fixture(scope="session")
def make_postgres(workshop: Workshop) -> Iterator[Callable[..., Postgres]]:
    """Start a PostgreSQL of one's own: ``make_postgres(durable=True)``."""
    made: list[Postgres] = []

    def make(**options: Any) -> Postgres:
        server = Postgres(workshop, **options)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.destroy()


@pytest.fixture(scope="session")
def make_redis(workshop: Workshop) -> Iterator[Callable[[], RedisServer]]:
    """Start a Redis of one's own."""
    made: list[RedisServer] = []

    def make() -> RedisServer:
        server = RedisServer(workshop)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.destroy()


@pytest.fixture(scope="session")
def postgres(make_postgres: Callable[..., Postgres]) -> Postgres:
    """The shared PostgreSQL (fsync off: nothing here is about losing power)."""
    server = make_postgres()
    print(f"\nPostgreSQL {server.major} from {server.bin}")
    return server


@pytest.fixture(scope="session")
def redis_server(make_redis: Callable[[], RedisServer]) -> RedisServer:
    """The shared Redis."""
    return make_redis()


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> str:
    """The migrated template database in the shared PostgreSQL."""
    return postgres.migrated_template()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with a migrated SQLite file."""
    directory = tmp_path_factory.mktemp("sqlite-template")
    engine = make_engine(Settings(database_url="", data_dir=directory))
    try:
        migrate.upgrade(engine)
    finally:
        engine.dispose()
    return directory


@pytest.fixture
def database_url(postgres: Postgres, postgres_template: str) -> Iterator[str]:
    """A fresh migrated PostgreSQL database."""
    url = postgres.create_database(template=postgres_template)
    yield url
    postgres.drop_database(url)


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    """A fresh migrated database of each kind, opened by the application's own ``make_engine``."""
    if request.param == "sqlite":
        directory = tmp_path / "data"
        shutil.copytree(request.getfixturevalue("sqlite_template"), directory)
        settings = Settings(database_url="", data_dir=directory)
    else:
        settings = Settings(database_url=request.getfixturevalue("database_url"), database_pool_size=5)
    made = make_engine(settings)
    try:
        yield made
    finally:
        made.dispose()


@pytest.fixture(scope="session")
def keys(workshop: Workshop) -> Keys:
    """An RS256 key pair on disk."""
    return Keys(workshop.directory("keys"), workshop.account)


@pytest.fixture
def chat_server(workshop: Workshop, keys: Keys) -> Iterator[Callable[..., ChatServer]]:
    """Start real gunicorns: ``chat_server(database_url, redis_server.env, workers=2, env={…})``.

    Ends them after the test and fails it when one logged a traceback (``server.expect_errors = True`` lifts that).
    """
    made: list[ChatServer] = []

    def make(database_url: str, bus: Any = None, *, start: bool = True, **options: Any) -> ChatServer:
        server = ChatServer(workshop, keys, database_url, bus, **options)
        made.append(server)
        if start:
            server.start()
        return server

    yield make
    logs = [(server, server.logs()) for server in made]
    for server in made:
        server.destroy()
    for server, text in logs:
        if not server.expect_errors:
            assert "Traceback (most recent call last)" not in text, text[-8000:]
