"""Two client libraries that know nothing of us, websockets and wsproto, speak all of RFC 6455 to a real server."""

from __future__ import annotations

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    CloseConnection,
    Event,
    Message,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import PerMessageDeflate
from wsproto.frame_protocol import CloseReason

from harness.rooms import Room

MAX_MESSAGE_BYTES = 65_536
CLOSES = [(1000, ""), (1001, "going"), (3000, ""), (4999, "auf Wiedersehen 🏒"), (1000, "x" * 123)]
#: RFC 6455 §5.5.1 asks for an answer in kind: to a close without a code, one without or a normal one.
NO_CODE = (1000, 1005)


def ping(nonce: str, size: int = 0) -> str:
    """Return a message that is answered by a ``pong``, filled up with blanks to ``size`` bytes."""
    text = json.dumps({"type": "ping", "nonce": nonce}, ensure_ascii=False)
    return text + " " * (size - len(text.encode()))


def headers(room: Room) -> list[tuple[str, str]]:
    """Return what a logged-in client sends along."""
    return [("Cookie", f"hhc_access={room.login().cookies['hhc_access']}")]


# --- websockets ------------------------------------------------------------------------------------------------------


def with_websockets(room: Room, talk: Callable[[ClientConnection], Coroutine[Any, Any, None]], **options: Any) -> None:
    """Connect as a browser would, and talk."""

    async def run() -> None:
        settings = {"ping_interval": None, "proxy": None, "origin": room.server.origin, **options}
        url = f"ws://127.0.0.1:{room.server.port}/ws"
        async with connect(url, additional_headers=headers(room), **settings) as ws:
            assert (await read(ws))["type"] == "hello"
            await asyncio.wait_for(talk(ws), 30)

    asyncio.run(run())


async def read(ws: ClientConnection) -> dict[str, Any]:
    """Return the next message."""
    value: dict[str, Any] = json.loads(await ws.recv(decode=True))
    return value


def test_websockets_offers_compression_and_subprotocols_and_gets_neither(room: Room) -> None:
    async def talk(ws: ClientConnection) -> None:
        assert ws.request is not None and "permessage-deflate" in ws.request.headers["Sec-WebSocket-Extensions"]
        assert ws.response is not None and ws.response.status_code == 101
        assert "Sec-WebSocket-Extensions" not in ws.response.headers
        assert "Sec-WebSocket-Protocol" not in ws.response.headers
        assert ws.protocol.extensions == [] and ws.subprotocol is None
        await ws.send(ping("plain"))
        assert await read(ws) == {"type": "pong", "nonce": "plain"}

    with_websockets(room, talk, compression="deflate", subprotocols=["chat", "superchat"])


@pytest.mark.parametrize("size", [0, 125, 126, 127, 20_000, 65_535, MAX_MESSAGE_BYTES])
def test_websockets_sends_messages_of_every_length(room: Room, size: int) -> None:
    async def talk(ws: ClientConnection) -> None:
        for _ in range(3):
            await ws.send(ping("🏒", size))
        for _ in range(3):
            assert (await read(ws))["nonce"] == "🏒"

    with_websockets(room, talk)


def test_websockets_sends_fragments_with_pings_between_them(room: Room) -> None:
    async def talk(ws: ClientConnection) -> None:
        text = ping("fragments 🏒", 1_000)
        await ws.send([text[:5], "", text[5:200], text[200:]])
        assert (await read(ws))["nonce"] == "fragments 🏒"

        async def parts() -> AsyncIterator[str]:
            for number, character in enumerate(ping("🏒")):
                if number % 5 == 0:
                    await (await ws.ping(f"between {number}"))
                    await ws.pong(b"unasked")
                yield character

        await ws.send(parts())
        assert (await read(ws))["nonce"] == "🏒"

    with_websockets(room, talk)


def test_websockets_gets_its_pings_back_with_their_payload(room: Room) -> None:
    async def talk(ws: ClientConnection) -> None:
        waiting = [await ws.ping(payload) for payload in (b"", b"\xff", bytes(range(125)))]
        for pong in waiting:
            await pong
        await ws.pong(b"unasked")
        await ws.send(ping("still here"))
        assert (await read(ws))["nonce"] == "still here"

    with_websockets(room, talk)


@pytest.mark.parametrize(("code", "reason"), CLOSES)
def test_websockets_closes_and_is_answered_with_its_code(room: Room, code: int, reason: str) -> None:
    async def talk(ws: ClientConnection) -> None:
        await ws.close(code, reason)
        assert ws.protocol.close_rcvd is not None and ws.protocol.close_rcvd.code == code
        assert ws.protocol.close_rcvd_then_sent is False

    with_websockets(room, talk)


@pytest.mark.parametrize(
    ("message", "code"),
    [(b"binary", 1003), ("x" * (MAX_MESSAGE_BYTES + 1), 1009), (["x" * 40_000, "x" * 40_000], 1009)],
    ids=["binary", "too large", "too large in fragments"],
)
def test_websockets_is_told_what_it_did_wrong(room: Room, message: Any, code: int) -> None:
    async def talk(ws: ClientConnection) -> None:
        await ws.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await ws.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == code
        assert closed.value.rcvd_then_sent is True

    with_websockets(room, talk)


