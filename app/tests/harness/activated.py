"""The application under a supervisor that holds its listening sockets, as systemd does: a restart refuses nobody."""

from __future__ import annotations

import fcntl
import socket
from collections.abc import Sequence
from typing import Any

from harness.chat import ChatServer

BACKLOG = 4096

#: sd_listen_fds(3): the sockets are 3, 4, ..., and meant for the process LISTEN_PID names, which only it can know.
_HAND_OVER = (
    "main=$1 metrics=$2; shift 2; export LISTEN_PID=$$ LISTEN_FDS=2; "
    'exec "$@" 3<&"$main" 4<&"$metrics" {main}<&- {metrics}<&-'
)


class ActivatedServer(ChatServer):
    """A ``ChatServer`` whose sockets stay open over restarts; who comes in between waits in the backlog."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.listeners = [_listen(self.port), _listen(self.metrics_port)]

    def command(self) -> Sequence[str]:
        """Return argv, by way of a shell that puts the sockets where they are looked for."""
        numbers = [str(listener.fileno()) for listener in self.listeners]
        return ["bash", "-c", _HAND_OVER, "hand-over", *numbers, *super().command()]

    def inherited(self) -> Sequence[int]:
        """Return the listening sockets."""
        return [listener.fileno() for listener in self.listeners]

    def destroy(self) -> None:
        """Kill the session, close the sockets, remove what it left."""
        super().destroy()
        for listener in self.listeners:
            listener.close()


def _listen(port: int) -> socket.socket:
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(BACKLOG)
        # far from 3 and 4, which the shell is about to give away
        return socket.socket(fileno=fcntl.fcntl(listener, fcntl.F_DUPFD_CLOEXEC, 10))
