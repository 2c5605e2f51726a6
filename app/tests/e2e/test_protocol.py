"""docs/protocol.md, its tables row by row, over a real gunicorn with PostgreSQL and Redis.

Every test takes ``room``, which also asserts afterwards that no worker died, the site serves, and nothing was logged as
a traceback or an error.
"""

from __future__ import annotations

import json
import uuid
from typing import Any

import pytest

from harness.raw import RawSocket
from harness.rooms import Room


def new_id() -> str:
    """Return a client_id."""
    return str(uuid.uuid4())


@pytest.fixture
def ws(room: Room) -> Any:
    """Alice's socket, resumed from now on."""
    with RawSocket(room.server, room.login()) as socket:
        socket.resume()
        yield socket


def still_works(ws: RawSocket, room: Room) -> None:
    """Assert that the connection stays and serves."""
    key = new_id()
    ws.send_json(type="send", client_id=key, conversation_id=room.id, body="still here")
    ws.until(lambda frame: frame["type"] == "ack" and frame["client_id"] == key)


# --- a connection ----------------------------------------------------------------------------------------------------


def test_hello_comes_first_and_nothing_before_resume(room: Room) -> None:
    with RawSocket(room.server, room.login(room.bob)) as bob, RawSocket(room.server, room.login()) as alice:
        hello = bob.receive()
        assert hello is not None
        assert hello["type"] == "hello" and hello["protocol"] == 1 and hello["user_id"] == room.bob.id
        assert hello["max_frame_bytes"] == 65536 and hello["max_body_chars"] == 8000 and hello["heartbeat_seconds"] > 0
        alice.resume()
        still_works(alice, room)
        bob.send_json(type="ping", nonce="before resume")
        assert bob.receive() == {"type": "pong", "nonce": "before resume"}, "something was delivered before resume"
        bob.send_json(type="resume", cursors={str(room.id): 0})
        assert bob.expect("message")["seq"] == 1
        assert bob.expect("resumed")["last_seqs"] == {str(room.id): 1}


def test_a_message_reaches_both_once_and_is_acked(room: Room) -> None:
    key = new_id()
    with RawSocket(room.server, room.login()) as alice, RawSocket(room.server, room.login(room.bob)) as bob:
        alice.resume()
        bob.resume()
        alice.send_json(type="send", client_id=key, conversation_id=room.id, body="hello Bob 🏒")
        got = bob.expect("message")
        assert {k: got[k] for k in ("conversation_id", "seq", "sender_id", "client_id", "body")} == {
            "conversation_id": room.id,
            "seq": 1,
            "sender_id": room.alice.id,
            "client_id": key,
            "body": "hello Bob 🏒",
        }
        both = [alice.until(lambda f: f["type"] in ("ack", "message")) for _ in range(2)]
        assert {frame["type"] for frame in both} == {"ack", "message"}
        assert all(frame["seq"] == 1 and frame["client_id"] == key for frame in both)
        assert both[0]["created_at"] == both[1]["created_at"] == got["created_at"]


def test_a_repeated_send_is_answered_with_the_first_result(room: Room, ws: RawSocket) -> None:
    key = new_id()
    with RawSocket(room.server, room.login(room.bob)) as bob:
        bob.resume()
        for _ in range(3):
            ws.send_json(type="send", client_id=key, conversation_id=room.id, body="once")
        acks = [ws.expect("ack") for _ in range(3)]
        assert acks[0] == acks[1] == acks[2]
        still_works(ws, room)
        assert bob.expect("message")["client_id"] == key
        assert bob.expect("message")["seq"] == 2, "the repeated send was delivered again"
    assert [row.seq for row in room.server.people.history(room.id)] == [1, 2]


