"""Errors of the transport of docs/protocol.md: the right close code, and no harm to the server."""

from __future__ import annotations

import json
import re
import socket
import struct
import time
import uuid
from pathlib import Path

import pytest

from harness.process import rss_bytes
from harness.raw import BINARY, CLOSE, PING, PONG, TEXT, RawSocket, frame
from harness.rooms import Room

MEBI = 2**20
GOOD = json.dumps({"type": "ping", "nonce": "🏒"}, ensure_ascii=False).encode()


def test_binary_closes_1003(room: Room) -> None:
    with RawSocket(room.server, room.login()) as ws:
        ws.send(frame(BINARY, GOOD))
        assert ws.close_code() == 1003


BROKEN_UTF8 = {
    "lone continuation": b'"\x80"',
    "overlong": b'"\xc0\xaf"',
    "surrogate": b'"\xed\xa0\x80"',
    "too high": b'"\xf4\x90\x80\x80"',
    "cut short": '"🏒"'.encode()[:-2],
    "ff": b"\xff\xfe",
}


@pytest.mark.parametrize("payload", BROKEN_UTF8.values(), ids=BROKEN_UTF8.keys())
def test_broken_utf8_closes_1007(room: Room, payload: bytes) -> None:
    with RawSocket(room.server, room.login()) as ws:
        ws.send(frame(TEXT, payload))
        assert ws.close_code() == 1007


BROKEN_FRAMES = {
    "unmasked": frame(TEXT, GOOD, masked=False),
    "reserved bit 1": frame(TEXT, GOOD, rsv=4),
    "reserved bit 2": frame(TEXT, GOOD, rsv=2),
    "reserved bit 3": frame(TEXT, GOOD, rsv=1),
    "data opcode 3": frame(0x3, GOOD),
    "control opcode 11": frame(0xB, b""),
    "fragmented ping": frame(PING, b"", fin=False),
    "long ping": frame(PING, b"x" * 126),
    "continuation of nothing": frame(0x0, GOOD),
    "message inside a message": frame(TEXT, b"{", fin=False) + frame(TEXT, GOOD),
    "close of one byte": frame(CLOSE, b"\x03"),
    "close with 1005": frame(CLOSE, struct.pack("!H", 1005)),
    "close with 999": frame(CLOSE, struct.pack("!H", 999)),
}


