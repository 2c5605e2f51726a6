"""The command line, ``hockey-hub-chat``: what operators and systemd run. Every failure is one sentence and an exit status.

Exit status: 0 done; 1 no, or refused; 2 bad settings or usage; 69 a part it needs is away (sysexits' EX_UNAVAILABLE).
Passwords come by standard input, never in argv, where everybody could read them.
"""

from __future__ import annotations

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import click
import sqlalchemy as sa

from hockey_hub_chat import __version__, compose, config, embedded, logs, reference, tokens
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ChatError, ConfigError, UnavailableError
from hockey_hub_chat.events import frames_schema
from hockey_hub_chat.services import account, people
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import migrate, users
from hockey_hub_chat.storage.engine import make_engine, reading

EXIT_NO = 1
EXIT_SETTINGS = 2
EXIT_UNAVAILABLE = 69
_HEALTH_TIMEOUT_SECONDS = 5


class _Commands(click.Group):
    """Turns errors of ours into a sentence and an exit status."""

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ConfigError as error:
            _fail(error.message, EXIT_SETTINGS)
        except UnavailableError as error:
            _fail(_with_cause(error), EXIT_UNAVAILABLE)
        except ChatError as error:
            _fail(error.message, EXIT_NO)
        except sa.exc.OperationalError as error:
            _fail(f"The database cannot be used: {_first_line(error.orig)}", EXIT_UNAVAILABLE)
        except sa.exc.ProgrammingError as error:
            _fail(f"The schema is not ready (run `hockey-hub-chat migrate`): {_first_line(error.orig)}", EXIT_NO)


@click.group(cls=_Commands)
@click.version_option(__version__, prog_name="hockey-hub-chat")
def main() -> None:
    """Hockey Hub Chat."""
    os.umask(0o077)  # what we make is nobody else's to read


@main.command()
@click.option("--host", help="Address to listen on [HOST, else 127.0.0.1].")
@click.option("--port", type=click.IntRange(0, 65535), help="Port to listen on, 0 for any [PORT, else 3002].")
def serve(host: str | None, port: int | None) -> None:
    """Run everything in one process: SQLite, in-process bus, local files."""
    given = {"host": host, "port": port}
    settings = config.load(**{name: value for name, value in given.items() if value is not None})
    _quiet(settings)
    embedded.run(settings)


@main.command("migrate")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 when migrations are waiting.")
def migrate_command(check: bool) -> None:
    """Bring the database to the schema of this release."""
    settings = config.load()
    _quiet(settings)
    engine = make_engine(settings)
    current, head = migrate.current_and_head(engine)
    if current is not None and not migrate.is_known(current):
        click.echo(f"The schema is at {current}, of a newer release; it fits this one ({head}) too.")
    elif current == head:
        click.echo(f"The schema is at {head}.")
    elif check:
        click.echo(f"The schema is at {current or 'nothing'}; {head} is waiting.")
        sys.exit(EXIT_NO)
    else:
        migrate.upgrade(engine)
        click.echo(f"The schema went from {current or 'nothing'} to {head}.")


@main.command("settings")
@click.option("--describe", is_flag=True, help="Print the reference of all settings instead (Markdown).")
def settings_command(describe: bool) -> None:
    """Show every setting in effect; of secrets only whether they are set. Those given are marked with *."""
    if describe:
        click.echo(reference.markdown(), nl=False)
        return
    for name, value, is_given in reference.in_effect(config.load()):
        click.echo(f"{'*' if is_given else ' '} {name}={value}")


@main.group()
def user() -> None:
    """Accounts."""


@user.command("add")
@click.argument("name")
@click.option("--display-name", required=True, help="How others see them.")
@click.option("--admin", is_flag=True, help="May remove anybody from groups and see details of the service.")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@click.option("--if-missing", is_flag=True, help="Succeed without a change when the name is taken.")
def user_add(name: str, display_name: str, admin: bool, password_stdin: bool, if_missing: bool) -> None:
    """Make an account."""
    if password_stdin:
        password = sys.stdin.readline().rstrip("\r\n")
    elif sys.stdin.isatty():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True)
    else:
        raise click.UsageError("Give the password with --password-stdin.")
    ctx = _context()
    if if_missing:
        with reading(ctx.engine) as conn:
            if users.find(conn, name) is not None:
                click.echo(f"{name} is there already.")
                return
    made = people.add(ctx, name, display_name, password, is_admin=admin)
    click.echo(f"Made {users.normalise(name)} (id {made}).")


@user.command("disable")
@click.argument("name")
def user_disable(name: str) -> None:
    """Close an account; its sessions end at the next request, its sockets within 15 seconds."""
    people.disable(_context(), name)
    click.echo(f"Disabled {users.normalise(name)}.")


