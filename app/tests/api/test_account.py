"""One's own account over HTTP: who may do what, as a table; and what the browser is left with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from .conftest import Browser, Site


def session_of(client: Browser) -> str:
    """Return the id of the session a browser is logged in with."""
    (found,) = (one["id"] for one in client.get("/api/sessions").json["sessions"] if one["current"])
    return str(found)


def assert_in(client: Browser) -> None:
    assert client.get("/api/me").status_code == 200


def assert_out(client: Browser) -> None:
    """Neither cookie is good for anything."""
    assert client.get("/api/me").json["error"]["code"] == "token_invalid"
    assert client.post("/api/auth/refresh").status_code == 401


# --- who may do what -------------------------------------------------------------------------------------------------

#: What is tried, on ann's phone.
ACTIONS: dict[str, Callable[[Browser, str], Any]] = {
    "list": lambda client, _: client.get("/api/sessions"),
    "end one": lambda client, phone: client.delete(f"/api/sessions/{phone}"),
    "end the others": lambda client, _: client.delete("/api/sessions"),
}
#: (action, who): what is answered, and whether ann's phone is logged in afterwards.
TABLE: dict[tuple[str, str], tuple[int, str | None, bool]] = {
    ("list", "ann"): (200, None, True),
    ("list", "bob"): (200, None, True),
    ("list", "nobody"): (401, "not_authenticated", True),
    ("list", "ended"): (401, "token_invalid", True),
    ("end one", "ann"): (204, None, False),
    ("end one", "bob"): (404, "not_found", True),
    ("end one", "nobody"): (401, "not_authenticated", True),
    ("end one", "ended"): (401, "token_invalid", True),
    ("end the others", "ann"): (200, None, False),
    ("end the others", "bob"): (200, None, True),
    ("end the others", "nobody"): (401, "not_authenticated", True),
    ("end the others", "ended"): (401, "token_invalid", True),
}


@pytest.mark.parametrize(("action", "who"), TABLE)
def test_who_may_do_what(site: Site, action: str, who: str) -> None:
    phone, ann, ended = site.client("ann"), site.client("ann"), site.client("ann")
    target = session_of(phone)
    assert ann.delete(f"/api/sessions/{session_of(ended)}").status_code == 204
    asking = {"ann": ann, "bob": site.client("bob"), "nobody": site.client(), "ended": ended}[who]
    answer = ACTIONS[action](asking, target)
    status, code, stays = TABLE[action, who]
    assert answer.status_code == status, answer.data
    assert (answer.json["error"]["code"] if code else None) == code
    if stays:
        assert_in(phone)
        assert phone.post("/api/auth/refresh").status_code == 204
    else:
        assert_out(phone)
    if action == "list" and code is None:
        assert (target in [one["id"] for one in answer.json["sessions"]]) == (who == "ann")
    if action == "end the others" and code is None:
        assert answer.json == {"ended": 1 if who == "ann" else 0}


# --- sessions --------------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_needed_and_nothing_secret(site: Site) -> None:
    phone = site.client()
    agent = "Mozilla/5.0 (Linux; Android 14) Firefox/130.0"
    body = {"username": "ann", "password": "a password of the tests"}
    assert phone.post("/api/auth/login", json=body, headers={"User-Agent": agent}).status_code == 200
    assert phone.post("/api/auth/refresh").status_code == 204
    laptop = site.client("ann")
    listed = laptop.get("/api/sessions").json["sessions"]
    assert [one["current"] for one in listed] == [True, False]
    assert [one["current"] for one in phone.get("/api/sessions").json["sessions"]] == [False, True]
    for one in listed:
        assert set(one) == {"id", "user_agent", "created_at", "renewed_at", "expires_at", "current"}
    assert listed[1]["user_agent"] == agent
    assert listed[0]["renewed_at"] is None and listed[1]["created_at"] < listed[1]["renewed_at"]
    assert all(one["created_at"].endswith("Z") and one["created_at"] < one["expires_at"] for one in listed)


def test_ending_the_own_session_is_logging_out(site: Site) -> None:
    ann = site.client("ann")
    assert ann.delete(f"/api/sessions/{session_of(ann)}").status_code == 204
    assert ann.get_cookie("hhc_access") is None and ann.get_cookie("hhc_refresh", path="/api/auth") is None
    assert ann.get("/api/me").json["error"]["code"] == "not_authenticated"


def test_ending_another_keeps_the_own_cookies(site: Site) -> None:
    phone, laptop = site.client("ann"), site.client("ann")
    answer = laptop.delete(f"/api/sessions/{session_of(phone)}")
    assert answer.status_code == 204 and "Set-Cookie" not in answer.headers
    assert_out(phone)
    assert_in(laptop)


@pytest.mark.parametrize("what", ["unknown", "twice", "foreign"])
def test_what_cannot_be_ended_answers_alike(site: Site, what: str) -> None:
    ann = site.client("ann")
    foreign, gone = session_of(site.client("bob")), session_of(site.client("ann"))
    ann.delete(f"/api/sessions/{gone}")
    answer = ann.delete(f"/api/sessions/{ {'unknown': uuid4(), 'twice': gone, 'foreign': foreign}[what] }")
    assert answer.status_code == 404
    error = answer.json["error"]
    assert (error["code"], error["message"], error["details"]) == (
        "not_found",
        "There is no such log-in. It may have ended already.",
        {},
    )


@pytest.mark.parametrize("name", ["1", "nonsense", "..", "0" * 36, "%00"])
def test_what_is_no_id_is_not_found(site: Site, name: str) -> None:
    answer = site.client("ann").delete(f"/api/sessions/{name}")
    assert (answer.status_code, answer.json["error"]["code"]) in ((404, "not_found"), (405, "bad_request"))


def test_another_site_ends_nothing(site: Site) -> None:
    phone, laptop = site.client("ann"), site.client("ann")
    evil = {"Origin": "https://evil.example"}
    for path in ("/api/sessions", f"/api/sessions/{session_of(phone)}"):
        assert laptop.delete(path, headers=evil).json["error"]["code"] == "bad_origin"
    assert_in(phone)


def test_every_refusal_is_described(site: Site) -> None:
    paths = site.client().get("/api/openapi.json").json["paths"]
    everybody = {"401", "429", "503"}
    wanted = {
        ("/api/sessions", "get"): {"200"},
        ("/api/sessions", "delete"): {"200", "403"},
        ("/api/sessions/{session_id}", "delete"): {"204", "403", "404"},
    }
    for (path, method), statuses in wanted.items():
        assert set(paths[path][method]["responses"]) == statuses | everybody, (method, path)
        assert paths[path][method]["security"]
    (parameter,) = paths["/api/sessions/{session_id}"]["delete"]["parameters"]
    assert parameter["schema"] == {"type": "string", "format": "uuid"}
