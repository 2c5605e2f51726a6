"""The migrations make exactly ``tables.metadata``, once, whoever runs them and however many at once."""

from __future__ import annotations

import threading
from pathlib import Path
from uuid import uuid4

import pytest
import sqlalchemy as sa
from alembic import command
from sqlalchemy import Engine

from harness.postgres import Postgres
from hockey_hub_chat.config import Settings
from hockey_hub_chat.storage import conversations, messages, migrate, users
from hockey_hub_chat.storage.engine import make_engine
from hockey_hub_chat.storage.messages import NewMessage
from hockey_hub_chat.storage.tables import club_roles, clubs, guardianships, metadata, team_members, teams


def test_migrated_schema_is_the_metadata(engine: Engine) -> None:
    assert migrate.differences(engine) == []
    current, head = migrate.current_and_head(engine)
    assert current == head


def test_migrated_schema_is_what_create_all_makes(engine: Engine, postgres: Postgres, tmp_path: Path) -> None:
    """Checks and partial indexes, which alembic does not compare."""
    other = make_engine(
        Settings(database_url="", data_dir=tmp_path / "direct")
        if engine.dialect.name == "sqlite"
        else Settings(database_url=postgres.create_database())
    )
    metadata.create_all(other)
    try:
        assert describe(engine) == describe(other)
    finally:
        other.dispose()


def describe(engine: Engine) -> dict[str, object]:
    """Return everything the database says of the tables."""
    inspector = sa.inspect(engine)
    described: dict[str, object] = {}
    for table in sorted(set(inspector.get_table_names()) - {"alembic_version"}):
        described[table] = (
            [(c["name"], str(c["type"]), c["nullable"], c["default"]) for c in inspector.get_columns(table)],
            inspector.get_pk_constraint(table),
            sorted(map(repr, inspector.get_foreign_keys(table))),
            sorted(map(repr, inspector.get_unique_constraints(table))),
            sorted(map(repr, inspector.get_check_constraints(table))),
            sorted(map(repr, inspector.get_indexes(table))),
        )
    inspector.engine.dispose()
    return described


def test_upgrading_twice_changes_nothing(engine: Engine) -> None:
    migrate.upgrade(engine)
    assert migrate.differences(engine) == []


def test_hosts_that_migrate_at_once_take_turns(postgres: Postgres) -> None:
    url = postgres.create_database()
    failures: list[BaseException] = []

    def run() -> None:
        engine = make_engine(Settings(database_url=url))
        try:
            migrate.upgrade(engine)
        except BaseException as error:
            failures.append(error)
        finally:
            engine.dispose()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    engine = make_engine(Settings(database_url=url))
    assert migrate.differences(engine) == []
    engine.dispose()


def test_the_schema_of_a_newer_release_is_left_alone(engine: Engine) -> None:
    with engine.begin() as conn:
        conn.execute(sa.text("UPDATE alembic_version SET version_num = '9999'"))
    migrate.upgrade(engine)
    assert migrate.current_and_head(engine)[0] == "9999"
    assert not migrate.is_known("9999")


@pytest.mark.parametrize("kind", ["sqlite", "postgresql"])
def test_messages_survive_the_loss_of_their_foreign_keys(kind: str, postgres: Postgres, tmp_path: Path) -> None:
    settings = Settings(data_dir=tmp_path, database_url=postgres.create_database() if kind == "postgresql" else "")
    engine = make_engine(settings)
    config = migrate._config()
    with engine.connect() as conn:
        config.attributes["connection"] = conn
        command.upgrade(config, "0001")
        conn.commit()
    with engine.begin() as conn:
        ann = users.add(conn, username="ann", display_name="Ann", password_hash="-")
        room = conversations.create_group(conn, ann, "room", [])
        stored = messages.append_batch(conn, [NewMessage(room, ann, uuid4(), f"é {number}") for number in range(3)])
    assert len(sa.inspect(engine).get_foreign_keys("messages")) == 2
    migrate.upgrade(engine)
    assert sa.inspect(engine).get_foreign_keys("messages") == []
    with engine.begin() as conn:
        assert messages.page(conn, room, after_seq=0, before_seq=None, limit=9) == stored
        again = messages.append_batch(conn, [NewMessage(room, ann, stored[0].client_id, "é 0")])  # type: ignore[union-attr]
        assert again == [stored[0]._replace(is_new=False)]  # type: ignore[union-attr]
    engine.dispose()


def test_clubs_come_to_a_site_in_use(postgres: Postgres, tmp_path: Path) -> None:
    """The previous release goes on with the columns it knows, and its clean-up of probe accounts takes the new rows along."""
    for kind in ("sqlite", "postgresql"):
        url = postgres.create_database() if kind == "postgresql" else ""
        engine = make_engine(Settings(data_dir=tmp_path, database_url=url))
        config = migrate._config()
        with engine.connect() as conn:
            config.attributes["connection"] = conn
            command.upgrade(config, "0002")
            conn.commit()
        with engine.begin() as conn:
            conn.execute(
                sa.text(
                    "INSERT INTO users (username, display_name, password_hash, is_probe) VALUES ('p', 'P', '-', true)"
                )
            )
        migrate.upgrade(engine)
        assert migrate.differences(engine) == []
        with engine.begin() as conn:
            # As the previous release writes, reads and deletes: by the columns it knows.
            conn.execute(sa.text("INSERT INTO users (username, display_name, password_hash) VALUES ('q', 'Q', '-')"))
            probe, kept = conn.execute(sa.text("SELECT id FROM users ORDER BY id")).scalars()
            conn.execute(sa.insert(clubs).values(name="Club"))
            conn.execute(sa.insert(club_roles).values(club_id=1, user_id=probe, role="admin"))
            conn.execute(sa.insert(teams).values(club_id=1, name="U15", season="2026"))
            conn.execute(sa.insert(team_members).values(team_id=1, user_id=probe, role="player"))
            conn.execute(sa.insert(guardianships).values(guardian_id=kept, child_id=probe))
            conn.execute(sa.text("DELETE FROM users WHERE is_probe"))
            for table in (club_roles, team_members, guardianships):
                assert conn.execute(sa.select(sa.func.count()).select_from(table)).scalar_one() == 0, table.name
        engine.dispose()


def test_what_the_schema_refuses(engine: Engine) -> None:
    with engine.begin() as conn:
        ann = users.add(conn, username="ann", display_name="Ann", password_hash="-")
        conn.execute(sa.insert(clubs).values(name="Club"))
        conn.execute(sa.insert(teams).values(club_id=1, name="U15", season="2026"))
    for table, row in (
        (guardianships, {"guardian_id": ann, "child_id": ann}),
        (club_roles, {"club_id": 1, "user_id": ann, "role": "owner"}),
        (team_members, {"team_id": 1, "user_id": ann, "role": "fan"}),
        (team_members, {"team_id": 9, "user_id": ann, "role": "player"}),
        (teams, {"club_id": 1, "name": "U15", "season": "2026"}),
    ):
        with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
            conn.execute(sa.insert(table).values(**row))


def test_an_empty_database_says_so(tmp_path: Path) -> None:
    engine = make_engine(Settings(database_url="", data_dir=tmp_path))
    assert migrate.current_and_head(engine)[0] is None
    engine.dispose()
