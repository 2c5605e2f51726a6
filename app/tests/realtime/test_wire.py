"""What the server sends is read by two clients that know nothing of us: wsproto and websockets."""

from __future__ import annotations

import struct

import pytest
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.http11 import Request
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection, Event, Ping, Pong, TextMessage

from hockey_hub_chat import events
from hockey_hub_chat.realtime import wire

SIZES = (0, 1, 125, 126, 127, 65_535, 65_536, 200_000)


def read_by_wsproto(stream: bytes) -> list[Event]:
    """Return what a client's wsproto makes of the stream."""
    connection = Connection(ConnectionType.CLIENT)
    connection.receive_data(stream)
    return list(connection.events())


def read_by_websockets(stream: bytes) -> list[Frame]:
    """Return the frames a client's websockets makes of the stream, after a handshake with its own server."""
    client = ClientProtocol(parse_uri("ws://localhost/ws"))
    server = ServerProtocol()
    client.send_request(client.connect())
    server.receive_data(b"".join(client.data_to_send()))
    (request,) = server.events_received()
    assert isinstance(request, Request)
    server.send_response(server.accept(request))
    client.receive_data(b"".join(server.data_to_send()))
    client.events_received()  # the answer to the handshake
    client.receive_data(stream)
    assert client.parser_exc is None
    return [event for event in client.events_received() if isinstance(event, Frame)]


@pytest.mark.parametrize("characters", [0, 40, 60, 40_000])
def test_messages_are_read_by_others(characters: int) -> None:
    frame = events.Pong(nonce="ü" * characters)
    stream = wire.encode(frame)
    text = frame.model_dump_json()
    assert read_by_wsproto(stream * 2) == [TextMessage(text)] * 2
    assert read_by_websockets(stream * 2) == [Frame(Opcode.TEXT, text.encode())] * 2


@pytest.mark.parametrize("size", SIZES)
def test_payloads_of_every_length_are_read_by_others(size: int) -> None:
    stream = wire._frame(0x81, b"x" * size)
    assert read_by_wsproto(stream) == [TextMessage("x" * size)]
    assert read_by_websockets(stream) == [Frame(Opcode.TEXT, b"x" * size)]


@pytest.mark.parametrize("payload", [b"", b"\xff", bytes(125)])
def test_pings_and_pongs_are_read_by_others(payload: bytes) -> None:
    stream = wire.ping_frame(payload) + wire.pong_frame(payload)
    assert read_by_wsproto(stream) == [Ping(payload), Pong(payload)]
    assert read_by_websockets(stream) == [Frame(Opcode.PING, payload), Frame(Opcode.PONG, payload)]


@pytest.mark.parametrize("code", [1000, 1001, 1002, 1003, 1007, 1009, 1011, 1012, 1013, 4401, 4403, 4408, 4429])
@pytest.mark.parametrize("reason", ["", "restarting", "ä" * 61, "🏒" * 100])
def test_close_frames_are_read_by_others(code: int, reason: str) -> None:
    stream = wire.close_frame(code, reason)
    (event,) = read_by_wsproto(stream)
    (frame,) = read_by_websockets(stream)
    assert isinstance(event, CloseConnection) and event.code == code
    told = event.reason or ""
    assert reason.startswith(told) and len(told.encode()) >= min(len(reason.encode()), 120)
    assert frame == Frame(Opcode.CLOSE, struct.pack("!H", code) + told.encode())
