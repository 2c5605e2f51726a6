"""The application as it runs on a host: a gunicorn master with gevent workers, settings by environment."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from harness.http import Api
from harness.people import People, Person
from harness.process import (
    Daemon,
    DaemonError,
    Workshop,
    alive,
    children_of,
    free_port,
    tail,
    wait_until,
)

#: Limits high enough to be out of the way; tests of the limits set their own.
OUT_OF_THE_WAY = {"MESSAGE_RATE_LIMIT": "1000000", "RATE_LIMIT_MAX_REQUESTS": "1000000", "LOGIN_RATE_LIMIT": "1000000"}


class Keys:
    """An RS256 key pair on disk, as a site has it.

    Args:
        directory: where ``jwt_private.pem`` and ``jwt_public.pem`` are written, readable to the application.
    """

    def __init__(self, directory: Path, account: tuple[int, int] | None) -> None:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        self.private_pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()
        self.public_pem = (
            key.public_key()
            .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
            .decode()
        )
        self.private_path = directory / "jwt_private.pem"
        self.public_path = directory / "jwt_public.pem"
        for path, text in ((self.private_path, self.private_pem), (self.public_path, self.public_pem)):
            path.touch(mode=0o600)
            path.write_text(text)
            if account is not None:
                os.chown(path, *account)


class ChatServer(Daemon):
    """One gunicorn on its own port.

    Args:
        database_url: a migrated database.
        bus: settings of the bus (``RedisServer.env``); none is the in-process bus.
        workers: worker processes.
        env: further settings; a value of ``None`` removes one.
        unix_socket: listen on ``<directory>/app.sock`` instead of a port.
    """

    name = "chat"
    start_timeout = 40.0
    #: set by tests in which a traceback in the log is part of what happens
    expect_errors = False

    def __init__(
        self,
        workshop: Workshop,
        keys: Keys,
        database_url: str,
        bus: Mapping[str, str] | None = None,
        *,
        workers: int = 2,
        env: Mapping[str, str | None] | None = None,
        unix_socket: bool = False,
    ) -> None:
        super().__init__(workshop, workshop.directory("chat", mode=0o755))
        self.keys = keys
        self.database_url = database_url
        self.workers = workers
        self.port = free_port()
        self.metrics_port = free_port()
        self.socket_path = self.directory / "app.sock" if unix_socket else None
        self.people = People(database_url)
        multiproc = self.directory / "metrics"
        multiproc.mkdir()
        if workshop.account is not None:
            os.chown(multiproc, *workshop.account)
        self.settings: dict[str, str | None] = {
            "DATABASE_URL": database_url,
            "DATABASE_POOL_SIZE": "5",
            "HOST": "127.0.0.1",
            "PORT": str(self.port),
            "BIND": f"unix:{self.socket_path}" if self.socket_path else None,
            "METRICS_HOST": "127.0.0.1",
            "METRICS_PORT": str(self.metrics_port),
            "PROMETHEUS_MULTIPROC_DIR": str(multiproc),
            "WEB_CONCURRENCY": str(workers),
            "JWT_PRIVATE_KEY_PATH": str(keys.private_path),
            "JWT_PUBLIC_KEY_PATH": str(keys.public_path),
            "APP_ENV": "production",
            "COOKIE_SECURE": "false",  # the tests speak plain HTTP; the flag itself has a test of its own
            "PUBLIC_URL": f"http://127.0.0.1:{self.port}",
            "DATA_DIR": str(self.directory),
            "LOG_FORMAT": "json",
            **OUT_OF_THE_WAY,
            **(bus or {}),
            **(env or {}),
        }

    @property
    def base_url(self) -> str:
        """Where browsers and programs find it."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def origin(self) -> str:
        """The site's own Origin: the same for all servers of one site."""
        return self.settings["PUBLIC_URL"] or self.base_url

    @property
    def address(self) -> tuple[str, int] | str:
        """The address of the application's listener: (host, port), or the path of its unix socket."""
        return str(self.socket_path) if self.socket_path else ("127.0.0.1", self.port)

    def command(self) -> Sequence[str]:
        """Return argv: the start command of every installation."""
        return [
            *(*self.workshop.drop, sys.executable, "-m", "gunicorn", "-c", "python:hockey_hub_chat.gunicorn_conf"),
            "hockey_hub_chat.web.app:create_app()",
        ]

    def environment(self) -> Mapping[str, str]:
        """Return the settings."""
        return {
            **self.workshop.python_environment,
            **{key: value for key, value in self.settings.items() if value is not None},
        }

    def api(self, origin: str | None = "own") -> Api:
        """Return a fresh HTTP client of the application (no cookies yet)."""
        return Api(self.address, origin=self.origin if origin == "own" else origin)

    def metrics_api(self) -> Api:
        """Return an HTTP client of the metrics listener."""
        return Api(("127.0.0.1", self.metrics_port), origin=None)

    def metric(self, name: str) -> float:
        """Return the sum of a metric over its labels."""
        text = self.metrics_api().get("/metrics").expect(200).body.decode()
        found = re.findall(rf"^{name}(?:\{{[^}}]*\}})? ([0-9.e+-]+)$", text, re.MULTILINE)
        assert found, f"no {name} in\n{text[:2000]}"
        return sum(map(float, found))

    def is_ready(self) -> bool:
        """Return whether /ready says 200."""
        try:
            return self.api().get("/ready").status == 200
        except (OSError, HTTPException):
            return False

    def wait_all_workers(self, timeout: float = 20) -> list[int]:
        """Return the pids of the workers once there are as many as wanted."""
        wait_until(lambda: len(self.worker_pids()) == self.workers, timeout, f"{self.workers} workers")
        return self.worker_pids()

    def worker_pids(self) -> list[int]:
        """Return the living workers, oldest first."""
        return children_of(self.pid) if self.running else []

    @contextlib.contextmanager
    def only_worker(self, index: int) -> Iterator[None]:
        """Freeze all workers but one: what connects inside the block is on that one, whoever is quicker otherwise."""
        others = [pid for n, pid in enumerate(self.wait_all_workers()) if n != index]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    @staticmethod
    def lives(pid: int) -> bool:
        """Return whether a process lives."""
        return alive(pid)

    def kill9_worker(self, index: int = 0) -> int:
        """``kill -9`` one worker and return its pid; gunicorn starts another."""
        pid = self.wait_all_workers()[index]
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: pid not in self.worker_pids(), 10, f"worker {pid} is gone")
        return pid

    def kill9_master(self, *, supervised: bool = True) -> None:
        """``kill -9`` the master. A supervisor then does what systemd does: end the rest of the unit, start it again.

        Args:
            supervised: False leaves the workers orphaned and starts nothing.
        """
        workers = self.worker_pids()
        self.kill9()
        if not supervised:
            return
        for pid in workers:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
        wait_until(lambda: not any(map(alive, workers)), 10, "orphaned workers are gone")
        self.start()

    def restart(self) -> None:
        """Stop politely (drain) and start again on the same port."""
        self.stop(timeout=40)
        self.start()

    def add_user(self, username: str, password: str = "correct horse", *, admin: bool = False) -> Person:
        """Make a person through the command line, as an operator does (seconds; see ``people`` for many at once)."""
        argv = ["user", "add", username, "--display-name", username.title(), "--password-stdin", "--if-missing"]
        done = self.cli(*argv, *(["--admin"] if admin else []), stdin=password)
        if done.returncode:
            raise DaemonError(f"user add failed:\n{done.stdout}{done.stderr}")
        return Person(self.people.id_of(username), username, password)

    def cli(self, *argv: str, stdin: str = "", timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``hockey-hub-chat …`` with this server's settings."""
        return subprocess.run(
            [*self.workshop.drop, sys.executable, "-m", "hockey_hub_chat.cli", *argv],
            input=stdin,
            cwd=self.directory,
            env=dict(self.environment()),
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
        )

    def assert_quiet(self, since: int = 0) -> None:
        """Assert that nothing was logged as a traceback, an error or a Python warning.

        Args:
            since: length of the log at the start of what is looked at (``len(server.logs())``).
        """
        text = self.logs()[since:]
        for bad in (
            "Traceback (most recent call last)",
            '"level":"error"',
            '"level": "error"',
            "[ERROR]",
            "[CRITICAL]",
        ):
            assert bad not in text, f"{bad!r} in the log of the server:\n{text[-6000:]}"

    def destroy(self) -> None:
        """Kill the session and remove what it left."""
        super().destroy()
        self.people.close()
        shutil.rmtree(self.directory, ignore_errors=True)


def port_is_open(port: int) -> bool:
    """Return whether something listens on the port."""
    with socket.socket() as probe:
        probe.settimeout(1)
        return probe.connect_ex(("127.0.0.1", port)) == 0


__all__ = ["ChatServer", "Keys", "port_is_open", "tail"]