def test_several_in_flight_commit_in_the_order_sent(room: Room, ws: RawSocket) -> None:
    keys = [new_id() for _ in range(200)]
    for number, key in enumerate(keys):
        ws.send_json(type="send", client_id=key, conversation_id=room.id, body=str(number))
    acked: list[str] = []
    received: list[tuple[int, str]] = []
    while len(acked) < 200 or len(received) < 200:
        frame = ws.until(lambda f: f["type"] in ("ack", "message"))
        if frame["type"] == "ack":
            acked.append(frame["client_id"])
        else:
            received.append((frame["seq"], frame["body"]))
    assert sorted(acked) == sorted(keys)
    assert received == [(n + 1, str(n)) for n in range(200)]
    assert [row.client_id for row in room.server.people.history(room.id)] == keys


def test_resume_brings_exactly_what_was_missed(room: Room) -> None:
    room.server.people.fill(room.id, room.bob, 500)
    with RawSocket(room.server, room.login()) as ws:
        ws.resume({room.id: 3})
        assert [f["seq"] for f in ws.frames if f["type"] == "message"] == list(range(4, 501))
        assert not [f for f in ws.frames if f["type"] == "gap"]
    with RawSocket(room.server, room.login()) as ws:
        assert ws.resume({room.id: 500})["last_seqs"] == {str(room.id): 500}
        assert not [f for f in ws.frames if f["type"] == "message"]
    with RawSocket(room.server, room.login()) as ws:
        ws.resume()
        assert not [f for f in ws.frames if f["type"] == "message"], "no cursor means from now on"


def test_more_than_500_missed_is_a_gap_to_page(room: Room) -> None:
    room.server.people.fill(room.id, room.bob, 610)
    api = room.login()
    with RawSocket(room.server, api) as ws:
        ws.resume({room.id: 5})
        gap = [f for f in ws.frames if f["type"] == "gap"]
        assert gap == [{"type": "gap", "conversation_id": room.id, "after_seq": 5, "last_seq": 610}]
        assert not [f for f in ws.frames if f["type"] == "message"]
        still_works(ws, room)
        assert [f["seq"] for f in ws.frames if f["type"] == "message"] in ([], [611])
    paged: list[int] = []
    while True:
        last = paged[-1] if paged else 5
        page = api.get(f"/api/conversations/{room.id}/messages?after_seq={last}&limit=200").expect(200).json()
        page = page["messages"]
        if not page:
            break
        assert len(page) <= 200
        paged += [message["seq"] for message in page]
    assert paged == list(range(6, 612))


def test_read_moves_forward_only_and_is_told_to_members(room: Room, ws: RawSocket) -> None:
    room.server.people.fill(room.id, room.bob, 5)
    with RawSocket(room.server, room.login(room.bob)) as bob:
        bob.resume()
        ws.send_json(type="read", conversation_id=room.id, seq=4)
        moved = {"type": "read_moved", "conversation_id": room.id, "user_id": room.alice.id, "seq": 4}
        assert bob.expect("read_moved") == moved
        ws.send_json(type="read", conversation_id=room.id, seq=2)
        ws.send_json(type="read", conversation_id=room.id, seq=5)
        assert bob.expect("read_moved") == {**moved, "seq": 5}, "the marker moved backwards"
    mine = room.login().get("/api/conversations").expect(200).json()["conversations"]
    assert [(c["last_seq"], c["read_seq"]) for c in mine if c["id"] == room.id] == [(5, 5)]


def test_read_never_passes_the_newest_message(room: Room, ws: RawSocket) -> None:
    room.server.people.fill(room.id, room.bob, 2)
    ws.send_json(type="read", conversation_id=room.id, seq=1000)
    still_works(ws, room)
    mine = room.login().get(f"/api/conversations/{room.id}").expect(200).json()
    assert mine["read_seq"] <= 3


def test_typing_reaches_the_others_alone(room: Room, ws: RawSocket) -> None:
    with RawSocket(room.server, room.login(room.bob)) as bob:
        bob.resume()
        ws.send_json(type="typing", conversation_id=room.id)
        assert bob.expect("typing") == {"type": "typing", "conversation_id": room.id, "user_id": room.alice.id}
        bob.send_json(type="typing", conversation_id=room.id)
        assert ws.expect("typing")["user_id"] == room.bob.id, "the sender was told of itself"


