"""Makes the SQLAlchemy engine: PostgreSQL by libpq address, or the embedded SQLite file. Knows no tables.

Both are safe under gevent: psycopg waits cooperatively once ``select`` is patched, and a SQLite writer that finds the file
locked sleeps in Python instead of inside the library, where it would hold up every greenlet.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
import sqlalchemy as sa
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import event
from sqlalchemy.pool import ConnectionPoolEntry

from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ConfigError, UnavailableError

CONNECT_TIMEOUT_S = 5
POOL_TIMEOUT_S = 10
POOL_RECYCLE_S = 1800
STATEMENT_TIMEOUT_MS = 15_000
LOCK_TIMEOUT_MS = 10_000
SQLITE_WAIT_S = 10.0
SQLITE_RETRY_S = 0.003

#: SQLSTATEs that mean "this is not the primary any more".
_NOT_PRIMARY = frozenset({"25006", "57P01", "57P02", "57P03"})


def make_engine(settings: Settings) -> sa.Engine:
    """Return an engine for ``DATABASE_URL``, or for the SQLite file in ``DATA_DIR``. Connects to nothing yet.

    Raises:
        ConfigError: the address cannot be read, or the directory of the file cannot be made.
    """
    return _make_sqlite(settings) if settings.is_sqlite else _make_postgresql(settings)


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """A connection that only reads: without a transaction on PostgreSQL, never waiting for a writer on SQLite.

    Raises:
        UnavailableError: the database is away.
    """
    options: dict[str, Any] = (
        {"hhc_reads": True} if engine.dialect.name == "sqlite" else {"isolation_level": "AUTOCOMMIT"}
    )
    with _translating(), engine.connect() as connection:
        yield connection.execution_options(**options)


@contextmanager
def writing(engine: sa.Engine) -> Iterator[sa.Connection]:
    """One transaction: committed at the end, rolled back when an exception leaves it.

    Raises:
        UnavailableError: the database is away, or a lock could not be had in time. Whether a commit under way went through
            is not known then.
    """
    with _translating(), engine.begin() as connection:
        yield connection


def connector(engine: sa.Engine) -> Callable[[], psycopg.Connection[Any]] | None:
    """Return what opens a connection of one's own beside the pool, with the engine's parameters; None for SQLite."""
    connect: Callable[[], psycopg.Connection[Any]] | None = engine.get_execution_options().get("hhc_connect")
    return connect


def is_transient(error: BaseException) -> bool:
    """Whether the same transaction may succeed later: connection lost, failover, deadlock, lock or pool timeout."""
    if isinstance(error, psycopg.Error):
        return isinstance(error, psycopg.OperationalError | psycopg.InterfaceError) or is_demotion(error)
    if isinstance(error, UnavailableError | sa.exc.OperationalError | sa.exc.InterfaceError | sa.exc.TimeoutError):
        return True
    if isinstance(error, sa.exc.DBAPIError):
        return error.connection_invalidated or is_demotion(error.orig)
    return False


def is_demotion(error: BaseException | None) -> bool:
    """Whether the server says it is not the primary any more: the connection is useless although it still answers."""
    return getattr(error, "sqlstate", None) in _NOT_PRIMARY


def is_conflict(error: BaseException) -> bool:
    """Whether two nodes stored the same at this moment: doing it again finds the other's."""
    return isinstance(error, sa.exc.IntegrityError | psycopg.IntegrityError)


@contextmanager
def _translating() -> Iterator[None]:
    try:
        yield
    except sa.exc.SQLAlchemyError as error:
        if not is_transient(error):
            raise
        raise UnavailableError("The database is away for the moment.") from error


def _connector(settings: Settings) -> Callable[[], psycopg.Connection[Any]]:
    """Return what opens a connection to PostgreSQL, for the pool and beside it."""
    try:
        given = conninfo_to_dict(settings.database_url)
    except psycopg.ProgrammingError as error:
        raise ConfigError(
            "Bad settings: DATABASE_URL cannot be read", {"settings": {"DATABASE_URL": str(error)}}
        ) from None
    parameters: dict[str, Any] = {
        "connect_timeout": CONNECT_TIMEOUT_S,
        "application_name": settings.service_name,
        "target_session_attrs": "read-write",
        # A peer that vanished without a word is noticed in about 15 s, not after two hours.
        "keepalives_idle": 5,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "tcp_user_timeout": 15_000,
        "options": f"-c statement_timeout={STATEMENT_TIMEOUT_MS} -c lock_timeout={LOCK_TIMEOUT_MS}"
        " -c idle_in_transaction_session_timeout=60000 -c timezone=UTC",
    }
    if settings.database_ssl:
        parameters["sslmode"] = "verify-full"
    if settings.database_ssl_root_cert is not None:
        parameters["sslrootcert"] = str(settings.database_ssl_root_cert)
    parameters |= given
    if settings.database_password.get_secret_value():
        parameters["password"] = settings.database_password.get_secret_value()

    def connect() -> psycopg.Connection[Any]:
        return psycopg.connect(**parameters)

    return connect


def _make_postgresql(settings: Settings) -> sa.Engine:
    connect = _connector(settings)
    engine = sa.create_engine(
        "postgresql+psycopg://",
        creator=connect,
        execution_options={"hhc_connect": connect},
        hide_parameters=True,  # what people write stays out of error messages and logs
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
        pool_pre_ping=True,
        pool_recycle=POOL_RECYCLE_S,
        pool_use_lifo=True,
    )

    @event.listens_for(engine, "handle_error")
    def _leave_a_demoted_primary(context: sa.engine.ExceptionContext) -> None:
        if is_demotion(context.original_exception):
            context.is_disconnect = True

    return engine


def _make_sqlite(settings: Settings) -> sa.Engine:
    path = settings.sqlite_path
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise ConfigError(
            f"The data directory {path.parent} cannot be made: {error.strerror}",
            {"settings": {"DATA_DIR": str(error.strerror)}},
        ) from None
    # timeout=0: SQLite's own waiting would block every greenlet of the process.
    engine = sa.create_engine(
        f"sqlite+pysqlite:///{path}",
        connect_args={"timeout": 0},
        hide_parameters=True,
        pool_size=settings.database_pool_size,
        max_overflow=0,
        pool_timeout=POOL_TIMEOUT_S,
    )

    @event.listens_for(engine, "connect")
    def _prepare(connection: sqlite3.Connection, _record: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # we say BEGIN ourselves
        cursor = connection.cursor()
        _patiently(lambda: cursor.execute("PRAGMA journal_mode = WAL"))
        cursor.execute("PRAGMA foreign_keys = ON")
        cursor.execute("PRAGMA synchronous = FULL")  # what is acknowledged survives a power cut
        cursor.close()

    @event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        if connection.get_execution_options().get("hhc_reads"):
            connection.exec_driver_sql("BEGIN")
        else:
            # A deferred BEGIN that writes later fails with SQLITE_BUSY when another has written meanwhile.
            _patiently(lambda: connection.exec_driver_sql("BEGIN IMMEDIATE"))

    return engine


def _patiently(action: Any) -> None:
    """Repeat while the file is locked, for at most ``SQLITE_WAIT_S``."""
    deadline = time.monotonic() + SQLITE_WAIT_S
    while True:
        try:
            action()
        except (sqlite3.OperationalError, sa.exc.OperationalError) as error:
            if "locked" not in str(error) or time.monotonic() >= deadline:
                raise
            time.sleep(SQLITE_RETRY_S)
        else:
            return
