"""WebSocket by hand: bytes no client library would send, and the close code that comes back."""

from __future__ import annotations

import base64
import json
import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any

from harness.chat import ChatServer
from harness.client import Site
from harness.http import Api

TEXT, BINARY, CLOSE, PING, PONG = 0x1, 0x2, 0x8, 0x9, 0xA


def frame(opcode: int, payload: bytes, *, fin: bool = True, rsv: int = 0, masked: bool = True) -> bytes:
    """Encode one frame (RFC 6455, 5.2); everything may be wrong on purpose."""
    head = bytes([(0x80 if fin else 0) | rsv << 4 | opcode])
    flag = 0x80 if masked else 0
    if len(payload) < 126:
        head += bytes([flag | len(payload)])
    elif len(payload) < 65536:
        head += bytes([flag | 126]) + struct.pack("!H", len(payload))
    else:
        head += bytes([flag | 127]) + struct.pack("!Q", len(payload))
    if not masked:
        return head + payload
    mask = os.urandom(4)
    repeated = (mask * (len(payload) // 4 + 1))[: len(payload)]
    mixed = int.from_bytes(payload, "big") ^ int.from_bytes(repeated, "big")
    return head + mask + mixed.to_bytes(len(payload), "big")


def on_both_workers(server: ChatServer, api: Api, each: int) -> list[RawSocket]:
    """Open ``each`` sockets on each of two workers and resume them."""
    sockets = []
    for index in (0, 1):
        with server.only_worker(index):
            for _ in range(each):
                sockets.append(RawSocket(server, api))
                sockets[-1].resume()
    return sockets


class RawSocket:
    """A TCP connection upgraded by hand.

    Args:
        bearer: send the token as a program does.
        pieces: in how many segments the handshake goes.
        receive_buffer: bytes the kernel keeps for us unread (it doubles them); small ones make a slow reader quickly.
    """

    #: False plays a peer that has vanished: it hears pings and says nothing.
    answers_pings = True

    def __init__(
        self,
        server: Site,
        api: Api | None,
        *,
        origin: str | None = "own",
        timeout: float = 10,
        bearer: bool = False,
        pieces: int = 1,
        receive_buffer: int | None = None,
    ) -> None:
        self.sock = socket.socket()
        self.sock.settimeout(timeout)
        if receive_buffer is not None:  # before connecting: it decides the window that is offered
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.sock.connect(("127.0.0.1", server.port))
        self.closed_with: int | None = None
        self.frames: list[dict[str, Any]] = []
        lines = [
            "GET /ws HTTP/1.1",
            f"Host: 127.0.0.1:{server.port}",
            "Upgrade: websocket",
            "Connection: Upgrade",
            f"Sec-WebSocket-Key: {base64.b64encode(os.urandom(16)).decode()}",
            "Sec-WebSocket-Version: 13",
        ]
        if origin is not None:
            lines.append(f"Origin: {server.origin if origin == 'own' else origin}")
        if api is not None and "hhc_access" in api.cookies:
            token = api.cookies["hhc_access"]
            lines.append(f"Authorization: Bearer {token}" if bearer else f"Cookie: hhc_access={token}")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode()
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in range(pieces):
            self.sock.sendall(head[len(head) * piece // pieces : len(head) * (piece + 1) // pieces])
            if pieces > 1:
                time.sleep(0.01)  # a segment each
        self._buffer = b""
        self.status = self._read_head()

    def __enter__(self) -> RawSocket:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def __del__(self) -> None:
        self.sock.close()

    def _read_head(self) -> int:
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        return int(head.split()[1])

    def _more(self) -> None:
        chunk = self.sock.recv(65536)
        if not chunk:
            raise EOFError("the server closed the connection")
        self._buffer += chunk

    def _take(self, count: int) -> bytes:
        while len(self._buffer) < count:
            self._more()
        taken, self._buffer = self._buffer[:count], self._buffer[count:]
        return taken

    def send(self, data: bytes) -> None:
        """Send bytes as they are."""
        self.sock.sendall(data)

    def send_text(self, text: str) -> None:
        """Send one good text message."""
        self.send(frame(TEXT, text.encode()))

    def send_json(self, **value: Any) -> None:
        """Send one good frame."""
        self.send_text(json.dumps(value))

    def receive(self) -> dict[str, Any] | None:
        """Return the next text message as JSON; None when the connection is closed (``closed_with`` says how)."""
        while True:
            try:
                first, second = self._take(2)
                length = second & 0x7F
                if length == 126:
                    (length,) = struct.unpack("!H", self._take(2))
                elif length == 127:
                    (length,) = struct.unpack("!Q", self._take(8))
                payload = self._take(length)
            except (EOFError, ConnectionResetError):
                return None
            opcode = first & 0x0F
            assert not second & 0x80, "a server must not mask"
            assert first & 0x80 and not first & 0x70, "fragmented or reserved bits"
            if opcode == CLOSE:
                self.closed_with = struct.unpack("!H", payload[:2])[0] if payload else 1005
                return None
            if opcode == PING and self.answers_pings:
                self.send(frame(PONG, payload))
            elif opcode == TEXT:
                value: dict[str, Any] = json.loads(payload)
                self.frames.append(value)
                return value

    def until(self, wanted: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
        """Return the first message for which ``wanted`` holds; those before it are in ``frames``."""
        while True:
            value = self.receive()
            if value is None:
                raise AssertionError(f"closed with {self.closed_with}; before: {self.frames[-5:]}")
            if wanted(value):
                return value

    def expect(self, kind: str) -> dict[str, Any]:
        """Return the next message of a type."""
        return self.until(lambda value: value["type"] == kind)

    def answer_to(self, client_id: str) -> dict[str, Any]:
        """Return the ``ack`` or ``error`` of a send."""
        return self.until(lambda value: value["type"] in ("ack", "error") and value.get("client_id") == client_id)

    def resume(self, cursors: dict[int, int] | None = None) -> dict[str, Any]:
        """Send ``resume`` and return ``resumed``."""
        self.send_json(type="resume", cursors={str(key): seq for key, seq in (cursors or {}).items()})
        return self.expect("resumed")

    def reset(self) -> None:
        """Close with a TCP reset: what is on its way in either direction is lost."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close_code(self) -> int | None:
        """Read to the end and return the close code (None: cut without one)."""
        while self.receive() is not None:
            pass
        return self.closed_with
