"""``hockey-hub-chat serve``: the application alone, for trying it and for developing the page.

Looks at everything that could stand in the way before it makes anything, then prepares the data directory and becomes a
gunicorn of one worker.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import tempfile
from pathlib import Path
from typing import NoReturn

import click

from hockey_hub_chat import compose
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ConfigError
from hockey_hub_chat.services import people
from hockey_hub_chat.storage import migrate, users
from hockey_hub_chat.storage.engine import reading

DEMO_PEOPLE = (("anna", "Anna Lind"), ("ben", "Ben Weber"))


def run(settings: Settings) -> NoReturn:
    """Prepare and serve; this process becomes the server.

    Raises:
        ConfigError: a port is taken, or the data directory cannot be used.
        UnavailableError: the database named by the settings is away.
    """
    port = _find_port("PORT", settings.host, settings.port)
    metrics_port = settings.metrics_port
    if settings.enable_metrics:
        is_chosen = "metrics_port" in settings.model_fields_set
        metrics_port = _find_port("METRICS_PORT", settings.metrics_host, metrics_port, may_move=not is_chosen)
    data_dir = settings.data_dir.absolute()
    _make_directory(data_dir)
    made = _prepare(settings.model_copy(update={"data_dir": data_dir}))
    shown = f"[{settings.host}]" if ":" in settings.host else settings.host
    click.echo(f"Hockey Hub Chat: http://{shown}:{port}/  (data in {data_dir}, Ctrl-C to stop)")
    if made:
        click.echo("Two people to try it with; their passwords are shown this once:")
        for name, password in made:
            click.echo(f"  {name:<8} password {password}")
    sys.stdout.flush()
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(
            filter(None, (str(Path(__file__).resolve().parent.parent), os.environ.get("PYTHONPATH")))
        ),
        "HOST": settings.host,
        "PORT": str(port),
        "METRICS_PORT": str(metrics_port),
        "DATA_DIR": str(data_dir),
        # The in-process bus reaches one process.
        "WEB_CONCURRENCY": str(settings.web_concurrency if settings.redis_url else 1),
    }
    argv = ["gunicorn", "-c", "python:hockey_hub_chat.gunicorn_conf", "hockey_hub_chat.web.app:create_app()"]
    os.execve(sys.executable, [sys.executable, "-m", *argv], environment)  # noqa: S606  # no shell, our own interpreter


def _prepare(settings: Settings) -> list[tuple[str, str]]:
    """Bring the database up and, where nobody is, make two people; return their names and passwords."""
    ctx = compose.build(settings, with_realtime=False)
    try:
        current, head = migrate.current_and_head(ctx.engine)
        if current != head:
            migrate.upgrade(ctx.engine)
        with reading(ctx.engine) as conn:
            is_empty = users.count(conn) == 0
        made: list[tuple[str, str]] = []
        for name, shown in DEMO_PEOPLE if is_empty else ():
            password = secrets.token_urlsafe(9)
            people.add(ctx, name, shown, password)
            made.append((name, password))
        return made
    finally:
        ctx.engine.dispose()


def _make_directory(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        with tempfile.TemporaryFile(dir=path) as probe:
            probe.write(b"room for a little")
    except OSError as error:
        what = f"{path} cannot be written: {error.strerror}"
        raise ConfigError(f"The data directory {what}; set DATA_DIR.", {"settings": {"DATA_DIR": what}}) from None


def _find_port(name: str, host: str, port: int, *, may_move: bool = False) -> int:
    """Return the port if it can be had, or any free one for 0 (or when it ``may_move``)."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with contextlib.closing(socket.socket(family, kind, protocol)) as attempt:
            attempt.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            attempt.bind(address)
            found: int = attempt.getsockname()[1]
            return found
    except OSError as error:
        if may_move:
            return _find_port(name, host, 0)
        what = f"port {port} of {host} cannot be had: {error.strerror}"
        raise ConfigError(f"{what[0].upper()}{what[1:]}; set {name} to another.", {"settings": {name: what}}) from None
