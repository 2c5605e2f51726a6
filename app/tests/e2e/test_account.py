"""Ending one's own sessions, also by another password, over real workers: their sockets close at once, and no others."""

from __future__ import annotations

from harness.http import Api
from harness.people import PASSWORD
from harness.raw import RawSocket, on_both_workers
from harness.rooms import Room


def session_of(api: Api) -> str:
    """Return the id of the session a client is logged in with."""
    (found,) = (one["id"] for one in api.get("/api/sessions").expect(200).json()["sessions"] if one["current"])
    return str(found)


def resumed(room: Room, api: Api) -> RawSocket:
    """Open a socket that hears what happens."""
    socket = RawSocket(room.server, api)
    socket.resume()
    return socket


def assert_open(socket: RawSocket) -> None:
    socket.send_json(type="ping", nonce="still there")
    assert socket.expect("pong")["nonce"] == "still there"


def assert_over(room: Room, api: Api) -> None:
    """No token of a session counts, on either worker."""
    for _ in range(6):
        assert api.get("/api/me").expect(401).error == "token_invalid"
        with RawSocket(room.server, api) as late:
            assert late.expect("error")["code"] == "token_invalid" and late.close_code() == 4401
    assert api.post("/api/auth/refresh").expect(401).error == "token_invalid"


def test_ending_one_session_closes_its_sockets_on_every_worker(room: Room) -> None:
    mine, lost = room.login(), room.login()
    closing = on_both_workers(room.server, lost, 2)
    staying = [resumed(room, mine), resumed(room, room.login(room.bob))]
    mine.delete(f"/api/sessions/{session_of(lost)}").expect(204)
    assert [socket.close_code() for socket in closing] == [4403] * 4
    for socket in staying:
        assert_open(socket)
    assert_over(room, lost)
    assert len(mine.get("/api/sessions").expect(200).json()["sessions"]) == 1


def test_ending_all_the_others_leaves_the_own(room: Room) -> None:
    mine, *others = (room.login() for _ in range(4))
    closing = [socket for api in others for socket in on_both_workers(room.server, api, 1)]
    staying = [*on_both_workers(room.server, mine, 1), resumed(room, room.login(room.bob))]
    assert mine.delete("/api/sessions").expect(200).json() == {"ended": 3}
    assert [socket.close_code() for socket in closing] == [4403] * 6
    for socket in staying:
        assert_open(socket)
    for api in others:
        assert_over(room, api)
    mine.post("/api/auth/refresh").expect(204)


def test_nobody_ends_the_session_of_somebody_else(room: Room) -> None:
    alice, mallory = room.login(), room.login(room.mallory)
    socket = resumed(room, alice)
    mallory.delete(f"/api/sessions/{session_of(alice)}").expect(404)
    mallory.delete("/api/sessions").expect(200)
    assert_open(socket)


def test_ending_the_own_session_closes_its_socket_and_takes_the_cookies(room: Room) -> None:
    api = room.login()
    socket = resumed(room, api)
    kept = dict(api.cookies)
    api.delete(f"/api/sessions/{session_of(api)}").expect(204)
    assert "hhc_access" not in api.cookies and "hhc_refresh" not in api.cookies
    assert socket.close_code() == 4403
    api.cookies = kept
    assert_over(room, api)


def test_another_password_closes_the_sockets_of_all_other_sessions(room: Room) -> None:
    mine, other = room.login(), room.login()
    closing = on_both_workers(room.server, other, 1)
    staying = [*on_both_workers(room.server, mine, 1), resumed(room, room.login(room.bob))]
    wrong = mine.put("/api/me/password", {"current": "wrong", "new": "a better password"})
    assert wrong.expect(403).error == "wrong_password"
    for socket in (*closing, *staying):
        assert_open(socket)
    mine.put("/api/me/password", {"current": PASSWORD, "new": "a better password"}).expect(204)
    assert [socket.close_code() for socket in closing] == [4403] * 2
    for socket in staying:
        assert_open(socket)
    assert_over(room, other)
    mine.post("/api/auth/refresh").expect(204)
    assert room.server.api().login(room.alice.username, PASSWORD).expect(401).error == "invalid_credentials"
    room.server.api().login(room.alice.username, "a better password").expect(200)
