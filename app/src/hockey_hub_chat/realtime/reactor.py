"""The sockets of one worker: one epoll, one greenlet, one write for each socket and tick.

flask-sock or the quick handshake opens a WebSocket; then its file descriptor is *adopted* here, and no greenlet, thread or request
is kept for it. A tick reads what has arrived, lets the owners answer, spreads what was said in rooms, and writes what falls due:
each socket gets everything of the tick in one ``write``, an ack together with the sender's own copy. (The pattern: D. Schmidt,
"Reactor", 1995.) Knows bytes and time; knows no rooms, no JSON and no HTTP.

Rules that hold it together:

- Nothing here waits for a peer. Owners' calls must not wait either.
- Long work is sliced: between two slices sockets are read and the other greenlets (HTTP, the writer, the bus) run; what became due
  meanwhile for others goes out before the rest of a large broadcast goes on.
- Small rooms are spread before large ones, so a broadcast to thousands delays nobody's answer.
- gunicorn knows nothing of adopted sockets: admission, drain and shutdown are ours.
"""

from __future__ import annotations

import contextlib
import os
import select
import time
from typing import Any, Protocol

import gevent
import gevent.monkey
import structlog
from gevent.event import Event

from hockey_hub_chat import events
from hockey_hub_chat.realtime import wire
from hockey_hub_chat.realtime.connection import Connection

log = structlog.get_logger(__name__)

#: How long sockets are written before the other greenlets get their turn, unless something has arrived.
SLICE_SECONDS = 0.002
#: Sockets written between two looks at what has arrived: a quarter of a millisecond. Who was written first may have answered, and
#: its messages can be at the database while the others are written.
_SLICE_SOCKETS = 32
#: Sockets read in one tick, and how long that may take. They are asked for a few at a time: epoll puts who was told to the end of its
#: queue, so who was not comes first the next time.
_MAX_EVENTS = 512
_EVENTS_AT_ONCE = 16
_RECEIVE_SECONDS = 0.005
#: How often heartbeats and deadlines are looked at.
_SWEEP_SECONDS = 0.25

# gevent takes epoll away from programs because its poll() would block them all; ours never waits: gevent's loop waits for it.
_make_epoll = gevent.monkey.get_original("select", "epoll")
_GONE = select.EPOLLHUP | select.EPOLLERR


class Spreadable(Protocol):
    """Something that was said to several sockets at once: ``broadcast.Broadcast``."""

    def spread(self) -> None:
        """Post it to each of them."""

    def __len__(self) -> int: ...