def test_typing_elsewhere_is_dropped_silently(room: Room) -> None:
    with RawSocket(room.server, room.login(room.mallory)) as ws:
        ws.resume()
        ws.send_json(type="typing", conversation_id=room.id)
        ws.send_json(type="typing", conversation_id=2**52)
        ws.send_json(type="ping", nonce="n")
        assert ws.receive() == {"type": "pong", "nonce": "n"}


# --- an error of one frame: answered, and the connection stays -------------------------------------------------------

NOT_A_FRAME = [
    "not json",
    "",
    "{",
    "[]",
    "[1, 2]",
    '"send"',
    "17",
    "null",
    "true",
    "{}",
    '{"body": "x"}',
    "NaN",
    "[" * 20_000,
    '{"type": "ping", "nonce": "\\ud800"}',
    '{"a":' * 10_000 + "1" + "}" * 10_000,
]


@pytest.mark.parametrize("text", NOT_A_FRAME, ids=lambda text: text[:20] or "empty")
def test_what_is_no_frame_is_bad_request(room: Room, ws: RawSocket, text: str) -> None:
    ws.send_text(text)
    error = ws.expect("error")
    assert error["code"] == "bad_request"
    assert error["retryable"] is False and error["message"]
    still_works(ws, room)


@pytest.mark.parametrize("kind", ["nonsense", "", "SEND", "hello", "ack", "x" * 5000, "__class__"])
def test_a_type_we_do_not_have(room: Room, ws: RawSocket, kind: str) -> None:
    ws.send_json(type=kind, body="x")
    assert ws.expect("error")["code"] == "unknown_type"
    still_works(ws, room)


@pytest.mark.parametrize("kind", [5, None, True, ["send"], {"a": 1}, 1e308])
def test_a_type_that_is_no_string(room: Room, ws: RawSocket, kind: object) -> None:
    ws.send_json(type=kind)
    assert ws.expect("error")["code"] in ("bad_request", "unknown_type", "validation_failed")
    still_works(ws, room)


SEND: dict[str, Any] = {
    "type": "send",
    "client_id": "6f1ed002-ab55-4d2c-9a7e-0d5b7e5b1b11",
    "conversation_id": 1,
    "body": "x",
}


def but(**changes: Any) -> dict[str, Any]:
    """Return a good send with some fields changed; ``...`` removes one."""
    return {key: value for key, value in {**SEND, **changes}.items() if value is not ...}


INVALID: list[tuple[str, dict[str, Any]]] = [
    ("client_id", but(client_id=...)),
    ("client_id", but(client_id="no uuid")),
    ("client_id", but(client_id=7)),
    ("client_id", but(client_id=None)),
    ("conversation_id", but(conversation_id=...)),
    ("conversation_id", but(conversation_id="1")),
    ("conversation_id", but(conversation_id=0)),
    ("conversation_id", but(conversation_id=-1)),
    ("conversation_id", but(conversation_id=1.5)),
    ("conversation_id", but(conversation_id=True)),
    ("conversation_id", but(conversation_id=2**53)),
    ("conversation_id", but(conversation_id=10**30)),
    ("conversation_id", but(conversation_id=[1])),
    ("body", but(body=...)),
    ("body", but(body="")),
    ("body", but(body=5)),
    ("body", but(body=None)),
    ("body", but(body={"x": 1})),
    ("body", but(body="x" * 8001)),
    ("body", but(body="nul \0 inside")),
    ("admin", but(admin=True)),
    ("seq", but(seq=1)),
    ("cursors", {"type": "resume"}),
    ("cursors", {"type": "resume", "cursors": []}),
    ("cursors", {"type": "resume", "cursors": {"abc": 1}}),
    ("cursors", {"type": "resume", "cursors": {"0": 1}}),
    ("cursors", {"type": "resume", "cursors": {"-1": 1}}),
    ("cursors", {"type": "resume", "cursors": {"1": -1}}),
    ("cursors", {"type": "resume", "cursors": {"1": "1"}}),
    ("cursors", {"type": "resume", "cursors": {"1": None}}),
    ("cursors", {"type": "resume", "cursors": {"1": 2**53}}),
    ("cursors", {"type": "resume", "cursors": {str(n): 1 for n in range(1, 5002)}}),
    ("seq", {"type": "read", "conversation_id": 1}),
    ("seq", {"type": "read", "conversation_id": 1, "seq": -1}),
    ("seq", {"type": "read", "conversation_id": 1, "seq": "3"}),
    ("conversation_id", {"type": "read", "seq": 1}),
    ("conversation_id", {"type": "typing"}),
    ("conversation_id", {"type": "typing", "conversation_id": {}}),
    ("nonce", {"type": "ping", "nonce": 5}),
    ("nonce", {"type": "ping", "nonce": "n" * 65}),
]