@pytest.mark.parametrize("data", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_a_broken_frame_closes_1002(room: Room, data: bytes) -> None:
    with RawSocket(room.server, room.login()) as ws:
        ws.expect("hello")
        ws.send(data)
        assert ws.close_code() == 1002


def test_what_rfc6455_allows_is_allowed(room: Room) -> None:
    with RawSocket(room.server, room.login()) as ws:
        ws.resume()
        half = len(GOOD) - 4  # in the middle of the emoji
        ws.send(frame(TEXT, GOOD[:half], fin=False) + frame(PING, b"now") + frame(0x0, GOOD[half:]))
        assert ws.expect("pong")["nonce"] == "🏒"
        ws.send(frame(PONG, b"unasked"))
        for byte in frame(TEXT, GOOD):
            ws.send(bytes([byte]))
        assert ws.expect("pong")["nonce"] == "🏒"
        ws.send(frame(CLOSE, struct.pack("!H", 1000) + b"bye"))
        assert ws.close_code() == 1000


def _push(ws: RawSocket, data: bytes) -> None:
    """Send until the server will not take more."""
    try:
        ws.send(data)
    except (BrokenPipeError, ConnectionResetError):
        return


def _ten_megabytes_at_once(ws: RawSocket) -> None:
    _push(ws, frame(TEXT, b"x" * 10 * MEBI))


def _ten_megabytes_in_pieces(ws: RawSocket) -> None:
    piece = frame(0x0, b"x" * 32_000, fin=False)
    _push(ws, frame(TEXT, b"x" * 32_000, fin=False) + piece * 320)


def _ten_megabytes_announced(ws: RawSocket) -> None:
    ws.send(frame(TEXT, b"x" * 10 * MEBI)[:20])


def _many_empty_pieces(ws: RawSocket) -> None:
    _push(ws, frame(TEXT, b"{", fin=False) + frame(0x0, b"x", fin=False) * 100_000)


@pytest.mark.parametrize(
    "attack", [_ten_megabytes_at_once, _ten_megabytes_in_pieces, _ten_megabytes_announced, _many_empty_pieces]
)
def test_too_large_closes_1009_before_it_is_in_memory(room: Room, attack: object) -> None:
    assert callable(attack)
    api = room.login()
    workers = room.server.worker_pids()
    with RawSocket(room.server, api) as ws:
        ws.resume()
    before = {}
    for pid in workers:
        Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak begins again
        before[pid] = rss_bytes(pid, "VmHWM")
    for _ in range(3):
        with RawSocket(room.server, api) as ws:
            ws.expect("hello")
            attack(ws)
            assert ws.close_code() in (1009, None), "a reset may overtake the close frame, another code may not"
    grown = {pid: rss_bytes(pid, "VmHWM") - before[pid] for pid in workers}
    assert max(grown.values()) < 5 * MEBI, f"the peak grew by {grown}"


def test_just_over_64_kib_closes_1009(room: Room) -> None:
    with RawSocket(room.server, room.login()) as ws:
        ws.resume()
        ws.send_text(json.dumps({"type": "ping", "nonce": "x" * 65_536}))
        assert ws.close_code() == 1009


def test_a_vanished_client_leaves_nothing_behind(room: Room) -> None:
    api = room.login()
    for cut in (b"", frame(TEXT, GOOD)[:3], frame(TEXT, GOOD)[:-1]):
        with RawSocket(room.server, api) as ws:
            ws.resume()
            ws.send(cut)
    with RawSocket(room.server, api) as ws:
        ws.resume()
        key = str(uuid.uuid4())
        ws.send_json(type="send", client_id=key, conversation_id=room.id, body="after them")
        assert ws.expect("ack")["seq"] == 1


def _handshakes(room: Room) -> float:
    text = room.server.metrics_api().get("/metrics").expect(200).body.decode()
    counted = re.findall(
        r'^http_requests_total\{method="GET",route="/ws",status="101"\} ([0-9.]+)$', text, re.MULTILINE
    )
    return sum(map(float, counted))


def test_every_way_through_the_handshake_leads_to_the_same_conversation(room: Room) -> None:
    """A browser's cookie goes the quick way; a program's token, and a request in pieces, through gunicorn and Flask."""
    api = room.login()
    before = _handshakes(room)
    ways: list[dict[str, object]] = [{}, {"bearer": True}, {"pieces": 3}, {"origin": None}]
    sockets = [RawSocket(room.server, api, **way) for way in ways]  # type: ignore[arg-type]
    for ws in sockets:
        assert ws.status == 101
        ws.resume()
    for number, ws in enumerate(sockets):
        key = str(uuid.uuid4())
        ws.send_json(type="send", client_id=key, conversation_id=room.id, body=f"by way {number}")
        assert ws.answer_to(key)["seq"] == number + 1
    for ws in sockets:
        while sum(frame["type"] == "message" for frame in ws.frames) < len(sockets):
            ws.receive()
        assert [f["body"] for f in ws.frames if f["type"] == "message"] == [f"by way {n}" for n in range(len(ways))]
    assert _handshakes(room) == before + len(ways)
    for ws in sockets:
        ws.sock.close()


def test_a_handshake_that_says_nothing_for_a_while_is_still_served(room: Room) -> None:
    with RawSocket(room.server, room.login(), pieces=2) as ws:
        ws.resume()
    silent = socket.create_connection(("127.0.0.1", room.server.port), timeout=10)
    try:
        time.sleep(2.5)  # longer than the quick way waits
        silent.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert silent.recv(100).startswith(b"HTTP/1.1 200")
    finally:
        silent.close()