@user.command("list")
@click.option("--json", "as_json", is_flag=True, help="One JSON list instead of a table.")
def user_list(as_json: bool) -> None:
    """Show every account."""
    found = people.list_all(_context())
    if as_json:
        keys = ("id", "username", "display_name", "is_admin")
        rows = [
            {
                **{key: getattr(one, key) for key in keys},
                "disabled_at": one.disabled_at.isoformat() if one.disabled_at else None,
                "created_at": one.created_at.isoformat(),
            }
            for one in found
        ]
        click.echo(json.dumps(rows))
        return
    for one in found:
        state = "disabled" if one.disabled_at else "admin" if one.is_admin else ""
        click.echo(f"{one.id:>8}  {one.username:<24}  {one.display_name:<32}  {state}".rstrip())


@main.command("prune-sessions")
def prune_sessions() -> None:
    """Remove log-ins that ended or ran out more than 30 days ago."""
    removed = account.prune_sessions(_context())
    click.echo(
        f"Removed {removed} log-in{'' if removed == 1 else 's'} that ended over {account.KEEP_ENDED.days} days ago."
    )


@main.group()
def probe() -> None:
    """Throw-away accounts for proving that a site works."""


@probe.command("begin")
def probe_begin() -> None:
    """Make two probe accounts and a group of both; prints JSON with their passwords."""
    made, conversation_id = people.begin_probe(_context())
    listed = [{"id": key, "username": name, "password": password} for key, name, password in made]
    click.echo(json.dumps({"users": listed, "conversation_id": conversation_id}))


@probe.command("end")
def probe_end() -> None:
    """Remove every probe account with what it made."""
    click.echo(json.dumps({"removed": people.end_probes(_context())}))


@main.group()
def keys() -> None:
    """The keys that sign access tokens."""


@keys.command("generate")
@click.option("--dir", "directory", required=True, type=click.Path(file_okay=False, path_type=Path))
@click.option("--replace", is_flag=True, help="Replace a key that is there; whoever is logged in refreshes.")
def keys_generate(directory: Path, replace: bool) -> None:
    """Make an RSA key pair; a pair that is there is kept."""
    try:
        private, public = tokens.generate_keys(directory, replace=replace)
    except OSError as error:
        _fail(f"{directory} cannot be written: {error.strerror}.", EXIT_NO)
    click.echo(f"{private}\n{public}")


@main.group("config")
def config_group() -> None:
    """The settings."""


@config_group.command("check")
def config_check() -> None:
    """Read the settings, secrets and keys; connect to nothing."""
    settings = config.load()
    compose.build(settings, with_realtime=False)
    files = {
        "DATABASE_SSL_ROOT_CERT": settings.database_ssl_root_cert,
        "REDIS_CA_CERT": settings.redis_ca_cert,
    }
    missing = {name: f"{path} cannot be read" for name, path in files.items() if path and not os.access(path, os.R_OK)}
    if missing:
        listed = "; ".join(f"{name}: {what}" for name, what in missing.items())
        raise ConfigError(f"Bad settings: {listed}", {"settings": missing})
    click.echo("The settings are good.")


@main.command()
def health() -> None:
    """Ask the running application whether it is ready."""
    settings = config.load()
    address = settings.bind or f"{settings.host}:{settings.port}"
    try:
        status, body = _ask(settings, "/ready")
    except (OSError, http.client.HTTPException) as error:
        _fail(f"Nothing answers at {address}: {error}.", EXIT_UNAVAILABLE)
    click.echo(body)
    if status != http.client.OK:
        sys.exit(EXIT_NO)


@main.group()
def schema() -> None:
    """Contracts for programs."""


@schema.command("frames")
def schema_frames() -> None:
    """Print the JSON Schema of the WebSocket frames."""
    click.echo(json.dumps(frames_schema(), indent=2, sort_keys=True))


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=_HEALTH_TIMEOUT_SECONDS)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


def _ask(settings: Settings, path: str) -> tuple[int, str]:
    connection: http.client.HTTPConnection
    if settings.bind.startswith("unix:"):
        connection = _UnixConnection(settings.bind.removeprefix("unix:"))
    else:
        host, _, port = (settings.bind or f"{settings.host}:{settings.port}").rpartition(":")
        connection = http.client.HTTPConnection(host.strip("[]"), int(port), timeout=_HEALTH_TIMEOUT_SECONDS)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status, answer.read().decode(errors="replace").strip()
    finally:
        connection.close()


def _context() -> AppContext:
    settings = config.load()
    _quiet(settings)
    return compose.build(settings, with_realtime=False)


def _quiet(settings: Settings) -> None:
    """Log warnings only: what a command did is what it prints."""
    logs.configure(settings.model_copy(update={"log_level": "warning"}))


def _with_cause(error: UnavailableError) -> str:
    cause = getattr(error.__cause__, "orig", None)
    return f"{error.message} ({_first_line(cause)})" if cause is not None else error.message


def _first_line(error: object) -> str:
    return str(error).strip().split("\n", 1)[0]


def _fail(message: str, status: int) -> NoReturn:
    click.echo(f"hockey-hub-chat: {message}", err=True)
    sys.exit(status)


if __name__ == "__main__":
    run: Callable[[], None] = main
    run()