def test_every_wrong_field_is_named(room: Room) -> None:
    api = room.login()
    wrong: list[str] = []
    for field, frame in INVALID:
        with RawSocket(room.server, api) as ws:
            ws.resume()
            ws.send_text(json.dumps(frame, separators=(",", ":")))
            error = ws.expect("error")
            named = [str(entry) for entry in error["details"].get("fields", [])]
            shown = f"{json.dumps(frame)[:120]} -> {error['code']} {named}"
            if error["code"] != "validation_failed" or not any(field in entry for entry in named):
                wrong.append(shown)
            if frame["type"] == "send" and error.get("client_id") not in (None, frame.get("client_id")):
                wrong.append(f"answers another send: {shown}")
            still_works(ws, room)
    assert not wrong, "\n".join(wrong)


def test_a_refused_send_is_answered_with_its_client_id(room: Room, ws: RawSocket) -> None:
    for frame in (but(client_id=new_id(), body=""), but(client_id=new_id(), conversation_id=2**50)):
        ws.send_json(**frame)
        assert ws.expect("error")["client_id"] == frame["client_id"]


def test_the_largest_message_passes(room: Room, ws: RawSocket) -> None:
    body = "🏒" * 8000
    ws.send_text(
        json.dumps({**SEND, "client_id": new_id(), "conversation_id": room.id, "body": body}, ensure_ascii=False)
    )
    assert ws.expect("ack")["seq"] == 1
    assert room.server.people.history(room.id)[0].body == body


@pytest.mark.parametrize(
    "body", ["'; DROP TABLE messages; --", "<script>alert(1)</script>", "a\nb\tc\u202e\u0007", " "]
)
def test_text_is_only_text(room: Room, ws: RawSocket, body: str) -> None:
    ws.send_json(**{**SEND, "client_id": new_id(), "conversation_id": room.id, "body": body})
    assert ws.expect("message")["body"] == body


def test_unknown_and_foreign_conversations_answer_alike(room: Room) -> None:
    with RawSocket(room.server, room.login(room.mallory)) as ws:
        ws.resume()
        answers = []
        for conversation in (room.id, 2**52):
            ws.send_json(**{**SEND, "client_id": new_id(), "conversation_id": conversation})
            answers.append(ws.expect("error"))
            ws.send_json(type="read", conversation_id=conversation, seq=1)
            answers.append(ws.expect("error"))
        assert {answer["code"] for answer in answers} == {"not_a_member"}
        assert len({answer["message"] for answer in answers}) == 1, "the wording tells them apart"
        assert len({json.dumps(answer["details"]) for answer in answers}) == 1
        for _ in range(12):
            ws.send_json(**{**SEND, "client_id": new_id(), "conversation_id": room.id})
            assert ws.expect("error")["code"] == "not_a_member", "these do not count as broken frames"
    assert room.server.people.history(room.id) == []


def test_resume_of_a_foreign_conversation_brings_nothing(room: Room) -> None:
    room.server.people.fill(room.id, room.bob, 3)
    with RawSocket(room.server, room.login(room.mallory)) as ws:
        assert ws.resume({room.id: 0, 2**52: 7})["last_seqs"] == {}
        assert not [f for f in ws.frames if f["type"] in ("message", "gap")]
        with RawSocket(room.server, room.login()) as alice:
            alice.resume()
            still_works(alice, room)
        ws.send_json(type="ping", nonce="")
        assert ws.receive() == {"type": "pong", "nonce": ""}, "a live message leaked"


