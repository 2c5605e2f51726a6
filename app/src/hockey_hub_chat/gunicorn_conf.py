"""gunicorn's configuration, and the worker that leaves politely.

Started as ``gunicorn -c python:hockey_hub_chat.gunicorn_conf 'hockey_hub_chat.web.app:create_app()'``. Listens on ``BIND`` (or
``HOST:PORT``) and the metrics address; under systemd socket activation (``LISTEN_FDS``) gunicorn takes those sockets instead.
Imported by the master before gevent patches the workers: it must import nothing that opens sockets or makes metrics.
"""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import shutil
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import gevent
from gunicorn.workers.ggevent import GeventWorker

from hockey_hub_chat.config import load
from hockey_hub_chat.errors import ConfigError

try:
    _settings = load()
except ConfigError as _error:
    raise SystemExit(_error.message) from None  # one sentence instead of gunicorn's traceback

#: Leaving: how long sockets stay open after the drain frame, so that what is on its way is read, committed and
#: acknowledged; how long the writer may take for it; and how long a close may take.
DRAIN_SECONDS = 0.6
FLUSH_SECONDS = 2.0
CLOSE_SECONDS = 1.0


class ChatWorker(GeventWorker):  # type: ignore[misc]  # gunicorn is published without types
    """A gevent worker whose SIGTERM drains: sockets hear of it, get what they are owed, and close with 1012."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._idle: set[socket.socket] = set()
        self._leaving: gevent.Greenlet | None = None
        self.quick: Any = None  # web.handshake.QuickHandshake, once the application is loaded
        self.metrics_listeners: frozenset[Any] = frozenset()
        self.left = False

    def handle_exit(self, sig: int, frame: Any) -> None:
        """Begin to leave. Runs in a signal handler: nothing here may wait."""
        if self._leaving is None:
            self.alive = False  # gunicorn's own loop now stops accepting, and waits for what is left
            self._leaving = gevent.spawn(self._leave)

    def run(self) -> None:
        """Serve until told to leave, and until that is done."""
        super().run()
        if self._leaving is not None:
            self._leaving.join(DRAIN_SECONDS + FLUSH_SECONDS + CLOSE_SECONDS)
            self.left = True

    def notify(self) -> None:
        """Tell the master that we live; leave when there is none any more."""
        if self.ppid != os.getppid():
            if self._leaving is None:
                self.log.warning("The master is gone: worker %s leaves", self.pid)
                self.handle_exit(0, None)
            self.tmp.notify()
            return
        super().notify()

    def handle(self, listener: Any, client: Any, addr: Any) -> None:
        """Serve one connection; remembered while it waits for a request, so that leaving need not wait for it."""
        self._idle.add(client)
        try:
            if self.quick is not None and listener not in self.metrics_listeners and self.quick.try_open(client):
                return
            super().handle(listener, client, addr)
        finally:
            self._idle.discard(client)

    def handle_request(self, listener_name: Any, req: Any, sock: Any, addr: Any) -> Any:
        """Serve one request."""
        self._idle.discard(sock)
        try:
            return super().handle_request(listener_name, req, sock, addr)
        finally:
            self._idle.add(sock)
            if not self.alive:
                self._expect_nothing(sock)

    def _leave(self) -> None:
        from hockey_hub_chat import compose  # not in the master: see the module

        context = getattr(self, "chat_context", None)
        if context is None:  # told to leave before it had begun
            return
        compose.begin_drain(context)
        if context.hub.size:
            gevent.sleep(DRAIN_SECONDS)
        compose.finish_drain(context, flush_seconds=FLUSH_SECONDS, close_seconds=CLOSE_SECONDS)
        deadline = time.monotonic() + CLOSE_SECONDS
        while context.reactor.size and time.monotonic() < deadline:  # gunicorn knows nothing of adopted sockets
            gevent.sleep(0.02)
        for client in tuple(self._idle):
            self._expect_nothing(client)

    @staticmethod
    def _expect_nothing(client: Any) -> None:
        """End the wait for a next request on a kept-alive connection; what has arrived is still served."""
        with contextlib.suppress(OSError):  # it may have gone by itself
            # the socket beneath gevent's: its reader then sees the stream end, not an error that would be logged
            client._sock.shutdown(socket.SHUT_RD)


def _is_metrics(listener: Any) -> bool:
    """Whether a listening socket is that of the metrics, which answers nothing else."""
    address = listener.getsockname()
    return isinstance(address, tuple) and bool(address[1] == _settings.metrics_port)


def _bind() -> list[str]:
    main = _settings.bind or f"{_settings.host}:{_settings.port}"
    if not _settings.enable_metrics:
        return [main]
    return [main, f"{_settings.metrics_host}:{_settings.metrics_port}"]


def on_starting(server: Any) -> None:
    """Start counting at zero: files of an earlier master would be added to ours."""
    directory = Path(os.environ["PROMETHEUS_MULTIPROC_DIR"])
    directory.mkdir(parents=True, exist_ok=True)
    for stale in directory.glob("*.db"):
        stale.unlink(missing_ok=True)


def post_worker_init(worker: Any) -> None:
    """Start the greenlets of this worker."""
    from hockey_hub_chat import compose
    from hockey_hub_chat.web.handshake import QuickHandshake

    worker.chat_context = worker.wsgi.extensions["chat"]
    compose.start(worker.chat_context)
    worker.metrics_listeners = frozenset(filter(_is_metrics, worker.sockets))
    worker.quick = QuickHandshake(worker.chat_context.settings, worker.wsgi.extensions["chat_door"])
    # What was loaded stays: the collector need not look at it again, nor copy its pages from the master.
    gc.collect()
    gc.freeze()


def child_exit(server: Any, worker: Any) -> None:
    """Forget the live gauges of a worker that ended, however it ended; what it counted stays.

    What ``prometheus_client.multiprocess.mark_process_dead`` does, without importing it into the master: its locks would be
    made before gevent patches them, and inherited by every later worker.
    """
    for gauge in Path(os.environ["PROMETHEUS_MULTIPROC_DIR"]).glob(f"gauge_live*_{worker.pid}.db"):
        gauge.unlink(missing_ok=True)


def worker_exit(server: Any, worker: Any) -> None:
    """Let go of the database and the bus."""
    context = getattr(worker, "chat_context", None)
    if context is None or worker.pid != os.getpid():
        return
    from hockey_hub_chat import compose

    compose.stop(context)
    if worker.left:
        # Taking the interpreter apart costs half a second of CPU, seconds on a busy host, and nothing needs it any more.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def on_exit(server: Any) -> None:
    """Remove what we made up."""
    if _made_directory is not None:
        shutil.rmtree(_made_directory, ignore_errors=True)


_made_directory: str | None = None
if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
    if _settings.prometheus_multiproc_dir is None:
        _made_directory = tempfile.mkdtemp(prefix="hockey-hub-chat-metrics-")
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = _made_directory or str(_settings.prometheus_multiproc_dir)

bind = _bind()
workers = _settings.web_concurrency
worker_class = "hockey_hub_chat.gunicorn_conf.ChatWorker"
# Sockets, and room for the requests beside them.
worker_connections = _settings.max_connections_per_worker + 500
graceful_timeout = _settings.graceful_timeout_seconds
# A worker that gives no sign of life for so long hangs, and is replaced.
timeout = 60
# Longer than nginx keeps its idle connections to us, so that it is never we who close one it is about to use.
keepalive = 75
preload_app = False
# Nobody needs a second way in.
control_socket_disable = True
accesslog = None
errorlog = "-"
loglevel = _settings.log_level
proc_name = "hockey-hub-chat"
forwarded_allow_ips = "127.0.0.1,::1"
