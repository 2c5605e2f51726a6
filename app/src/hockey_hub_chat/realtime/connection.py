"""One adopted WebSocket: what it still has to be sent, how it is read, and how it ends.

Everything a socket is sent, pongs and the close frame included, goes through ``post``; the reactor alone writes, so frames are
never torn and nobody waits for a slow reader. Knows bytes and close codes; knows no rooms, no JSON and no HTTP.

Invariants:

- What is posted leaves in the order it was posted. What was posted since the last write leaves in one ``write``.
- ``_pending`` is not None exactly while the connection stands in the reactor's list of those to be written.
- ``_outbox`` is not None exactly while the kernel takes nothing more; its first part may be half written and is never dropped, so that
  the close frame after it is not read as part of it.
- The outbox is bounded: a reader that far behind is closed with 4408 and comes back with its own cursors.
- After ``close`` or ``_lost`` nothing is handed to the owner any more, and ``owner.closed`` has been called, once.
"""

from __future__ import annotations

import os
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol

import gevent.monkey
from gevent.event import Event

from hockey_hub_chat import events, metrics
from hockey_hub_chat.realtime import wire
from hockey_hub_chat.realtime.parser import BINARY, CLOSE, PING, TEXT, Parser

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.reactor import Reactor

#: Bytes one socket may have waiting once the kernel takes nothing more: some twenty of the longest messages, thousands of
#: ordinary ones. A reader further behind is better served by a reconnect and a resume.
MAX_OUTBOX_BYTES = 1_048_576
#: Bytes read from one socket in one turn; the rest waits for its next.
READ_BYTES = 16_384
#: After our close frame is queued: seconds to get it out, before the transport is cut.
CLOSE_TIMEOUT_SECONDS = 2.0
#: The same for a reader that was too slow, which first has to read what the kernel holds for it.
SLOW_CLOSE_TIMEOUT_SECONDS = 10.0
#: After our close frame left: seconds to wait for the peer's, and bytes thrown away meanwhile. Closing while unread bytes lie in
#: the kernel would send a reset, and the peer might never see our close code.
LINGER_SECONDS = 2.0
MAX_LINGER_BYTES = 32 * 1024 * 1024

# gevent's own takes a turn of the loop, for watchers that an adopted descriptor does not have.
_close = gevent.monkey.get_original("os", "close")
_ABNORMAL = 1006
_NORMAL = 1000


class Owner(Protocol):
    """Who a connection's messages are for. Neither call may wait."""

    def received(self, message: bytes) -> None:
        """Take one text message."""

    def closed(self, code: int) -> None:
        """Learn that nothing more will come; called once."""


