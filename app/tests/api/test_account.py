"""One's own account over HTTP: who may do what, as a table; and what the browser is left with."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import pytest

from harness.people import PASSWORD

from .conftest import Browser, Site


def session_of(client: Browser) -> str:
    """Return the id of the session a browser is logged in with."""
    (found,) = (one["id"] for one in client.get("/api/sessions").json["sessions"] if one["current"])
    return str(found)


def password_of(site: Site, name: str) -> str:
    """Return which of the two passwords somebody has."""
    (found,) = [
        word
        for word in (PASSWORD, NEW)
        if site.client().post("/api/auth/login", json={"username": name, "password": word}).status_code == 200
    ]
    return found


def assert_in(client: Browser) -> None:
    assert client.get("/api/me").status_code == 200


def assert_out(client: Browser) -> None:
    """Neither cookie is good for anything."""
    assert client.get("/api/me").json["error"]["code"] == "token_invalid"
    assert client.post("/api/auth/refresh").status_code == 401


PASSWORD_PATH = "/api/me/password"
NEW = "another password of the tests"

# --- who may do what -------------------------------------------------------------------------------------------------

#: What is tried, on ann's phone.
ACTIONS: dict[str, Callable[[Browser, str], Any]] = {
    "list": lambda client, _: client.get("/api/sessions"),
    "end one": lambda client, phone: client.delete(f"/api/sessions/{phone}"),
    "end the others": lambda client, _: client.delete("/api/sessions"),
    "change the password": lambda client, _: client.put(PASSWORD_PATH, json={"current": PASSWORD, "new": NEW}),
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
    ("change the password", "ann"): (204, None, False),
    ("change the password", "bob"): (204, None, True),
    ("change the password", "nobody"): (401, "not_authenticated", True),
    ("change the password", "ended"): (401, "token_invalid", True),
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
    if action == "change the password":
        assert password_of(site, "ann") == (NEW if who == "ann" else PASSWORD)
        assert password_of(site, "bob") == (NEW if who == "bob" else PASSWORD)


# --- sessions --------------------------------------------------------------------------------------------------------


def test_the_list_says_what_is_needed_and_nothing_secret(site: Site) -> None:
    phone = site.client()
    agent = "Mozilla/5.0 (Linux; Android 14) Firefox/130.0"
    body = {"username": "ann", "password": PASSWORD}
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
    changed = laptop.put(PASSWORD_PATH, json={"current": PASSWORD, "new": NEW}, headers=evil)
    assert changed.json["error"]["code"] == "bad_origin" and password_of(site, "ann") == PASSWORD
    assert_in(phone)


# --- password --------------------------------------------------------------------------------------------------------


def test_a_wrong_current_password_logs_nobody_out(site: Site) -> None:
    phone, ann = site.client("ann"), site.client("ann")
    answer = ann.put(PASSWORD_PATH, json={"current": "wrong", "new": NEW})
    assert (answer.status_code, answer.json["error"]["code"]) == (403, "wrong_password")
    assert answer.json["error"]["message"] == "The current password is wrong."
    assert "Set-Cookie" not in answer.headers
    assert_in(phone)
    assert_in(ann)
    assert password_of(site, "ann") == PASSWORD


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"current": PASSWORD, "new": "short"}, "new"),
        ({"current": PASSWORD, "new": "x" * 1025}, "new"),
        ({"current": PASSWORD, "new": "a\x00bcdefgh"}, "new"),
        ({"current": PASSWORD, "new": ["a list of words"]}, "new"),
        ({"current": PASSWORD, "new": None}, "new"),
        ({"current": PASSWORD}, "new"),
        ({"new": NEW}, "current"),
        ({"current": "", "new": NEW}, "current"),
        ({"current": "x" * 1025, "new": NEW}, "current"),
        ({"current": PASSWORD, "new": NEW, "username": "bob"}, "username"),
    ],
)
def test_a_body_that_does_not_fit_names_the_field(site: Site, body: dict[str, Any], field: str) -> None:
    answer = site.client("ann").put(PASSWORD_PATH, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "validation_failed")
    assert list(answer.json["error"]["details"]["fields"]) == [field]
    assert "x" * 50 not in answer.text and "a list of" not in answer.text, "what was sent is not repeated"
    assert password_of(site, "ann") == PASSWORD


def test_a_rule_is_named_in_words(site: Site) -> None:
    error = site.client("ann").put(PASSWORD_PATH, json={"current": PASSWORD, "new": "short"}).json["error"]
    assert error["message"] == "The new password does not fit: it needs 8 to 1024 characters."
    assert error["details"] == {"fields": {"new": "8 to 1024 characters"}}


def test_guessing_the_current_password_is_throttled_like_logging_in(make_site: Callable[..., Site]) -> None:
    site = make_site(login_rate_limit=3)
    site.add("ann")
    ann = site.client("ann")  # the first try
    guess = {"current": "wrong", "new": NEW}
    answers = [ann.put(PASSWORD_PATH, json=guess) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [403, 403, 429]
    assert answers[-1].json["error"]["code"] == "rate_limited" and answers[-1].json["error"]["retryable"]
    assert 0 < int(answers[-1].headers["Retry-After"]) <= 60
    assert ann.put(PASSWORD_PATH, json={"current": PASSWORD, "new": NEW}).status_code == 429
    refused = site.client().post("/api/auth/login", json={"username": "ann", "password": PASSWORD})
    assert refused.status_code == 429, "one bucket for both doors"
    assert_in(ann)


def test_every_refusal_is_described(site: Site) -> None:
    paths = site.client().get("/api/openapi.json").json["paths"]
    everybody = {"401", "429", "503"}
    wanted = {
        ("/api/sessions", "get"): {"200"},
        ("/api/sessions", "delete"): {"200", "403"},
        ("/api/sessions/{session_id}", "delete"): {"204", "403", "404", "405"},
        ("/api/me/password", "put"): {"204", "400", "403", "413", "422"},
    }
    for (path, method), statuses in wanted.items():
        assert set(paths[path][method]["responses"]) == statuses | everybody, (method, path)
        assert paths[path][method]["security"]
    (parameter,) = paths["/api/sessions/{session_id}"]["delete"]["parameters"]
    assert parameter["schema"] == {"type": "string", "format": "uuid"}
    new = site.client().get("/api/openapi.json").json["components"]["schemas"]["NewPassword"]["properties"]["new"]
    assert (new["minLength"], new["maxLength"]) == (8, 1024)