class Reactor:
    """Reads, writes, pings and closes adopted sockets.

    Args:
        heartbeat_seconds: a ping goes out so often; a peer silent from one to the next is gone.
        coalesce: False writes each message by itself, to measure what writing together wins.
    """

    def __init__(self, *, heartbeat_seconds: int = 25, coalesce: bool = True) -> None:
        self.coalesce = coalesce
        self._epoll: select.epoll = _make_epoll()
        self._always = os.eventfd(1)  # always readable: see _let_others
        self._turn: Any = None
        self._connections: dict[int, Connection] = {}
        self._dirty: list[Connection] = []
        self._spreads: list[Spreadable] = []
        self._closing: dict[Connection, None] = {}
        # Connections by the second of the heartbeat in which their ping is due; one that ended is dropped when its slot comes up.
        self._slots: list[list[Connection]] = [[] for _ in range(heartbeat_seconds)]
        self._slot = 0
        self._scheduled = True  # until the greenlet waits for the first time
        self._left = 0  # of the batch that is being written
        self._rests = Event()
        self._loop: Any = None
        self._runner: Any = None
        self._watcher: Any = None
        self._greenlets: list[gevent.Greenlet] = []

    # --- the border --------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start, once, in the process that holds the sockets. Safe to repeat."""
        if self._greenlets:
            return
        self._loop = gevent.get_hub().loop
        self._runner = gevent.spawn(self._run)
        self._greenlets = [self._runner, gevent.spawn(self._sweep_loop)]
        self._watcher = self._loop.io(self._epoll.fileno(), 1)
        self._watcher.start(self._wake)
        self._turn = self._loop.io(self._always, 1)

    def stop(self) -> None:
        """End, and cut what is left. Safe to repeat."""
        if self._watcher is not None:
            self._watcher.stop()
            self._watcher.close()
            self._watcher = None
        gevent.killall(self._greenlets)
        self._greenlets = []
        if self._turn is not None:
            self._turn.close()
            self._turn = None
        for connection in tuple(self._connections.values()):
            connection._lost()
        if self._always >= 0:
            self._epoll.close()
            os.close(self._always)
            self._always = -1

    @property
    def size(self) -> int:
        """How many sockets there are, those that close included."""
        return len(self._connections)

    def adopt(self, fd: int, *, max_message_bytes: int) -> Connection:
        """Take over a non-blocking stream socket after the opening handshake.

        Set ``owner`` and call ``listen`` on what is returned; it can be written to at once.
        """
        connection = self._connections[fd] = Connection(self, fd, max_message_bytes)
        # The ping is due one whole heartbeat from now: when the present slot comes round again.
        self._slots[self._slot - 1].append(connection)
        return connection

    def spread_later(self, spreadable: Spreadable) -> None:
        """Have ``spreadable.spread`` called at the end of this tick."""
        self._spreads.append(spreadable)
        if not self._scheduled:
            self._wake()

    def wait_written(self, timeout: float) -> None:
        """Wait until what is due was written, for at most ``timeout`` seconds; not when it is so little that it is out at once."""
        due = self._left + len(self._dirty) + sum(map(len, self._spreads))
        if due > _SLICE_SOCKETS:
            self._rests.wait(timeout)

    # --- for connections -----------------------------------------------------------------------------------------------

    def dirty(self, connection: Connection) -> None:
        """Note that a connection has something to write."""
        self._dirty.append(connection)
        if not self._scheduled:
            self._wake()

    def closing(self, connection: Connection) -> None:
        """Note that a connection is to be cut when its time is up."""
        self._closing[connection] = None

    def watch(self, connection: Connection, *, read: bool) -> None:
        """Tell epoll what is wanted of a connection; writability is, while its outbox holds something."""
        wanted = (select.EPOLLIN if read else 0) | (select.EPOLLOUT if connection._outbox is not None else 0)
        if wanted == connection._interest or connection.fd < 0:
            return
        if connection._interest < 0:
            self._epoll.register(connection.fd, wanted)
        else:
            self._epoll.modify(connection.fd, wanted)
        connection._interest = wanted

    def forget(self, connection: Connection) -> None:
        """Drop a connection whose descriptor is about to be closed (which takes it out of epoll)."""
        self._connections.pop(connection.fd, None)
        self._closing.pop(connection, None)
        if connection._interest >= 0:
            with contextlib.suppress(OSError):  # a descriptor closed under our feet is not in epoll any more
                self._epoll.unregister(connection.fd)

    def write_now(self, connection: Connection) -> None:
        """Write what one connection has pending, before its turn."""
        self._write((connection,))

    # --- the tick ------------------------------------------------------------------------------------------------------

    def _wake(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            self._loop.run_callback(self._runner.switch)

    def _run(self) -> None:
        hub = gevent.get_hub()
        while True:
            try:
                self._tick()
            except (
                Exception
            ):  # one fault must not end every socket of the worker, nor strand those that were to be written
                log.exception("reactor_failed")
                self._dirty = [c for c in self._connections.values() if c._pending is not None]
            if self._dirty or self._spreads:
                self._let_others()
                continue
            self._scheduled = False
            self._rests.set()
            hub.switch()
            self._rests.clear()

    def _let_others(self) -> None:
        """Give everybody else one turn, whoever waits for a socket included.

        Not ``gevent.sleep(0)``: that comes back before gevent has looked at its sockets.
        """
        gevent.get_hub().wait(self._turn)

    def _tick(self) -> None:
        self._receive()
        self._spread()
        batch, self._dirty = self._dirty, []
        self._write_in_slices(batch)

    def _receive(self) -> bool:
        """Let every socket that has something for us, or room for more, have its turn. Returns whether there were any."""
        until = time.monotonic() + _RECEIVE_SECONDS
        count = 0
        while True:
            ready = self._epoll.poll(0, _EVENTS_AT_ONCE)
            count += len(ready)
            self._take(ready)
            if len(ready) < _EVENTS_AT_ONCE or count >= _MAX_EVENTS or time.monotonic() > until:
                return count > 0

    def _take(self, ready: list[tuple[int, int]]) -> None:
        connections = self._connections
        for fd, event in ready:
            connection = connections.get(fd)
            if connection is None:
                continue
            try:
                if event & select.EPOLLOUT:
                    connection._write_outbox()
                if event & select.EPOLLIN:
                    if connection.fd >= 0:
                        connection._read()
                elif event & _GONE:
                    connection._lost()
            except Exception:
                log.exception("socket_failed")
                connection.close(events.CLOSE_INTERNAL, "our mistake")

    def _spread(self, most: int | None = None) -> None:
        """Post what was said in rooms, the smallest first; with ``most`` those of more members are left for the next tick."""
        spreads = self._spreads
        if not spreads:
            return
        self._spreads = []
        if len(spreads) > 1:
            spreads.sort(key=len)
        for number, spreadable in enumerate(spreads):
            if most is not None and len(spreadable) > most:
                self._spreads += spreads[number:]
                return
            try:
                spreadable.spread()
            except Exception:
                log.exception("reactor_failed")

    def _write_in_slices(self, batch: list[Connection]) -> None:
        """Write a batch; what becomes due between two slices goes first, if it is the smaller part.

        A room as large as what is left waits for the end: then its messages leave together, not each to a part of the members.
        """
        until = time.monotonic() + SLICE_SECONDS
        for start in range(0, len(batch), _SLICE_SOCKETS):
            self._write(batch[start : start + _SLICE_SOCKETS] if len(batch) > _SLICE_SOCKETS else batch)
            left = len(batch) - start - _SLICE_SOCKETS
            self._left = max(0, left)
            if left <= 0:
                return
            if not self._receive() and time.monotonic() < until:
                continue
            self._let_others()
            self._spread(left)
            if self._dirty and len(self._dirty) < left:
                newer, self._dirty = self._dirty, []
                self._write(newer)
            until = time.monotonic() + SLICE_SECONDS

    def _write(self, batch: tuple[Connection, ...] | list[Connection]) -> None:
        """Write what each of these has pending, in one ``write`` where the kernel takes it."""
        write = os.write
        for connection in batch:
            data = connection._pending
            if data is None:  # written out of turn, or lost
                continue
            connection._pending = None
            if type(data) is list:
                if not self.coalesce:
                    self._write_each(connection, data)
                    continue
                data = b"".join(data)
            if connection._outbox is not None:
                connection._queue(data)  # type: ignore[arg-type]  # mypy does not follow type()
                continue
            try:
                sent = write(connection.fd, data)  # type: ignore[arg-type]
            except BlockingIOError:
                sent = 0
            except OSError:
                connection._lost()
                continue
            if sent != len(data):
                connection._blocked(data, sent)  # type: ignore[arg-type]
            elif connection.close_code is not None:
                connection._close_sent()

    def _write_each(self, connection: Connection, frames: list[bytes]) -> None:
        """Write each frame by itself."""
        write = os.write
        for frame in frames:
            if (
                connection._pending is not None
            ):  # it was too slow, and is being closed: nothing may follow what was dropped
                return
            if connection._outbox is not None:
                connection._queue(frame)
                continue
            try:
                sent = write(connection.fd, frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                connection._lost()
                return
            if sent != len(frame):
                connection._blocked(frame, sent)
        if connection.close_code is not None and connection._outbox is None and connection._pending is None:
            connection._close_sent()

    # --- time ----------------------------------------------------------------------------------------------------------

    def _sweep_loop(self) -> None:
        due = time.monotonic() + 1.0
        while True:
            gevent.sleep(_SWEEP_SECONDS)
            now = time.monotonic()
            try:
                for connection in [c for c in self._closing if c._deadline <= now]:
                    connection._lost()
                while now >= due:
                    due += 1.0
                    self._beat()
            except Exception:
                log.exception("reactor_failed")

    def _beat(self) -> None:
        """Ping those whose turn it is; cut those that have been silent since their last one."""
        slot = self._slot
        self._slot = (slot + 1) % len(self._slots)
        alive = self._slots[slot] = [connection for connection in self._slots[slot] if connection.close_code is None]
        ping = wire.ping_frame()
        for connection in alive:
            if connection._paused:
                continue  # it is we who do not listen
            if connection._heard:
                connection._heard = False
                connection.post(ping)
            else:
                connection.close(events.CLOSE_GOING_AWAY, "no answer to a ping")
