"""What does not fit: every refusal is the documented JSON with the documented code, and no traceback."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from hockey_hub_chat.errors import UnavailableError
from hockey_hub_chat.services import conversations

from .conftest import Site

LOGIN = "/api/auth/login"


def assert_error(answer: Any, status: int, code: str) -> dict[str, Any]:
    """Assert the form of an error and return it."""
    assert answer.status_code == status, (answer.status_code, answer.data)
    error: dict[str, Any] = answer.json["error"]
    assert set(error) == {"code", "message", "retryable", "details", "request_id"}
    assert error["code"] == code and error["message"] and error["request_id"] == answer.headers["X-Request-ID"]
    assert answer.headers["Cache-Control"] == "no-store"
    return error


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/nowhere", 404, "not_found"),
        ("GET", "/api/nowhere", 404, "not_found"),
        ("GET", "/static/../config.py", 404, "not_found"),
        ("GET", "/api/conversations/0", 404, "not_found"),
        ("GET", "/api/conversations/-1", 404, "not_found"),
        ("GET", f"/api/conversations/{2**53}", 404, "not_found"),
        ("GET", f"/api/conversations/{10**30}", 404, "not_found"),
        ("GET", f"/api/conversations/{2**53 - 1}", 403, "not_a_member"),
        ("DELETE", "/api/me", 405, "bad_request"),
        ("BREW", "/api/me", 405, "bad_request"),
        ("GET", "/metrics", 404, "not_found"),
        ("GET", "/health/detailed", 403, "forbidden"),
    ],
)
def test_paths_and_methods(site: Site, method: str, path: str, status: int, code: str) -> None:
    answer = site.client("ann").open(path, method=method)
    assert_error(answer, status, code)
    if status == 405:
        assert "GET" in answer.headers["Allow"]


PROTECTED = [
    ("GET", "/api/me"),
    ("GET", "/api/users"),
    ("GET", "/api/conversations"),
    ("POST", "/api/conversations"),
    ("GET", "/api/conversations/1"),
    ("GET", "/api/conversations/1/messages"),
    ("POST", "/api/conversations/1/messages"),
    ("PUT", "/api/conversations/1/read"),
    ("POST", "/api/conversations/1/members"),
    ("DELETE", "/api/conversations/1/members/2"),
    ("GET", "/api/clubs"),
    ("POST", "/api/clubs"),
    ("GET", "/api/clubs/1"),
    ("POST", "/api/clubs/1/admins"),
    ("DELETE", "/api/clubs/1/admins/2"),
    ("POST", "/api/clubs/1/teams"),
    ("POST", "/api/clubs/guardianships"),
    ("DELETE", "/api/clubs/guardianships/1/2"),
    ("PUT", "/api/clubs/people/2/birth-date"),
    ("GET", "/api/teams"),
    ("GET", "/api/teams/1"),
    ("PUT", "/api/teams/1"),
    ("PUT", "/api/teams/1/archived"),
    ("POST", "/api/teams/1/members"),
    ("DELETE", "/api/teams/1/members/2?role=player"),
    ("GET", "/health/detailed"),
]
BODIES = {
    ("POST", "/api/conversations"): {"kind": "group", "member_ids": []},
    ("POST", "/api/conversations/1/messages"): {"client_id": str(uuid4()), "body": "x"},
    ("PUT", "/api/conversations/1/read"): {"seq": 1},
    ("POST", "/api/conversations/1/members"): {"user_id": 2},
    ("POST", "/api/clubs"): {"name": "x"},
    ("POST", "/api/clubs/1/admins"): {"user_id": 2},
    ("POST", "/api/clubs/1/teams"): {"name": "x", "season": "y"},
    ("POST", "/api/clubs/guardianships"): {"guardian_id": 1, "child_id": 2},
    ("PUT", "/api/clubs/people/2/birth-date"): {"birth_date": None},
    ("PUT", "/api/teams/1"): {"name": "x", "season": "y"},
    ("PUT", "/api/teams/1/archived"): {"archived": True},
    ("POST", "/api/teams/1/members"): {"user_id": 2, "role": "player"},
}


@pytest.mark.parametrize(("method", "path"), PROTECTED)
def test_nobody_gets_in_without_logging_in(site: Site, method: str, path: str) -> None:
    answer = site.client().open(path, method=method, json=BODIES.get((method, path)))
    assert_error(answer, 401, "not_authenticated")


@pytest.mark.parametrize(
    ("raw", "status", "code"),
    [
        (b"", 400, "bad_request"),
        (b"{", 400, "bad_request"),
        (b"\xff\xfe", 400, "bad_request"),
        (b"[]", 400, "bad_request"),
        (b'"x"', 400, "bad_request"),
        (b"[" * 50_000, 400, "bad_request"),
        (b"{}", 422, "validation_failed"),
        (b"null", 422, "validation_failed"),
        (b'{"username": 1, "password": "x"}', 422, "validation_failed"),
        (b'{"username": "ann", "password": "x", "extra": 1}', 422, "validation_failed"),
        (b'{"username": "a\\u0000", "password": "x"}', 422, "validation_failed"),
        (b'{"username": "ann", "password": "a\\u0000"}', 401, "invalid_credentials"),
        (b'{"username": "ann", "password": "' + b"x" * 2000 + b'"}', 422, "validation_failed"),
        (b'{"username": "ann", "password": "' + b"x" * 70_000 + b'"}', 413, "too_large"),
    ],
)
def test_bodies(site: Site, raw: bytes, status: int, code: str) -> None:
    error = assert_error(site.client().post(LOGIN, data=raw, content_type="application/json"), status, code)
    if status == 422:
        assert error["details"]["fields"]
    assert "x" * 50 not in json.dumps(error), "what was sent is not repeated"


@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", ""]
)
def test_only_json_changes_anything(site: Site, kind: str) -> None:
    answer = site.client().post(LOGIN, data=b'{"username": "ann", "password": "x"}', content_type=kind)
    assert_error(answer, 400, "bad_request")


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"kind": "channel", "member_ids": []}, "kind"),
        ({"kind": "group", "member_ids": ["2"]}, "member_ids.0"),
        ({"kind": "group", "member_ids": [2.5]}, "member_ids.0"),
        ({"kind": "group", "member_ids": [True]}, "member_ids.0"),
        ({"kind": "group", "member_ids": [2**60]}, "member_ids.0"),
        ({"kind": "group", "member_ids": list(range(1, 600))}, "member_ids"),
        ({"kind": "group", "member_ids": [], "name": "  "}, "name"),
        ({"kind": "group", "member_ids": [], "name": "x" * 101}, "name"),
        ({"kind": "direct", "member_ids": [2], "name": "x"}, "name"),
        ({"kind": "direct", "member_ids": [2, 3]}, "member_ids"),
        ({"kind": "direct", "member_ids": [1]}, "member_ids"),
    ],
)
def test_conversations_that_cannot_be(site: Site, body: dict[str, Any], field: str) -> None:
    error = assert_error(site.client("ann").post("/api/conversations", json=body), 422, "validation_failed")
    assert field in error["details"]["fields"]


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=201", "limit=x", "after_seq=-1", f"before_seq={2**60}", "after_seq="]
)
def test_pages_that_cannot_be(site: Site, query: str) -> None:
    ann = site.client("ann")
    room = ann.post("/api/conversations", json={"kind": "group", "member_ids": []}).json["id"]
    assert_error(ann.get(f"/api/conversations/{room}/messages?{query}"), 422, "validation_failed")


@pytest.mark.parametrize(
    ("headers", "allowed"),
    [
        ({}, True),
        ({"Origin": "http://localhost"}, True),
        ({"Sec-Fetch-Site": "same-origin"}, True),
        ({"Sec-Fetch-Site": "cross-site"}, False),
        ({"Sec-Fetch-Site": "same-site"}, False),
        ({"Origin": "https://evil.example"}, False),
        ({"Origin": "http://localhost.evil.example"}, False),
        ({"Origin": "http://localhost:81"}, False),
        ({"Origin": "null"}, False),
        ({"Origin": ""}, False),
    ],
)
def test_other_sites_change_nothing(site: Site, headers: dict[str, str], allowed: bool) -> None:
    ann = site.client("ann")
    answer = ann.post("/api/conversations", json={"kind": "group", "member_ids": []}, headers=headers)
    if allowed:
        assert answer.status_code == 201
    else:
        assert_error(answer, 403, "bad_origin")
        assert ann.get("/api/conversations", headers=headers).json == {"conversations": []}


def test_the_public_address_decides_whose_origin_counts(make_site: Callable[..., Site]) -> None:
    site = make_site(public_url="https://chat.example.org", cors_origins="https://club.example")
    site.add("ann")
    ann = site.client("ann")
    for origin, wanted in (
        ("https://chat.example.org", 204),
        ("https://club.example", 204),
        ("http://localhost", 403),
        ("http://chat.example.org", 403),
    ):
        answer = ann.post("/api/auth/refresh", headers={"Origin": origin})
        assert answer.status_code == wanted, origin
        readable = answer.headers.get("Access-Control-Allow-Origin")
        assert readable == (origin if wanted == 204 else None)
    asked = ann.options("/api/me", headers={"Origin": "https://club.example", "Access-Control-Request-Method": "GET"})
    assert asked.status_code == 200 and "Authorization" in asked.headers["Access-Control-Allow-Headers"]


def test_too_many_requests(make_site: Callable[..., Site]) -> None:
    site = make_site(rate_limit_max_requests=4)
    site.add("ann"), site.add("bob")
    ann, bob = site.client("ann"), site.client("bob")
    assert [ann.get("/api/me").status_code for _ in range(4)] == [200] * 4
    refused = ann.get("/api/me")
    error = assert_error(refused, 429, "rate_limited")
    assert error["retryable"] and 0 < error["details"]["retry_after_ms"] <= 60_000
    assert 0 < int(refused.headers["Retry-After"]) <= 60
    assert bob.get("/api/me").status_code == 200, "one person's limit is nobody else's"
    assert site.client().get("/health").status_code == 200


def test_too_many_log_ins(make_site: Callable[..., Site]) -> None:
    site = make_site(login_rate_limit=2)
    site.add("ann")
    body = {"username": "ann", "password": "wrong"}
    codes = [site.client().post(LOGIN, json=body).status_code for _ in range(3)]
    assert codes == [401, 401, 429]


def test_a_database_that_is_away_is_said_to_be(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    ann = site.client("ann")

    def away(*_: object) -> None:
        raise UnavailableError("The database is away for the moment.")

    monkeypatch.setattr(conversations, "list_mine", away)
    answer = ann.get("/api/conversations")
    assert assert_error(answer, 503, "unavailable")["retryable"] and answer.headers["Retry-After"]


def test_a_mistake_of_ours_tells_nothing_about_itself(
    site: Site, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    ann = site.client("ann")

    def broken(*_: object) -> None:
        raise RuntimeError("secret internals")

    monkeypatch.setattr(conversations, "list_mine", broken)
    answer = ann.get("/api/conversations")
    error = assert_error(answer, 500, "internal")
    assert "secret" not in json.dumps(error)
    assert "secret internals" in caplog.text, "but it is logged"


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
POSTS = [
    "/api/auth/login",
    "/api/conversations",
    "/api/conversations/1/messages",
    "/api/conversations/1/members",
    "/api/clubs",
    "/api/clubs/1/admins",
    "/api/clubs/1/teams",
    "/api/clubs/guardianships",
    "/api/teams/1/members",
]
KEYS = [
    "username",
    "password",
    "kind",
    "member_ids",
    "name",
    "client_id",
    "body",
    "user_id",
    "season",
    "role",
    "child_id",
]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(path=st.sampled_from(POSTS), body=json_values | st.dictionaries(st.sampled_from(KEYS), json_values, max_size=4))
def test_no_json_makes_it_stumble(site: Site, engine: Engine, path: str, body: object) -> None:
    ann = site.client("ann")
    answer = ann.post(path, data=json.dumps(body), content_type="application/json")
    assert answer.status_code < 500, (path, body, answer.data)
    if answer.status_code >= 400:
        assert_error(answer, answer.status_code, answer.json["error"]["code"])
