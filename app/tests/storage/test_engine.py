"""The engine: what happens when the database is busy, away or demoted."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
import sqlalchemy as sa
from sqlalchemy import Engine

from harness.postgres import Postgres
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ConfigError, UnavailableError
from hockey_hub_chat.storage import users
from hockey_hub_chat.storage.engine import is_transient, make_engine, reading, writing


def test_reading_does_not_wait_for_a_writer(engine: Engine) -> None:
    with engine.begin() as writer:
        users.add(writer, username="ann", display_name="Ann", password_hash="-")
        started = time.monotonic()
        with reading(engine) as conn:
            assert users.find(conn, "ann") is None
        assert time.monotonic() - started < 1
    with reading(engine) as conn:
        assert users.find(conn, "ann") is not None


def test_writers_of_one_file_take_turns(engine: Engine) -> None:
    def add(number: int) -> None:
        with writing(engine) as conn:
            total = users.count(conn)
            users.add(conn, username=f"u{total}-{number}", display_name="U", password_hash="-")

    threads = [threading.Thread(target=add, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with reading(engine) as conn:
        assert users.count(conn) == 12


def test_an_error_inside_rolls_back(engine: Engine) -> None:
    with pytest.raises(ZeroDivisionError), writing(engine) as conn:
        users.add(conn, username="ann", display_name="Ann", password_hash="-")
        raise ZeroDivisionError
    with reading(engine) as conn:
        assert users.count(conn) == 0


def test_text_of_people_is_not_in_database_errors(engine: Engine) -> None:
    with pytest.raises(sa.exc.IntegrityError) as caught, writing(engine) as conn:
        for _ in range(2):
            users.add(conn, username="ann", display_name="a secret of hers", password_hash="-")
    assert "a secret of hers" not in str(caught.value)
    assert not is_transient(caught.value)


def test_a_killed_connection_is_unavailable_and_then_replaced(postgres: Postgres, database_url: str) -> None:
    engine = make_engine(Settings(database_url=database_url, database_pool_size=2))
    with pytest.raises(UnavailableError), writing(engine) as conn:
        pid = conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
        postgres.admin(f"SELECT pg_terminate_backend({pid})")
        conn.execute(sa.text("SELECT 1"))
    with writing(engine) as conn:
        assert conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != pid
    engine.dispose()


def test_a_primary_that_became_read_only_is_left(postgres: Postgres, database_url: str) -> None:
    engine = make_engine(Settings(database_url=database_url, database_pool_size=1))
    with engine.connect() as conn:
        conn.execute(sa.text("SET default_transaction_read_only = on"))
        conn.commit()
        pid = conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one()
    with pytest.raises(UnavailableError), writing(engine) as conn:
        users.add(conn, username="ann", display_name="Ann", password_hash="-")
    with writing(engine) as conn:
        users.add(conn, username="ann", display_name="Ann", password_hash="-")
        assert conn.execute(sa.text("SELECT pg_backend_pid()")).scalar_one() != pid
    engine.dispose()


def test_no_database_at_all_is_unavailable() -> None:
    engine = make_engine(Settings(database_url="postgresql://nobody:secret@127.0.0.1:1/none"))
    with pytest.raises(UnavailableError) as caught, reading(engine):
        pass
    assert "secret" not in str(caught.value) + str(caught.value.__cause__)
    engine.dispose()


def test_the_address_and_the_settings_make_the_connection(postgres: Postgres, database_url: str) -> None:
    bare = database_url.replace(f":{postgres.password}@", "@")
    engine = make_engine(Settings(database_url=bare, database_password=postgres.password, service_name="the-name"))
    with engine.connect() as conn:
        assert conn.execute(sa.text("SHOW application_name")).scalar_one() == "the-name"
        assert conn.execute(sa.text("SHOW statement_timeout")).scalar_one() == "15s"
        assert conn.execute(sa.text("SHOW timezone")).scalar_one() == "UTC"
    engine.dispose()
    wanting = make_engine(Settings(database_url=database_url, database_ssl=True, database_ssl_root_cert="/nowhere"))
    with pytest.raises(UnavailableError), reading(wanting):
        pass  # this server has no TLS, and verify-full never goes without
    wanting.dispose()


def test_what_cannot_be_used_is_said(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="DATABASE_URL"):
        make_engine(Settings(database_url="postgresql://[bad"))
    occupied = tmp_path / "file"
    occupied.write_text("")
    with pytest.raises(ConfigError, match="cannot be made"):
        make_engine(Settings(database_url="", data_dir=occupied / "below"))
