"""The routes of docs/protocol.md: what they answer when all is well."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from .conftest import Browser, Site


def open_group(client: Browser, *ids: int, name: str | None = "room") -> dict[str, Any]:
    answer = client.post("/api/conversations", json={"kind": "group", "member_ids": list(ids), "name": name})
    assert answer.status_code == 201, answer.data
    made: dict[str, Any] = answer.json
    return made


def test_me_and_people(site: Site) -> None:
    ann = site.client("ANN")
    assert ann.get("/api/me").json == {"id": 1, "username": "ann", "display_name": "Ann", "is_admin": False}
    assert [one["username"] for one in ann.get("/api/users").json["users"]] == ["bob", "eve"]
    assert [one["username"] for one in ann.get("/api/users?query=EV&limit=1").json["users"]] == ["eve"]


def test_a_program_may_use_a_bearer_token(site: Site) -> None:
    ann = site.client("ann")
    cookie = ann.get_cookie("hhc_access")
    assert cookie is not None
    program = site.client()
    assert program.get("/api/me", headers={"Authorization": f"Bearer {cookie.value}"}).json["username"] == "ann"
    assert program.get("/api/me", headers={"Authorization": "Bearer "}).status_code == 401
    assert program.get("/api/me", headers={"Authorization": "Basic eDp5"}).status_code == 401


def test_log_in_renew_and_log_out(site: Site) -> None:
    ann = site.client("ann")
    first = ann.get_cookie("hhc_refresh", path="/api/auth")
    answer = ann.post("/api/auth/refresh")
    assert answer.status_code == 204 and answer.data == b""
    second = ann.get_cookie("hhc_refresh", path="/api/auth")
    assert first is not None and second is not None and first.value != second.value
    assert ann.post("/api/auth/logout").status_code == 204
    assert ann.get_cookie("hhc_access") is None and ann.get_cookie("hhc_refresh", path="/api/auth") is None
    assert ann.get("/api/me").status_code == 401
    assert ann.post("/api/auth/logout").status_code == 204


def test_a_refused_renewal_takes_the_cookies_away(site: Site) -> None:
    ann = site.client("ann")
    ann.set_cookie("hhc_refresh", "nonsense", path="/api/auth")
    answer = ann.post("/api/auth/refresh")
    assert (answer.status_code, answer.json["error"]["code"]) == (401, "token_invalid")
    assert ann.get_cookie("hhc_access") is None and ann.get_cookie("hhc_refresh", path="/api/auth") is None


def test_conversations(site: Site) -> None:
    ann, bob = site.client("ann"), site.client("bob")
    group = open_group(ann, 2, name="  U15  ")
    assert (group["name"], group["kind"], group["last_seq"], group["read_seq"]) == ("U15", "group", 0, 0)
    assert [one["username"] for one in group["members"]] == ["ann", "bob"]
    made = ann.post("/api/conversations", json={"kind": "direct", "member_ids": [2]})
    again = bob.post("/api/conversations", json={"kind": "direct", "member_ids": [1]})
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json["id"] == again.json["id"]
    assert [one["id"] for one in bob.get("/api/conversations").json["conversations"]] == [group["id"], made.json["id"]]
    assert bob.get(f"/api/conversations/{group['id']}").json["created_by"] == 1
    assert site.client("eve").get("/api/conversations").json == {"conversations": []}


def test_members(site: Site) -> None:
    ann, eve = site.client("ann"), site.client("eve")
    path = f"/api/conversations/{open_group(ann, 2)['id']}"
    assert ann.post(f"{path}/members", json={"user_id": 3}).status_code == 201
    assert ann.post(f"{path}/members", json={"user_id": 3}).status_code == 200
    assert len(eve.get(path).json["members"]) == 3
    assert eve.delete(f"{path}/members/2").json["error"]["code"] == "forbidden"
    assert eve.delete(f"{path}/members/3").status_code == 204
    assert eve.get(path).json["error"]["code"] == "not_a_member"
    assert ann.delete(f"{path}/members/3").json["error"]["code"] == "not_found"


def test_sending_and_paging(site: Site) -> None:
    ann, bob = site.client("ann"), site.client("bob")
    path = f"/api/conversations/{open_group(ann, 2)['id']}"
    key = str(uuid4())
    first = ann.post(f"{path}/messages", json={"client_id": key, "body": "one"})
    again = ann.post(f"{path}/messages", json={"client_id": key, "body": "one"})
    assert (first.status_code, again.status_code) == (201, 200) and first.json == again.json
    clash = ann.post(f"{path}/messages", json={"client_id": key, "body": "two"})
    assert (clash.status_code, clash.json["error"]["code"]) == (409, "conflict")
    for number in range(2, 8):
        answer = bob.post(f"{path}/messages", json={"client_id": str(uuid4()), "body": f"{number} 🏒"})
        assert answer.json["seq"] == number

    def seqs(query: str) -> list[int]:
        return [one["seq"] for one in ann.get(f"{path}/messages{query}").json["messages"]]

    assert seqs("") == list(range(1, 8))
    assert seqs("?limit=3") == [5, 6, 7]
    assert seqs("?after_seq=0&limit=3") == [1, 2, 3]
    assert seqs("?before_seq=4&limit=2") == [2, 3]
    assert ann.put(f"{path}/read", json={"seq": 5}).status_code == 204
    assert ann.put(f"{path}/read", json={"seq": 2}).status_code == 204
    seen = ann.get(path).json
    assert (seen["read_seq"], seen["last_seq"], seen["last_message"]["body"]) == (5, 7, "7 🏒")


def test_the_descriptions_are_complete(site: Site) -> None:
    spec = site.client().get("/api/openapi.json").json
    routes = {(method.upper(), path) for path, operations in spec["paths"].items() for method in operations}
    conversation = "/api/conversations/{conversation_id}"
    assert routes == {
        ("POST", "/api/auth/login"),
        ("POST", "/api/auth/refresh"),
        ("POST", "/api/auth/logout"),
        ("GET", "/api/me"),
        ("PUT", "/api/me/password"),
        ("GET", "/api/sessions"),
        ("DELETE", "/api/sessions"),
        ("DELETE", "/api/sessions/{session_id}"),
        ("GET", "/api/users"),
        ("GET", "/api/clubs"),
        ("POST", "/api/clubs"),
        ("GET", "/api/clubs/{club_id}"),
        ("POST", "/api/clubs/{club_id}/admins"),
        ("DELETE", "/api/clubs/{club_id}/admins/{user_id}"),
        ("POST", "/api/clubs/{club_id}/teams"),
        ("POST", "/api/clubs/guardianships"),
        ("DELETE", "/api/clubs/guardianships/{guardian_id}/{child_id}"),
        ("PUT", "/api/clubs/people/{user_id}/birth-date"),
        ("GET", "/api/teams"),
        ("GET", "/api/teams/{team_id}"),
        ("PUT", "/api/teams/{team_id}"),
        ("PUT", "/api/teams/{team_id}/archived"),
        ("POST", "/api/teams/{team_id}/members"),
        ("DELETE", "/api/teams/{team_id}/members/{user_id}"),
        ("GET", "/api/conversations"),
        ("POST", "/api/conversations"),
        ("GET", conversation),
        ("GET", f"{conversation}/messages"),
        ("POST", f"{conversation}/messages"),
        ("PUT", f"{conversation}/read"),
        ("POST", f"{conversation}/members"),
        ("DELETE", conversation + "/members/{user_id}"),
        ("GET", "/api/frames.schema.json"),
    }
    schemas = spec["components"]["schemas"]

    def check(node: object) -> None:
        if isinstance(node, dict):
            target = node.get("$ref")
            if isinstance(target, str):
                assert target.removeprefix("#/components/schemas/") in schemas, target
            for child in node.values():
                check(child)
        elif isinstance(node, list):
            for child in node:
                check(child)

    check(spec)
    for path, operations in spec["paths"].items():
        for operation in operations.values():
            for status, answer in operation["responses"].items():
                if int(status) >= 400:
                    assert answer["content"]["application/json"]["schema"]["$ref"].endswith("/Error"), path
    frames = site.client().get("/api/frames.schema.json").json
    assert frames["protocol"] == 1 and {"client", "server"} <= set(frames)


def test_the_page_and_its_parts(site: Site) -> None:
    browser = site.client()
    page = browser.get("/")
    assert page.status_code == 200 and page.mimetype == "text/html" and page.headers["Cache-Control"] == "no-cache"
    assert "script-src" not in page.headers["Content-Security-Policy"]
    assert browser.get("/", headers={"If-None-Match": page.headers["ETag"]}).status_code == 304
    for path in ("/static/css/base.css", "/static/js/main.js"):
        with browser.get(path) as part:
            assert part.status_code == 200 and part.headers["Cache-Control"] == "no-cache"
            etag = part.headers["ETag"]
        with browser.get(path, headers={"If-None-Match": etag}) as part:
            assert part.status_code == 304
    with browser.get("/static/vendor/preact-11.2.0.js") as vendored:
        assert "max-age=31536000" in vendored.headers["Cache-Control"]


@pytest.mark.parametrize("path", ["/", "/api/me", "/health", "/nowhere", "/static/nothing.js", "/api/openapi.json"])
def test_every_answer_carries_the_headers(site: Site, path: str) -> None:
    answer = site.client().get(path)
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "frame-ancestors 'none'" in answer.headers["Content-Security-Policy"]
    assert len(answer.headers["X-Request-ID"]) == 32
    named = site.client().get(path, headers={"X-Request-ID": "0123456789abcdef"})
    assert named.headers["X-Request-ID"] == "0123456789abcdef"
    odd = site.client().get(path, headers={"X-Request-ID": "a b"})
    assert odd.headers["X-Request-ID"] != "a b"
    if path.startswith("/api/"):
        assert answer.headers["Cache-Control"] == "no-store"