class Connection:
    """One socket. Made by ``Reactor.adopt``.

    Attributes:
        fd: the file descriptor; -1 once it is closed.
        owner: set by whoever adopted it, before ``listen``.
        close_code: what it closes or closed with; None while open; 1006 when the transport failed.
    """

    __slots__ = (
        "_backlog",
        "_deadline",
        "_heard",
        "_interest",
        "_outbox",
        "_outbox_bytes",
        "_parser",
        "_paused",
        "_peer_closed",
        "_pending",
        "_reactor",
        "_roomy",
        "_thrown_away",
        "close_code",
        "fd",
        "owner",
    )

    def __init__(self, reactor: Reactor, fd: int, max_message_bytes: int) -> None:
        self._reactor = reactor
        self.fd = fd
        self.owner: Owner | None = None
        self.close_code: int | None = None
        self._parser = Parser(max_message_bytes)
        self._pending: bytes | list[bytes] | None = None
        self._outbox: deque[bytes | memoryview] | None = None
        self._outbox_bytes = 0
        self._interest = -1  # not registered with epoll
        self._heard = True
        self._paused = False
        self._backlog: list[tuple[int, bytes]] | None = None
        self._peer_closed = False
        self._deadline = 0.0
        self._thrown_away = 0
        self._roomy: Event | None = None

    @property
    def closing(self) -> bool:
        """Whether a close was asked for, or the transport failed."""
        return self.close_code is not None

    # --- the border --------------------------------------------------------------------------------------------------

    def listen(self, received: bytes = b"") -> None:
        """Begin to read. ``received`` are bytes that came along with the handshake."""
        if self.fd >= 0:
            self._reactor.watch(self, read=True)
            if received:
                self._take(received)

    def post(self, frame: bytes) -> bool:
        """Queue encoded frames; never waits. Returns False when the connection is closing.

        Args:
            frame: one or several whole frames.
        """
        if self.close_code is not None:
            return False
        pending = self._pending
        if pending is None:
            self._pending = frame
            self._reactor.dirty(self)
        elif type(pending) is list:
            pending.append(frame)
        else:
            self._pending = [pending, frame]  # type: ignore[list-item]  # mypy does not follow type()
        return True

    def post_each(self, frames: list[bytes]) -> None:
        """Queue whole frames that the reactor may have to write by themselves; never waits."""
        if self.close_code is not None:
            return
        pending = self._pending
        if pending is None:
            self._pending = frames.copy()
            self._reactor.dirty(self)
        elif type(pending) is list:
            pending += frames
        else:
            self._pending = [pending, *frames]  # type: ignore[list-item]  # mypy does not follow type()

    def wait_roomy(self, timeout: float) -> bool:
        """Write what is queued, and wait until little is left; for bulk senders such as a resume.

        Returns False when it stayed fuller for ``timeout`` seconds, or the connection is closing.
        """
        if self._pending is not None:
            self._reactor.write_now(self)
        if self._outbox_bytes > MAX_OUTBOX_BYTES // 2 and self.close_code is None:
            self._roomy = self._roomy or Event()
            self._roomy.wait(timeout)
        return self._outbox_bytes <= MAX_OUTBOX_BYTES // 2 and self.close_code is None

    def close(self, code: int, reason: str = "", *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Close with ``code`` after what is queued; never waits. The first call wins.

        Args:
            code: the WebSocket close code.
            reason: a few words for a developer.
            timeout: seconds until the transport is cut, if our close frame has not left by then.
        """
        if self.close_code is not None:
            return
        self.post(wire.close_frame(code, reason))
        self._end(code)
        self._deadline = time.monotonic() + timeout
        self._reactor.closing(self)
        if self._interest >= 0 and self._paused:
            self._paused = False
            self._reactor.watch(self, read=True)  # for the peer's close frame

    def pause(self) -> None:
        """Read nothing more until ``unpause``; what was read already waits too."""
        if not self._paused and self.close_code is None:
            self._paused = True
            self._reactor.watch(self, read=False)

    def unpause(self) -> None:
        """Go on reading, from what waited."""
        if not self._paused or self.close_code is not None:
            return
        self._paused = False
        backlog, self._backlog = self._backlog, None
        if backlog:
            self._dispatch(backlog)
        if not self._paused and self.close_code is None:
            self._reactor.watch(self, read=True)

    # --- called by the reactor -----------------------------------------------------------------------------------------

    def _read(self) -> None:
        """Read once; there may be nothing after all."""
        try:
            data = os.read(self.fd, READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._lost()
        elif self.close_code is None:
            self._take(data)
        else:
            self._throw_away(data)

    def _take(self, data: bytes) -> None:
        self._heard = True
        self._dispatch(self._parser.receive(data))

    def _dispatch(self, received: list[tuple[int, bytes]]) -> None:
        for number, (opcode, payload) in enumerate(received):
            if self.close_code is not None:
                return
            if self._paused:
                self._backlog = [*(self._backlog or ()), *received[number:]]
                return
            if opcode == TEXT:
                if self.owner is not None:
                    self.owner.received(payload)
            elif opcode == PING:
                self.post(wire.pong_frame(payload))
            elif opcode == CLOSE:
                self._peer_closed = True
                # RFC 6455 §5.5.1: answer with the code received; when none was given none must be made up, and 1000 is no lie
                self.close(int.from_bytes(payload[:2], "big") if payload else _NORMAL)
            elif opcode == BINARY:
                self.close(events.CLOSE_UNSUPPORTED, "binary messages are not spoken here")
        if self._parser.failure is not None and self.close_code is None:
            self.close(*self._parser.failure)

    def _throw_away(self, data: bytes) -> None:
        """After our close: only the peer's close frame matters any more."""
        self._thrown_away += len(data)
        self._parser.receive(data)
        if self._parser.peer_closed:
            self._peer_closed = True
        if self._thrown_away > MAX_LINGER_BYTES or (
            self._peer_closed and self._pending is None and self._outbox is None
        ):
            self._lost()

    def _blocked(self, data: bytes, sent: int) -> None:
        """Keep what the kernel did not take of ``data``."""
        tail: bytes | memoryview = memoryview(data)[sent:] if sent else data
        self._outbox = deque((tail,))
        self._outbox_bytes = len(tail)
        if self._outbox_bytes > MAX_OUTBOX_BYTES and self.close_code is None:
            self._too_slow()
        self._reactor.watch(self, read=not self._paused)

    def _queue(self, data: bytes) -> None:
        """Put ``data`` behind what the kernel has not taken yet."""
        if self._outbox is None:
            raise RuntimeError("the kernel takes more: write instead")
        if self.close_code is None and self._outbox_bytes + len(data) > MAX_OUTBOX_BYTES:
            self._too_slow()
            return
        self._outbox.append(data)
        self._outbox_bytes += len(data)

    def _too_slow(self) -> None:
        """Close a reader that is too far behind; what it has not begun to read is not worth its time."""
        metrics.SLOW_CONSUMERS_CLOSED.inc()
        if self._outbox is not None:
            first = self._outbox[0]
            self._outbox.clear()
            self._outbox.append(first)
            self._outbox_bytes = len(first)
        self._pending = None
        self.close(events.CLOSE_SLOW_CONSUMER, "read too slowly", timeout=SLOW_CLOSE_TIMEOUT_SECONDS)

    def _write_outbox(self) -> None:
        """Write what waits, as much as the kernel takes."""
        outbox = self._outbox
        while outbox:
            part = outbox[0]
            try:
                sent = os.write(self.fd, part)
            except BlockingIOError:
                break
            except OSError:
                self._lost()
                return
            self._outbox_bytes -= sent
            self._heard = True  # it takes what it is owed: our ping may wait behind that
            if sent < len(part):
                outbox[0] = memoryview(part)[sent:]
                break
            outbox.popleft()
        if self._roomy is not None and self._outbox_bytes <= MAX_OUTBOX_BYTES // 2:
            self._roomy.set()
            self._roomy = None
        if outbox is not None and not outbox:
            self._outbox = None
            self._reactor.watch(self, read=not self._paused)
            if self.close_code is not None and self._pending is None:
                self._close_sent()

    def _close_sent(self) -> None:
        """Our close frame is with the kernel: wait for the peer's, for a while."""
        if self._peer_closed:
            self._lost()
        elif self._interest < 0:  # it was never listened to
            self._reactor.watch(self, read=True)
            self._deadline = time.monotonic() + LINGER_SECONDS
        else:
            self._deadline = time.monotonic() + LINGER_SECONDS

    def _lost(self) -> None:
        """Let go of the transport: closed properly, failed, or out of time."""
        if self.fd < 0:
            return
        self._reactor.forget(self)
        _close(self.fd)
        self.fd = -1
        self._pending = None
        self._outbox = None
        self._outbox_bytes = 0
        self._backlog = None
        self._end(_ABNORMAL)

    def _end(self, code: int) -> None:
        if self.close_code is None:
            self.close_code = code
            if self._roomy is not None:
                self._roomy.set()
            owner, self.owner = self.owner, None  # which knows us: without this only the collector could free the two
            if owner is not None:
                owner.closed(code)
