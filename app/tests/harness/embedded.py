"""The application alone, as ``hockey-hub-chat serve`` starts it: SQLite, in-process bus, files in one directory."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from http.client import HTTPException
from pathlib import Path

from harness.http import Api
from harness.process import Daemon, Workshop, free_port


class Embedded(Daemon):
    """One embedded server, run by an ordinary user.

    Args:
        env: settings; a value of ``None`` removes one.
    """

    name = "embedded"

    def __init__(self, workshop: Workshop, env: Mapping[str, str | None] | None = None) -> None:
        super().__init__(workshop, workshop.directory("home"))
        self.port = free_port()
        self.socket_path: Path | None = None
        self.data = self.directory / "data"
        self.settings: dict[str, str | None] = {
            "HOME": str(self.directory),
            "DATA_DIR": str(self.data),
            "PORT": str(self.port),
            "METRICS_PORT": str(free_port()),
            "MESSAGE_RATE_LIMIT": "1000000",
            "RATE_LIMIT_MAX_REQUESTS": "1000000",
            **(env or {}),
        }

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [*self.workshop.drop, sys.executable, "-m", "hockey_hub_chat.cli", "serve"]

    def environment(self) -> Mapping[str, str]:
        """Return the settings and nothing of the surroundings."""
        return {
            **self.workshop.python_environment,
            **{key: value for key, value in self.settings.items() if value is not None},
        }

    @property
    def address(self) -> tuple[str, int] | str:
        """Where HTTP is answered."""
        return ("127.0.0.1", self.port)

    @property
    def origin(self) -> str:
        """Its own Origin."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def database_url(self) -> str:
        """The database it made."""
        (found,) = self.data.glob("*.sqlite3")
        return f"sqlite:///{found}"

    def api(self) -> Api:
        """Return a fresh HTTP client."""
        return Api(self.address, origin=self.origin)

    def is_ready(self) -> bool:
        """Return whether /ready says 200."""
        try:
            return self.api().get("/ready").status == 200
        except (OSError, HTTPException):
            return False

    def refuses(self, timeout: float = 20) -> tuple[int, str]:
        """Start it where it cannot run; returns (exit status, everything it said)."""
        before = len(self.logs())
        self.spawn()
        code = self._reap(timeout)
        self._forget()
        return code, self.logs()[before:]

    def files(self) -> list[str]:
        """Return every file and directory it has made, relative to its home."""
        found = []
        for folder, directories, names in os.walk(self.directory):
            found += [os.path.relpath(os.path.join(folder, name), self.directory) for name in (*directories, *names)]
        return sorted(name for name in found if name != self.log_path.name)