# --- wsproto ---------------------------------------------------------------------------------------------------------


class WsprotoPeer:
    """wsproto as a client over a plain socket."""

    def __init__(self, room: Room) -> None:
        self.sock = socket.create_connection(("127.0.0.1", room.server.port), timeout=30)
        self.ws = WSConnection(ConnectionType.CLIENT)
        self._events = self.ws.events()
        host = f"127.0.0.1:{room.server.port}"
        extra = [(name.encode(), value.encode()) for name, value in [*headers(room), ("Origin", room.server.origin)]]
        self.send(Request(host, "/ws", extensions=[PerMessageDeflate()], subprotocols=["chat"], extra_headers=extra))
        accepted = self.receive()
        assert isinstance(accepted, AcceptConnection)
        self.accepted = accepted
        assert self.message()["type"] == "hello"

    def __enter__(self) -> WsprotoPeer:
        return self

    def __exit__(self, *_: object) -> None:
        self.sock.close()

    def send(self, *events: Event) -> None:
        """Send all of them at once."""
        self.sock.sendall(b"".join(map(self.ws.send, events)))

    def receive(self) -> Event:
        """Return the next event."""
        while (event := next(self._events, None)) is None:
            data = self.sock.recv(65_536)
            assert data, "the server closed the connection without a close frame"
            self.ws.receive_data(data)
            self._events = self.ws.events()
        return event

    def message(self) -> dict[str, Any]:
        """Return the next text message; nothing else may come before it."""
        text = ""
        while True:
            event = self.receive()
            assert isinstance(event, TextMessage), event
            text += event.data
            if event.message_finished:
                value: dict[str, Any] = json.loads(text)
                return value

    def closed(self) -> CloseConnection:
        """Return the close frame that must come next, answer it when it is not the answer, and see the socket end."""
        event = self.receive()
        assert isinstance(event, CloseConnection)
        if self.ws.state is ConnectionState.REMOTE_CLOSING:
            self.send(event.response())
        assert self.sock.recv(1) == b""
        return event


def test_wsproto_offers_compression_and_subprotocols_and_gets_neither(room: Room) -> None:
    with WsprotoPeer(room) as peer:
        assert peer.accepted.extensions == [] and peer.accepted.subprotocol is None
        peer.send(Message(ping("plain")))
        assert peer.message() == {"type": "pong", "nonce": "plain"}


def test_wsproto_sends_many_messages_at_once(room: Room) -> None:
    with WsprotoPeer(room) as peer:
        peer.send(*(Message(ping(str(number), number)) for number in range(300)))
        assert [peer.message()["nonce"] for _ in range(300)] == [str(number) for number in range(300)]


def test_wsproto_sends_fragments_with_control_frames_between_them(room: Room) -> None:
    with WsprotoPeer(room) as peer:
        first, middle, last = ping("🏒")[:10], "", ping("🏒")[10:]
        peer.send(
            TextMessage(first, message_finished=False),
            Ping(b"one"),
            TextMessage(middle, message_finished=False),
            Pong(b"unasked"),
            Ping(b"\xff" * 125),
            TextMessage(last),
        )
        assert [peer.receive(), peer.receive()] == [Pong(b"one"), Pong(b"\xff" * 125)]
        assert peer.message()["nonce"] == "🏒"


def test_wsproto_sends_one_byte_at_a_time(room: Room) -> None:
    with WsprotoPeer(room) as peer:
        peer.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for event in (Ping(b"torn"), Message(ping("🏒", 200))):
            for byte in peer.ws.send(event):
                peer.sock.sendall(bytes([byte]))
        assert peer.receive() == Pong(b"torn")
        assert peer.message()["nonce"] == "🏒"


@pytest.mark.parametrize(("code", "reason"), CLOSES)
def test_wsproto_closes_and_is_answered_with_its_code(room: Room, code: int, reason: str) -> None:
    with WsprotoPeer(room) as peer:
        peer.send(CloseConnection(code, reason))
        assert peer.closed().code == code


def test_wsproto_closes_without_a_code(room: Room) -> None:
    with WsprotoPeer(room) as peer:
        peer.send(CloseConnection(CloseReason.NO_STATUS_RCVD))
        assert peer.closed().code in NO_CODE


def test_wsproto_closes_in_the_middle_of_a_message(room: Room) -> None:
    with WsprotoPeer(room) as peer:
        peer.send(TextMessage("{", message_finished=False), CloseConnection(1001))
        assert peer.closed().code == 1001


@pytest.mark.parametrize(
    ("event", "code"),
    [
        (Message(b"binary"), 1003),
        (Message(b"binary", message_finished=False), 1003),
        (Message("x" * (MAX_MESSAGE_BYTES + 1)), 1009),
    ],
    ids=["binary", "the first fragment of a binary", "too large"],
)
def test_wsproto_is_told_what_it_did_wrong(room: Room, event: Event, code: int) -> None:
    with WsprotoPeer(room) as peer:
        peer.send(event)
        assert peer.closed().code == code
