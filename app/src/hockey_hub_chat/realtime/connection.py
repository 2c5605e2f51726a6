"""One socket's way out: a bounded outbox and the one greenlet that writes it.

Everything a socket is sent, pings, pongs and the close frame included, goes through here, so frames are never torn and
nobody but the writing greenlet ever waits for a slow reader. Knows bytes and close codes; knows no rooms, no JSON and no
HTTP.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Protocol

import gevent
from gevent.event import Event

from hockey_hub_chat import events, metrics
from hockey_hub_chat.realtime import wire

#: Outbox bounds of one socket. One message frame is at most 48 KiB of JSON; a reader a full outbox behind is better
#: served by a reconnect and a resume.
MAX_OUTBOX_BYTES = 1_048_576
MAX_OUTBOX_FRAMES = 2_000
#: Bytes handed to the kernel at once: small enough that a close frame never waits behind much of our own.
WRITE_CHUNK_BYTES = 65_536
#: After our close frame is queued: seconds to get it out and answered, before the transport is cut.
CLOSE_TIMEOUT_SECONDS = 2.0
#: The same for a reader that was too slow, which first has to read what the kernel holds for it.
SLOW_CLOSE_TIMEOUT_SECONDS = 10.0


class Transport(Protocol):
    """What a connection writes to."""

    def sendall(self, data: bytes) -> None:
        """Write all of ``data``, waiting as long as it takes. Raises OSError when the peer is gone."""

    def abort(self) -> None:
        """Cut the transport at once; a blocked ``sendall`` and the reader return. Safe to repeat."""


class Connection:
    """The sending half of one socket.

    Args:
        transport: where the bytes go.
        max_bytes: bound of the outbox in bytes.
        max_frames: bound of the outbox in frames.
        on_closing: called once, with the close code, when the connection starts to close for whatever reason.
    """

    def __init__(
        self,
        transport: Transport,
        *,
        max_bytes: int = MAX_OUTBOX_BYTES,
        max_frames: int = MAX_OUTBOX_FRAMES,
        on_closing: Callable[[int], None] | None = None,
    ) -> None:
        self._transport = transport
        self._max_bytes = max_bytes
        self._max_frames = max_frames
        self._on_closing = on_closing
        self._frames: deque[bytes] = deque()
        self._bytes = 0
        self._wake = Event()
        self._roomy = Event()
        self._roomy.set()
        self._close_sent = Event()
        self._force_timer: gevent.Greenlet | None = None
        self.close_code: int | None = None
        self._greenlet = gevent.spawn(self._send_loop)

    @property
    def closing(self) -> bool:
        """Whether a close was asked for, or the transport failed."""
        return self.close_code is not None

    @property
    def close_sent(self) -> Event:
        """Set once our close frame was handed to the kernel, or never will be."""
        return self._close_sent

    def post(self, frame: bytes) -> bool:
        """Queue one encoded frame; never waits.

        Returns False when the connection is closing. A full outbox closes it with 4408 and answers False.
        """
        if self.close_code is not None:
            return False
        if self._bytes + len(frame) > self._max_bytes or len(self._frames) >= self._max_frames:
            metrics.SLOW_CONSUMERS_CLOSED.inc()
            self._frames.clear()  # the reader resumes from its own cursors: what it has not read is not worth its time
            self._bytes = 0
            self.close(events.CLOSE_SLOW_CONSUMER, "read too slowly", timeout=SLOW_CLOSE_TIMEOUT_SECONDS)
            return False
        self._frames.append(frame)
        self._bytes += len(frame)
        if self._bytes > self._max_bytes // 2 or len(self._frames) > self._max_frames // 2:
            self._roomy.clear()
        self._wake.set()
        return True

    def wait_roomy(self, timeout: float) -> bool:
        """Wait until the outbox is at most half full; for bulk senders such as a resume.

        Returns False when it stayed fuller for ``timeout`` seconds, or the connection is closing.
        """
        self._roomy.wait(timeout)
        return self._roomy.is_set() and self.close_code is None

    def close(self, code: int, reason: str = "", *, timeout: float = CLOSE_TIMEOUT_SECONDS) -> None:
        """Close with ``code`` after what is queued; never waits. The first call wins.

        Args:
            code: the WebSocket close code.
            reason: a few words for a developer.
            timeout: seconds until the transport is cut, whatever the peer does.
        """
        if self.close_code is not None:
            return
        self.close_code = code
        self._frames.append(wire.close_frame(code, reason))
        self._roomy.set()
        self._wake.set()
        self._force_timer = gevent.spawn_later(timeout, self._transport.abort)
        if self._on_closing is not None:
            self._on_closing(code)

    def lost(self) -> None:
        """Note that the transport is gone: nothing more can be sent."""
        if self.close_code is None:
            self.close_code = 1006
            if self._on_closing is not None:
                self._on_closing(1006)
        self._frames.clear()
        self._bytes = 0
        self._roomy.set()
        self._wake.set()
        self._close_sent.set()

    def join(self) -> None:
        """End the writing greenlet; the transport must be closed or about to be. Call from the owner only."""
        self.lost()
        self._greenlet.kill()
        if self._force_timer is not None:
            self._force_timer.kill()

    def _send_loop(self) -> None:
        try:
            while True:
                self._wake.wait()
                self._wake.clear()
                while self._frames:
                    chunk = self._take()
                    self._transport.sendall(chunk)
                    if self._bytes <= self._max_bytes // 2 and len(self._frames) <= self._max_frames // 2:
                        self._roomy.set()
                if self.close_code is not None:
                    self._close_sent.set()
                    return
        except OSError:  # the peer is gone; its reader sees the same and cleans up
            self.lost()
            self._transport.abort()

    def _take(self) -> bytes:
        """Take queued frames up to one chunk, whole frames only (a single larger frame goes alone)."""
        first = self._frames.popleft()
        parts = [first]
        size = len(first)
        while self._frames and size + len(self._frames[0]) <= WRITE_CHUNK_BYTES:
            part = self._frames.popleft()
            parts.append(part)
            size += len(part)
        self._bytes = max(0, self._bytes - size)
        return first if len(parts) == 1 else b"".join(parts)
