"""A real PostgreSQL cluster of our own: scram passwords, its own port and directory, gone with the test run."""

from __future__ import annotations

import itertools
import re
import secrets
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psycopg

from harness.process import Daemon, DaemonError, Workshop, alive, children_of, free_port, wait_until
from hockey_hub_chat.config import Settings
from hockey_hub_chat.storage import migrate
from hockey_hub_chat.storage.engine import make_engine

WANTED_MAJOR = 15


def find_binaries() -> tuple[Path, int]:
    """Return (directory of the server's programs, major version): 15 when there, else the oldest newer one.

    Raises:
        DaemonError: naming the package to install.
    """
    found: dict[int, Path] = {}
    for path in (*Path("/usr/lib/postgresql").glob("*/bin"), *Path("/usr").glob("pgsql-*/bin")):
        number = re.search(r"(\d+)/bin$", str(path))
        if number and int(number[1]) >= WANTED_MAJOR and (path / "initdb").exists():
            found[int(number[1])] = path
    if not found:
        raise DaemonError("PostgreSQL 15 or newer is not installed: apt-get install postgresql-15")
    major = min(found)
    return found[major], major


class Postgres(Daemon):
    """A cluster with a superuser ``postgres`` and the application's role ``chat_user``.

    Args:
        durable: fsync on, for tests in which durability is the point.
    """

    name = "postgres"

    def __init__(self, workshop: Workshop, *, durable: bool = False) -> None:
        super().__init__(workshop, workshop.directory("postgres"))
        self.account = workshop.account
        self.bin, self.major = find_binaries()
        self.data = self.directory / "data"
        self.port = free_port()
        self.user = "chat_user"
        self.password = secrets.token_urlsafe(12)
        self.admin_password = secrets.token_urlsafe(12)
        self.durable = durable
        self._numbers = itertools.count(1)
        self._backends: list[int] = []
        self._initdb()

    def _initdb(self) -> None:
        secret = self.directory / "superuser"
        secret.touch(mode=0o600)
        secret.write_text(self.admin_password)
        uid, gid = self.account or (None, None)
        if uid is not None and gid is not None:
            secret.chmod(0o644)  # the directory itself is closed to others
        done = subprocess.run(
            [
                *(str(self.bin / "initdb"), "-D", str(self.data), "-U", "postgres", "--pwfile", str(secret)),
                *("-A", "scram-sha-256", "-E", "UTF8", "--locale=C.UTF-8", "--no-instructions", "--no-sync"),
            ],
            cwd=self.directory,
            env=dict(self.environment()),
            user=uid,
            group=gid,
            extra_groups=[] if uid is not None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            raise DaemonError(f"initdb failed:\n{done.stdout}{done.stderr}")

    def command(self) -> Sequence[str]:
        """Return argv of the postmaster."""
        settings = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": str(self.directory),
            "max_connections": "120",
            "shared_buffers": "64MB",
            "timezone": "UTC",
            "log_min_messages": "warning",
        }
        if not self.durable:
            settings |= {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
        return [
            *(str(self.bin / "postgres"), "-D", str(self.data)),
            *(part for key, value in settings.items() for part in ("-c", f"{key}={value}")),
        ]

    def is_ready(self) -> bool:
        """Return whether it takes a query."""
        try:
            self.admin("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def start(self) -> None:
        """Start, after the children of a killed postmaster have left."""
        wait_until(lambda: not any(map(alive, self._backends)), 20, "postgres backends have left")
        first = self.process is None
        super().start()
        if first:
            self.admin(f"CREATE ROLE {self.user} LOGIN PASSWORD '{self.password}'")

    def kill9(self) -> None:
        """``kill -9`` the postmaster: its children find out by themselves, as on a host."""
        self._backends = children_of(self.pid)
        super().kill9()

    def stop(self, number: int = 2, timeout: float = 20) -> int:
        """Stop fast (SIGINT): sessions are ended, nothing is lost."""
        return super().stop(number, timeout)

    def extra_pids(self) -> Sequence[int]:
        """Return the backends, which lead sessions of their own."""
        return children_of(self.pid)

    def url(self, dbname: str) -> str:
        """Return the application's libpq address of a database, password included."""
        return f"postgresql://{self.user}:{self.password}@127.0.0.1:{self.port}/{dbname}"

    def admin(self, sql: str, dbname: str = "postgres") -> list[tuple[Any, ...]]:
        """Run one statement as superuser, outside a transaction, and return its rows."""
        with psycopg.connect(
            host="127.0.0.1",
            port=self.port,
            user="postgres",
            password=self.admin_password,
            dbname=dbname,
            autocommit=True,
            connect_timeout=5,
        ) as connection:
            cursor = connection.execute(sql.encode())
            return cursor.fetchall() if cursor.description else []

    def create_database(self, template: str = "template0") -> str:
        """Make a fresh database owned by the application's role and return its address."""
        name = f"t{next(self._numbers)}"
        self.admin(f"CREATE DATABASE {name} OWNER {self.user} TEMPLATE {template}")
        return self.url(name)

    def migrated_template(self) -> str:
        """Make a database, bring it to the newest schema with the application's own migrations, and return its name."""
        url = self.create_database()
        engine = make_engine(Settings(database_url=url))
        try:
            migrate.upgrade(engine)
        finally:
            engine.dispose()
        return url.rpartition("/")[2]

    def drop_database(self, url: str) -> None:
        """Drop a database of ours, whoever is still connected to it."""
        self.admin(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")
