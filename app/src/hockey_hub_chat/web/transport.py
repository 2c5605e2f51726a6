"""One WebSocket after flask-sock accepted it: messages out of bytes, over a gevent socket.

wsproto parses; this module decides how much may be in memory and which close code a broken rule gets. Of simple-websocket,
flask-sock's engine, only the handshake is used: its reader thread collects messages without bound, counts characters instead
of bytes, writes pongs from a second thread, and ``socket.send`` may write half a frame. Here the request's own greenlet
reads, only when it wants the next message (so TCP pushes back), and everything is written by the connection's one sender.
"""

from __future__ import annotations

import base64
import binascii
import socket as socket_module
import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import gevent
from gevent.socket import socket as Socket  # a class under its own name
from wsproto.connection import Connection as Parser
from wsproto.connection import ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Ping, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, FrameDecoder, FrameProtocol, Opcode, RsvBits

from hockey_hub_chat import events
from hockey_hub_chat.errors import BadRequestError

_CLOSE_NORMAL = 1000
_READ_BYTES = 16_384
#: After our close frame: bytes thrown away while waiting for the peer's, before the transport is cut.
_MAX_LINGER_BYTES = 32 * 1024 * 1024
_LINGER_SECONDS = 2.0


class Outgoing(Protocol):
    """Where control frames go: ``realtime.connection.Connection``."""

    def post(self, frame: bytes) -> bool: ...


class ClosedError(Exception):
    """No more messages will come. ``code`` is what we should close with; None when the peer closed or vanished."""

    def __init__(self, code: int | None, reason: str = "") -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


def check_handshake(environ: Mapping[str, Any]) -> None:
    """Refuse what is not an opening handshake (RFC 6455 §4.2.1), before anything is answered.

    Raises:
        BadRequestError: it is not a WebSocket handshake of version 13.
    """
    key = environ.get("HTTP_SEC_WEBSOCKET_KEY", "")
    try:
        valid_key = len(base64.b64decode(key, validate=True)) == 16
    except (binascii.Error, ValueError):
        valid_key = False
    upgrades = "websocket" in environ.get("HTTP_UPGRADE", "").lower()
    connection = {token.strip() for token in environ.get("HTTP_CONNECTION", "").lower().split(",")}
    if environ["REQUEST_METHOD"] != "GET" or not upgrades or "upgrade" not in connection or not valid_key:
        raise BadRequestError("This address speaks WebSocket.")
    if environ.get("HTTP_SEC_WEBSOCKET_VERSION") != "13":
        raise BadRequestError("Only version 13 of WebSocket is spoken here.", {"sec_websocket_version": 13})


class _SizeLimit(Extension):
    """Refuses a frame by the length its header announces, before any of it is read. Never spoken of on the wire."""

    name = "x-size-limit"

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        if payload_length > self._max_bytes:
            return CloseReason.MESSAGE_TOO_BIG
        return RsvBits(False, False, False)


