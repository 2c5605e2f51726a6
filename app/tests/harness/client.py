"""A client that does what docs/protocol.md asks of one, and writes down everything it was told.

It knows nothing of the application's code. One background thread per client keeps a connection: connect, ``hello``,
``resume`` with the newest seqs it holds, send what is unanswered again, read; on a close wait and begin again. What the
history checker needs is in ``acks``, ``connections`` and ``sent``.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import random
import socket
import struct
import threading
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from harness.http import Api
from harness.people import Person


class AwayError(OSError):
    """The server said 502 or 503: come back later."""


#: What a fault may do to a request or a handshake; everything else is a finding.
NETWORK_TROUBLE = (OSError, HTTPException, InvalidHandshake, InvalidMessage, ConnectionClosed, EOFError)


class Site(Protocol):
    """What a client needs to know of a server."""

    port: int
    socket_path: Path | None

    @property
    def address(self) -> tuple[str, int] | str:
        """Where HTTP is answered."""

    @property
    def origin(self) -> str:
        """Its own Origin."""

    def api(self) -> Api:
        """Return a fresh HTTP client."""


@dataclass
class Sent:
    """A message this client wants stored."""

    client_id: str
    conversation_id: int
    body: str
    order: int
    at: float = 0.0
    attempts: int = 0


@dataclass
class Connection:
    """What one WebSocket brought, in order of arrival."""

    number: int
    cursors: dict[int, int]
    frames: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    close_code: int | None = None
    close_reason: str = ""
    resumed: bool = False

    def of_type(self, *types: str) -> list[dict[str, Any]]:
        """Return the frames of these types."""
        return [frame for frame in self.frames if frame["type"] in types]


def open_socket(server: Site, api: Api | None, *, origin: str | None = "own", **options: Any) -> ClientConnection:
    """Open ``/ws`` with the cookies of ``api``; nothing is sent yet. Closing is quick: the dead answer nothing."""
    headers = {}
    if api is not None and "hhc_access" in api.cookies:
        headers["Cookie"] = f"hhc_access={api.cookies['hhc_access']}"
    if server.socket_path is not None:
        raw = socket.socket(socket.AF_UNIX)
        raw.settimeout(10)
        raw.connect(str(server.socket_path))
    else:
        raw = socket.create_connection(("127.0.0.1", server.port), timeout=10)
    raw.settimeout(None)
    settings: dict[str, Any] = {
        "additional_headers": headers,
        "origin": server.origin if origin == "own" else origin,
        "open_timeout": 10,
        "close_timeout": 2,
        "ping_interval": None,
        "compression": None,
        "max_size": 2**22,
        "proxy": None,
        **options,
    }
    opened: ClientConnection = connect(f"ws://127.0.0.1:{server.port}/ws", sock=raw, **settings)
    return opened


class ChatClient:
    """One person on one device.

    Args:
        servers: where to connect; after a close the next one is tried.
        person: who logs in.
        seed: of the waiting times.
    """

    def __init__(self, servers: Sequence[Site], person: Person, *, seed: int = 0, max_wait: float = 1.0) -> None:
        self.servers = itertools.cycle(servers)
        self.server = next(self.servers)
        self.person = person
        self.api = self.server.api()
        self.random = random.Random(f"{seed}:{person.username}")  # noqa: S311  # waiting times, not secrets
        self.max_wait = max_wait
        self.connections: list[Connection] = []
        self.acks: list[tuple[str, int, int]] = []
        self.refused: list[dict[str, Any]] = []
        self.sent: dict[str, Sent] = {}
        self.pending: dict[str, Sent] = {}
        self.cursors: dict[int, int] = {}
        self.failure: BaseException | None = None
        self._orders = itertools.count()
        self._socket: ClientConnection | None = None
        self._changed = threading.Condition(threading.RLock())
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"client {person.username}", daemon=True)

    # --- what tests call ---------------------------------------------------------------------------------------------

    def __enter__(self) -> ChatClient:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close(check=kind is None)

    def start(self, cursors: dict[int, int] | None = None) -> ChatClient:
        """Log in, connect, resume from ``cursors`` and return when resumed."""
        self.cursors.update(cursors or {})
        self._retrying(self.login)
        self._thread.start()
        self.wait_online()
        return self

    def close(self, *, check: bool = True) -> None:
        """Leave. Raises what the background thread stumbled over, if ``check``."""
        self._stopping.set()
        with self._changed:
            present = self._socket
        if present is not None:
            present.close()
        if self._thread.is_alive():
            self._thread.join(30)
            assert not self._thread.is_alive(), "the client did not stop"
        if check and self.failure is not None:
            raise self.failure

    def login(self) -> None:
        """Log in over HTTP at the current server."""
        self.api.address = self.server.address
        self.api.origin = self.server.origin
        answer = self.api.login(self.person.username, self.person.password)
        if answer.status in (502, 503):
            raise AwayError(f"log-in answered {answer.status}")
        answer.expect(200)

    def send(self, conversation_id: int, body: str, client_id: str | None = None) -> str:
        """Send now when connected, and again after every reconnect until answered; returns the client_id."""
        with self._changed:
            item = Sent(client_id or str(uuid.uuid4()), conversation_id, body, next(self._orders), time.monotonic())
            self.sent[item.client_id] = item
            self.pending[item.client_id] = item
            if self._socket is not None and self.connections[-1].resumed:
                self._transmit(item)
            return item.client_id

    def frame(self, **frame: Any) -> None:
        """Send any frame on the present connection."""
        assert self._socket is not None, "not connected"
        self._socket.send(json.dumps(frame))

    def drop(self, *, reset: bool = False, elsewhere: bool = False) -> None:
        """Cut the connection without a farewell; the client comes back by itself.

        Args:
            reset: with a TCP reset: what is on its way in either direction is lost.
            elsewhere: come back to the next server.
        """
        with self._changed:
            if elsewhere:
                self.server = next(self.servers)
            if self._socket is not None:
                with contextlib.suppress(OSError):  # it was cut a moment ago, and its reader has not seen it yet
                    if reset:  # lingering for no time makes the close, which the reader does once woken, a reset
                        self._socket.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self._socket.socket.shutdown(socket.SHUT_RDWR)

    def forget(self) -> None:
        """Drop what was written down, once it is judged; what comes from now on follows on it.

        To be called when nothing is pending and everything stored has arrived.
        """
        with self._changed:
            assert not self.pending, f"{self.person.username} still waits for {len(self.pending)} answers"
            self.sent.clear()
            self.acks.clear()
            self.refused.clear()
            del self.connections[:-1]
            for present in self.connections:
                present.frames.clear()
                present.times.clear()
                present.cursors = dict(self.cursors)

    def wait(self, check: Callable[[], object], what: str, timeout: float = 20) -> None:
        """Wait until ``check`` holds; looked at whenever something arrived.

        Raises:
            AssertionError: naming ``what``.
        """
        deadline = time.monotonic() + timeout
        with self._changed:
            while not check():
                if self.failure is not None:
                    raise AssertionError(f"{self.person.username} failed") from self.failure
                left = deadline - time.monotonic()
                assert left > 0, f"{self.person.username}: not within {timeout:g} s: {what}"
                self._changed.wait(min(left, 0.5))

    @property
    def online(self) -> bool:
        """Whether connected and resumed."""
        return self._socket is not None and bool(self.connections) and self.connections[-1].resumed

    def wait_online(self, timeout: float = 30) -> None:
        """Wait until connected and resumed."""
        self.wait(lambda: self.online, "online", timeout)

    def wait_acked(self, *client_ids: str, timeout: float = 30) -> None:
        """Wait until these (or all) sends are answered."""
        wanted = client_ids or tuple(self.sent)
        self.wait(lambda: not any(key in self.pending for key in wanted), f"answers to {len(wanted)} sends", timeout)

    def wait_acks(self, total: int, timeout: float = 30) -> None:
        """Wait until there were ``total`` acknowledgements."""
        self.wait(lambda: len(self.acks) >= total, f"{total} acknowledgements", timeout)

    def wait_seq(self, conversation_id: int, seq: int, timeout: float = 30) -> None:
        """Wait until everything up to ``seq`` has arrived."""
        self.wait(lambda: self.cursors.get(conversation_id, 0) >= seq, f"seq {seq} of {conversation_id}", timeout)

    def messages(self, conversation_id: int | None = None) -> list[dict[str, Any]]:
        """Return the messages received over all connections."""
        return [
            frame
            for connection in self.connections
            for frame in connection.of_type("message")
            if conversation_id in (None, frame["conversation_id"])
        ]

    def arrivals(self) -> dict[str, float]:
        """Return client_id -> when that message first arrived here (``time.monotonic``)."""
        found: dict[str, float] = {}
        for connection in self.connections:
            for frame, at in zip(connection.frames, connection.times, strict=True):
                if frame["type"] == "message":
                    found.setdefault(frame["client_id"], at)
        return found

    def close_codes(self) -> list[int | None]:
        """Return how the connections ended (None: cut, or still open)."""
        return [connection.close_code for connection in self.connections]

    # --- the background thread ---------------------------------------------------------------------------------------

    def _run(self) -> None:
        wait = 0.05
        try:
            while not self._stopping.is_set():
                try:
                    self._one_connection()
                    wait = 0.05
                except InvalidStatus as refused:
                    if refused.response.status_code not in (502, 503):
                        raise AssertionError(f"handshake answered {refused.response.status_code}") from refused
                    wait = min(wait * 2, self.max_wait)
                except NETWORK_TROUBLE:
                    self.server = next(self.servers)
                    wait = min(wait * 2, self.max_wait)
                if self._stopping.is_set():
                    return
                code = self.connections[-1].close_code if self.connections else None
                if code == 4401:
                    self._retrying(self._refresh)
                elif code == 4403:
                    raise AssertionError("the session was ended")
                self._stopping.wait(self.random.uniform(0, wait))
        except BaseException as error:  # handed to the test by wait() and close()
            with self._changed:
                self.failure = error
                self._changed.notify_all()

    def _retrying(self, action: Callable[[], object]) -> None:
        deadline = time.monotonic() + 40
        while True:
            try:
                action()
                return
            except NETWORK_TROUBLE:
                if time.monotonic() > deadline or self._stopping.is_set():
                    raise
                self.server = next(self.servers)
                self._stopping.wait(self.random.uniform(0, 0.3))

    def _refresh(self) -> None:
        self.api.address = self.server.address
        self.api.origin = self.server.origin
        answer = self.api.post("/api/auth/refresh")
        if answer.status in (502, 503):
            raise AwayError(f"refresh answered {answer.status}")
        if answer.status != 200:
            self.login()

    def _one_connection(self) -> None:
        with open_socket(self.server, self.api) as ws:
            record = Connection(len(self.connections), dict(self.cursors))
            with self._changed:
                if self._stopping.is_set():  # close() looked before this connection was there
                    return
                self.connections.append(record)
                self._socket = ws
            try:
                with contextlib.suppress(ConnectionClosed):  # refused already: what it says is read below
                    ws.send(json.dumps({"type": "resume", "cursors": {str(k): v for k, v in record.cursors.items()}}))
                while True:
                    self._take(record, json.loads(ws.recv()))
            except ConnectionClosed as closed:
                record.close_code = closed.rcvd.code if closed.rcvd else None
                record.close_reason = closed.rcvd.reason if closed.rcvd else ""
            finally:
                with self._changed:
                    self._socket = None
                    self._changed.notify_all()

    def _take(self, record: Connection, frame: dict[str, Any]) -> None:
        with self._changed:
            record.frames.append(frame)
            record.times.append(time.monotonic())
            kind = frame["type"]
            if kind == "message":
                self.cursors[frame["conversation_id"]] = frame["seq"]
            elif kind == "gap":
                self.cursors[frame["conversation_id"]] = frame["last_seq"]
            elif kind == "resumed":
                for key, seq in frame["last_seqs"].items():
                    self.cursors.setdefault(int(key), seq)
                record.resumed = True
                for item in sorted(self.pending.values(), key=lambda sent: sent.order):
                    self._transmit(item)
            elif kind == "conversation_added":
                self.cursors.setdefault(frame["conversation_id"], frame["last_seq"])
            elif kind == "ack":
                self.acks.append((frame["client_id"], frame["conversation_id"], frame["seq"]))
                self.pending.pop(frame["client_id"], None)
            elif kind == "error":
                self.refused.append(frame)
                item_or_none = self.pending.get(frame.get("client_id") or "")
                if item_or_none is not None:
                    if frame["retryable"]:
                        self._transmit(item_or_none)
                    else:
                        self.pending.pop(item_or_none.client_id)
            self._changed.notify_all()

    def _transmit(self, item: Sent) -> None:
        assert self._socket is not None
        item.attempts += 1
        try:
            self.frame(type="send", client_id=item.client_id, conversation_id=item.conversation_id, body=item.body)
        except ConnectionClosed:
            return  # still pending: the next connection sends it again
