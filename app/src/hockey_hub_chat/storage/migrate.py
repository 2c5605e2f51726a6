"""Brings a database to the schema of this release. One runner at a time; compatible with the previous release (expand only)."""

from __future__ import annotations

from pathlib import Path

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from hockey_hub_chat.storage.tables import metadata

#: A migration that cannot have its lock gives up rather than queue every reader behind it.
LOCK_TIMEOUT_MS = 5_000
#: Any number, the same in every release: "a migration of this application".
_ADVISORY_LOCK = 0x48484331


def upgrade(engine: sa.Engine) -> None:
    """Apply what is missing. Safe to call from several hosts at once, and when nothing is missing."""
    with engine.connect() as connection:
        is_postgresql = connection.dialect.name == "postgresql"
        if is_postgresql:
            connection.exec_driver_sql("SET statement_timeout = 0")
            connection.exec_driver_sql("SET lock_timeout = 0")
            connection.exec_driver_sql(f"SELECT pg_advisory_lock({_ADVISORY_LOCK})")
            connection.exec_driver_sql(f"SET lock_timeout = {LOCK_TIMEOUT_MS}")
            connection.commit()
        try:
            current = MigrationContext.configure(connection).get_current_revision()
            if current is not None and not is_known(current):
                return  # a newer release's schema; it fits this one too
            config = _config()
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
            connection.commit()
        finally:
            if is_postgresql:
                # Closing for good lets go of the advisory lock and of the SETs, whatever state the connection is in.
                connection.invalidate()


def current_and_head(engine: sa.Engine) -> tuple[str | None, str]:
    """Return (revision of the database or None, revision of this release)."""
    with engine.connect() as connection:
        current = MigrationContext.configure(connection).get_current_revision()
    head = ScriptDirectory.from_config(_config()).get_current_head()
    if head is None:
        raise LookupError("this release has no migrations")
    return current, head


def is_known(revision: str) -> bool:
    """Whether this release has the revision; one it has not is a newer release's."""
    return any(script.revision == revision for script in ScriptDirectory.from_config(_config()).walk_revisions())


def differences(engine: sa.Engine) -> list[object]:
    """Return what alembic finds different between the database and ``tables.metadata``; tests want none."""
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"compare_type": True, "compare_server_default": connection.dialect.name == "postgresql"}
        )
        return list(compare_metadata(context, metadata))


def _config() -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    return config