def test_the_same_client_id_for_something_else_is_a_conflict(room: Room, ws: RawSocket) -> None:
    key = new_id()
    other = room.server.people.group([room.alice, room.bob])
    first = {**SEND, "client_id": key, "conversation_id": room.id}
    ws.send_json(**first)
    ack = ws.expect("ack")
    for changed in ({"body": "different"}, {"conversation_id": other}):
        ws.send_json(**{**first, **changed})
        error = ws.expect("error")
        assert (error["code"], error["client_id"], error["retryable"]) == ("conflict", key, False)
    ws.send_json(**first)
    assert ws.expect("ack") == ack
    assert [row.body for row in room.server.people.history(room.id, other)] == ["x"]


def test_anothers_client_id_is_free_to_use(room: Room, ws: RawSocket) -> None:
    key = new_id()
    with RawSocket(room.server, room.login(room.bob)) as bob:
        bob.resume()
        for socket, body in ((ws, "mine"), (bob, "his")):
            socket.send_json(type="send", client_id=key, conversation_id=room.id, body=body)
            socket.expect("ack")
    assert [row.body for row in room.server.people.history(room.id)] == ["mine", "his"]


def test_the_tenth_refused_frame_closes_with_4429(room: Room, ws: RawSocket) -> None:
    bad = ["nope", '{"type":"nonsense"}', '{"type":"ping","nonce":5}']
    for number in range(9):
        ws.send_text(bad[number % 3])
        assert ws.expect("error")["code"] in ("bad_request", "unknown_type", "validation_failed")
    still_works(ws, room)
    ws.send_text("nope")
    assert ws.close_code() == 4429


# --- membership ------------------------------------------------------------------------------------------------------


def test_membership_moves_are_told_and_obeyed(room: Room, ws: RawSocket) -> None:
    api = room.login()
    with RawSocket(room.server, room.login(room.mallory)) as newcomer:
        newcomer.resume()
        still_works(ws, room)
        made = api.post(f"/api/conversations/{room.id}/members", {"user_id": room.mallory.id})
        made.expect(200, 201, 204)
        added = newcomer.expect("conversation_added")
        assert (added["conversation_id"], added["last_seq"]) == (room.id, 1)
        assert ws.expect("members_changed")["conversation_id"] == room.id
        still_works(ws, room)
        assert newcomer.expect("message")["seq"] == 2
        api.delete(f"/api/conversations/{room.id}/members/{room.mallory.id}").expect(200, 204)
        assert newcomer.expect("conversation_removed")["conversation_id"] == room.id
        still_works(ws, room)
        newcomer.send_json(**{**SEND, "client_id": new_id(), "conversation_id": room.id})
        assert newcomer.expect("error")["code"] == "not_a_member"
        newcomer.send_json(type="ping", nonce="end")
        seqs = [f["seq"] for f in newcomer.frames if f["type"] == "message"]
        assert newcomer.expect("pong") and seqs == [2], "a message after the removal leaked"


def test_a_new_conversation_is_live_at_once(room: Room, ws: RawSocket) -> None:
    with RawSocket(room.server, room.login(room.bob)) as bob:
        bob.resume()
        answer = room.login().post("/api/conversations", {"kind": "direct", "member_ids": [room.bob.id]}).expect(201)
        made = answer.json()
        for socket in (ws, bob):
            assert socket.expect("conversation_added")["conversation_id"] == made["id"]
        bob.send_json(**{**SEND, "client_id": new_id(), "conversation_id": made["id"]})
        assert ws.expect("message")["conversation_id"] == made["id"]
    again = (
        room.login(room.bob).post("/api/conversations", {"kind": "direct", "member_ids": [room.alice.id]}).expect(200)
    )
    assert again.json()["id"] == made["id"]