class WebSocketTransport:
    """Bytes out, messages in.

    Args:
        sock: the accepted connection, after the handshake; owned from here on.
        max_message_bytes: of one text message, fragments added up.
        heartbeat_seconds: a ping goes out so often; a peer silent from one to the next is gone.
        ping, pong: make the control frames.
    """

    def __init__(
        self,
        sock: Socket,
        *,
        max_message_bytes: int,
        heartbeat_seconds: float,
        ping: Callable[[], bytes],
        pong: Callable[[bytes], bytes],
    ) -> None:
        self._sock = sock
        self._max_message_bytes = max_message_bytes
        self._heartbeat_seconds = heartbeat_seconds
        self._ping = ping
        self._pong = pong
        self._parser = Parser(ConnectionType.SERVER, [_SizeLimit(max_message_bytes)])
        self._events = self._parser.events()
        self._message = bytearray()
        self._next_ping = time.monotonic() + heartbeat_seconds
        self._heard = True
        self._peer_closed = False
        self._broken = False

    # --- writing: called by the connection's sender alone ------------------------------------------------------------

    def sendall(self, data: bytes) -> None:
        """See ``realtime.connection.Transport``."""
        self._sock.sendall(data)

    def abort(self) -> None:
        """See ``realtime.connection.Transport``."""
        try:
            self._sock.shutdown(socket_module.SHUT_RDWR)
        except OSError:
            return  # it was not connected any more: that is what was wanted

    # --- reading -----------------------------------------------------------------------------------------------------

    def receive(self, outgoing: Outgoing) -> bytes:
        """Wait for the next text message; pings are answered and sent through ``outgoing`` meanwhile.

        Raises:
            ClosedError: with the close code of the rule that was broken (docs/protocol.md), or without one.
        """
        while True:
            event = next(self._events, None)
            if event is None:
                self._read(outgoing)
                self._events = self._parser.events()
            elif isinstance(event, TextMessage):
                self._take(event.data.encode())
                if event.message_finished:
                    message, self._message = bytes(self._message), bytearray()
                    return message
            elif isinstance(event, BytesMessage):
                raise ClosedError(events.CLOSE_UNSUPPORTED, "binary messages are not spoken here")
            elif isinstance(event, Ping):
                outgoing.post(self._pong(bytes(event.payload)))
            elif isinstance(event, CloseConnection):
                self._on_close(event)

    def _take(self, part: bytes) -> None:
        if len(self._message) + len(part) > self._max_message_bytes:
            self._message = bytearray()
            raise ClosedError(events.CLOSE_TOO_BIG, f"a message holds at most {self._max_message_bytes} bytes")
        self._message += part

    def _on_close(self, event: CloseConnection) -> None:
        """Tell a close frame of the peer from a broken frame, which wsproto reports in the same way."""
        if self._parser.state.name == "REMOTE_CLOSING":
            self._peer_closed = True
            code = int(event.code)
            # RFC 6455 §5.5.1: answer with the code received; 1005 is "none was given" and must not be sent
            raise ClosedError(_CLOSE_NORMAL if code == 1005 else code)
        self._broken = True
        known = {events.CLOSE_BAD_UTF8, events.CLOSE_TOO_BIG}
        raise ClosedError(int(event.code) if int(event.code) in known else events.CLOSE_PROTOCOL_ERROR, "broken frame")

    def _read(self, outgoing: Outgoing) -> None:
        """Read what is there into the parser; wait for it with the heartbeat running."""
        while True:
            left = self._next_ping - time.monotonic()
            if left <= 0:
                if not self._heard:
                    raise ClosedError(events.CLOSE_GOING_AWAY, "no answer to a ping")
                self._heard = False
                outgoing.post(self._ping())
                self._next_ping = left = time.monotonic() + self._heartbeat_seconds
                continue
            data = self._recv(left)
            if data is not None:
                break
        if not data:
            raise ClosedError(None, "the peer is gone")
        self._heard = True
        self._parser.receive_data(data)

    def _recv(self, timeout: float) -> bytes | None:
        """Return bytes, ``b""`` at the end, None after ``timeout`` seconds.

        Not ``settimeout``: that would also be the timeout of the sender, which shares the socket.
        """
        data: bytes | None = None
        with gevent.Timeout(timeout, False):
            try:
                data = self._sock.recv(_READ_BYTES)
            except OSError:
                data = b""
        return data

    def linger(self) -> None:
        """After our close frame went out: wait for the peer's, throwing away what else comes, then close.

        Closing while unread bytes lie in the kernel would send a reset, and the peer might never see our close code.
        """
        deadline = time.monotonic() + _LINGER_SECONDS
        thrown_away = 0
        while not self._peer_closed and thrown_away < _MAX_LINGER_BYTES and (left := deadline - time.monotonic()) > 0:
            data = self._recv(left)
            if not data:
                break
            thrown_away += len(data)
            if not self._broken:
                self._parser.receive_data(data)
                for event in self._parser.events():
                    if isinstance(event, CloseConnection):
                        self._peer_closed = True
        self.abort()
