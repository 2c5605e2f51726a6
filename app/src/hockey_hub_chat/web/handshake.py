"""The opening handshake of ``/ws`` (RFC 6455 §4.2): what is one, and a quick way through the common case.

Through gunicorn's parser, Flask and flask-sock a handshake costs half a millisecond of CPU, and after a restart everybody comes back
at once. ``QuickHandshake`` looks at a request before gunicorn reads it, without taking it: a plain handshake with our access cookie
and our own origin is answered here. Anything else, every refusal included, is left to Flask, which has all the answers. It must never
let in what Flask would not.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import gevent.socket

from hockey_hub_chat import metrics
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import BadRequestError
from hockey_hub_chat.web import security

if TYPE_CHECKING:
    from hockey_hub_chat.web.socket import Door

#: RFC 6455 §1.3.
_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
#: Bytes looked at; a browser's handshake with our cookies is half of it.
_PEEK_BYTES = 4096
#: How long a first request is waited for here.
_PATIENCE_SECONDS = 2.0
#: A head of plain fields (RFC 9110 §5.5, without folding and without bytes past ASCII), and nothing after it.
_HEAD = re.compile(
    rb"GET /ws HTTP/1\.1\r\n(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[ \t]*[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?\r\n)+\r\n"
)
_START = b"GET /ws HTTP/1.1\r\n"
_KEY = re.compile(rb"[A-Za-z0-9+/]{21}[AQgw]==")
_COOKIE = re.compile(rb"(?:^|; )" + security.ACCESS_COOKIE.encode() + rb"=([A-Za-z0-9._-]{1,4096})(?:;|$)")
#: Fields that say more than a plain handshake does.
_UNUSUAL = frozenset(
    (b"authorization", b"content-length", b"expect", b"sec-websocket-protocol", b"trailer", b"transfer-encoding")
)


def check(environ: Mapping[str, Any]) -> None:
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


class QuickHandshake:
    """Answers plain handshakes of one worker.

    Args:
        settings: which origins are our own.
        door: who takes the sockets.
    """

    def __init__(self, settings: Settings, door: Door) -> None:
        self._settings = settings
        self._door = door
        self._count = metrics.HTTP_REQUESTS.labels(method="GET", route="/ws", status="101")

    def try_open(self, client: Any) -> bool:
        """Serve a connection if its first request is a plain handshake. Returns False when nothing was taken from it.

        Args:
            client: a gevent socket, just accepted.
        """
        try:
            head = self._peek(client)
        except OSError:  # it has gone, or says nothing: gunicorn knows what to do
            return False
        if not head.startswith(_START):
            return False
        found = read(head, self._settings)
        if found is None:
            return False
        token, key = found
        client._sock.recv(len(head))  # all of it lies in the kernel
        self._count.inc()
        self._door.open(client.detach(), token, greeting=answer(key))
        return True

    @staticmethod
    def _peek(client: Any) -> bytes:
        try:
            seen: bytes = client._sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
        except BlockingIOError:
            gevent.socket.wait_read(client.fileno(), _PATIENCE_SECONDS, TimeoutError())
            seen = client._sock.recv(_PEEK_BYTES, socket.MSG_PEEK)
        return seen


def answer(key: bytes) -> bytes:
    """Return the head that accepts a handshake (RFC 6455 §4.2.2)."""
    accept = base64.b64encode(hashlib.sha1(key + _GUID, usedforsecurity=False).digest())
    return (
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: "
        + accept
        + b"\r\n\r\n"
    )


def read(head: bytes, settings: Settings) -> tuple[str, bytes] | None:
    """Return (access token, Sec-WebSocket-Key) of a plain handshake from our own site; None for anything else."""
    if _HEAD.fullmatch(head) is None:
        return None
    fields: dict[bytes, bytes] = {}
    for line in head[len(_START) : -4].split(b"\r\n"):
        name, _, value = line.partition(b":")
        name = name.lower()
        if name in fields or name in _UNUSUAL:
            return None
        fields[name] = value.strip()
    key = fields.get(b"sec-websocket-key", b"")
    cookies = fields.get(b"cookie", b"")
    found = _COOKIE.search(cookies)
    if (
        found is None
        or cookies.count(security.ACCESS_COOKIE.encode()) != 1
        or b'"' in cookies
        or fields.get(b"upgrade", b"").lower() != b"websocket"
        or b"upgrade" not in [token.strip() for token in fields.get(b"connection", b"").lower().split(b",")]
        or fields.get(b"sec-websocket-version") != b"13"
        or _KEY.fullmatch(key) is None
        or b"host" not in fields
    ):
        return None
    origin = fields.get(b"origin")
    if not security.is_own_origin(
        settings,
        origin.decode() if origin is not None else None,
        fields.get(b"sec-fetch-site", b"none").decode(),
        fields[b"host"].decode(),
    ):
        return None
    return found[1].decode(), key
