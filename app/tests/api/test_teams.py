"""Clubs and teams over HTTP: what they answer when all is well, and what does not fit."""

from __future__ import annotations

from typing import Any

import pytest

from .conftest import Browser, Site


@pytest.fixture
def root(site: Site) -> Browser:
    """The site's administrator; ``ann`` is 1, ``bob`` 2, ``eve`` 3."""
    site.add("root", is_admin=True)
    return site.client("root")


def make_team(root: Browser, name: str = "U15") -> str:
    """Make a club and a team in it; return the team's path."""
    club = root.post("/api/clubs", json={"name": "Ice Bears"}).json["id"]
    made = root.post(f"/api/clubs/{club}/teams", json={"name": name, "season": "2026/27"})
    assert made.status_code == 201, made.data
    return f"/api/teams/{made.json['id']}"


def test_a_club_and_its_administrators(site: Site, root: Browser) -> None:
    made = root.post("/api/clubs", json={"name": "  Ice Bears "})
    assert (made.status_code, made.json["name"], made.json["admins"]) == (201, "Ice Bears", [])
    path = f"/api/clubs/{made.json['id']}"
    first, again = (root.post(f"{path}/admins", json={"user_id": 1}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200) and first.json == again.json
    assert first.json["admins"] == [{"id": 1, "username": "ann", "display_name": "Ann"}]
    ann = site.client("ann")
    assert ann.get(path).json == first.json
    club = {key: value for key, value in first.json.items() if key != "admins"}
    assert ann.get("/api/clubs").json == {"clubs": [club]}
    assert root.delete(f"{path}/admins/1").status_code == 204
    assert root.delete(f"{path}/admins/1").json["error"]["code"] == "not_found"
    assert ann.get(path).status_code == 404


def test_a_team_and_its_members(site: Site, root: Browser) -> None:
    path = make_team(root)
    for user_id, role in ((2, "player"), (1, "manager"), (1, "guardian"), (3, "coach")):
        assert root.post(f"{path}/members", json={"user_id": user_id, "role": role}).status_code == 201
    assert root.post(f"{path}/members", json={"user_id": 2, "role": "player"}).status_code == 200
    ann = site.client("ann")
    seen = ann.get(path).json
    assert {role: [one["username"] for one in those] for role, those in seen["members"].items()} == {
        "player": ["bob"],
        "guardian": ["ann"],
        "coach": ["eve"],
        "manager": ["ann"],
    }
    assert (seen["name"], seen["season"], seen["age_group"], seen["archived_at"]) == ("U15", "2026/27", None, None)
    assert seen["my_roles"] == ["guardian", "manager"]
    listed = {key: value for key, value in seen.items() if key != "members"}
    assert ann.get("/api/teams").json == {"teams": [listed]}
    assert ann.delete(f"{path}/members/2?role=player").status_code == 204
    assert ann.delete(f"{path}/members/2?role=player").json["error"]["code"] == "not_found"
    assert site.client("bob").get(path).json["error"]["code"] == "not_found"


def test_a_team_is_renamed_and_archived(root: Browser) -> None:
    path = make_team(root)
    changed = root.put(path, json={"name": "U16", "season": "2026/27", "age_group": "U16"})
    assert (changed.status_code, changed.json["name"], changed.json["age_group"]) == (200, "U16", "U16")
    club = changed.json["club_id"]
    clash = root.post(f"/api/clubs/{club}/teams", json={"name": "U16", "season": "2026/27"})
    assert (clash.status_code, clash.json["error"]["code"]) == (409, "conflict")
    archived = root.put(f"{path}/archived", json={"archived": True})
    assert archived.json["archived_at"] and root.put(f"{path}/archived", json={"archived": True}).json == archived.json
    assert root.put(path, json={"name": "x", "season": "y"}).json["error"]["code"] == "conflict"
    assert root.post(f"{path}/members", json={"user_id": 1, "role": "player"}).json["error"]["code"] == "conflict"
    assert root.put(f"{path}/archived", json={"archived": False}).json["archived_at"] is None


def test_guardians_and_birth_dates(root: Browser) -> None:
    path = make_team(root)
    root.post(f"{path}/members", json={"user_id": 2, "role": "player"})
    pair = {"guardian_id": 1, "child_id": 2}
    first, again = (root.post("/api/clubs/guardianships", json=pair) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 200) and first.json == again.json == pair
    turned = root.post("/api/clubs/guardianships", json={"guardian_id": 2, "child_id": 1})
    assert (turned.status_code, turned.json["error"]["code"]) == (409, "conflict")
    own = root.post("/api/clubs/guardianships", json={"guardian_id": 2, "child_id": 2})
    assert (own.status_code, list(own.json["error"]["details"]["fields"])) == (422, ["guardian_id"])
    assert root.delete("/api/clubs/guardianships/1/2").status_code == 204
    assert root.delete("/api/clubs/guardianships/1/2").json["error"]["code"] == "not_found"
    for born in ("2012-02-29", None):
        assert root.put("/api/clubs/people/2/birth-date", json={"birth_date": born}).status_code == 204
        assert root.get(path).json["members"]["player"][0]["birth_date"] == born


def test_lists_are_paged(root: Browser) -> None:
    path = make_team(root)
    club = root.get(path).json["club_id"]
    for number in range(4):
        root.post(f"/api/clubs/{club}/teams", json={"name": f"Team {number}", "season": "2026/27"})
        root.post("/api/clubs", json={"name": f"Club {number}"})
    for kind in ("clubs", "teams"):
        paged: list[int] = []
        while True:
            page = root.get(f"/api/{kind}?limit=2&after_id={paged[-1] if paged else 0}").json[kind]
            paged += [one["id"] for one in page]
            if len(page) < 2:
                break
        assert paged == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("method", "path", "body", "fields"),
    [
        ("POST", "/api/clubs", {"name": " "}, ["name"]),
        ("POST", "/api/clubs", {"name": "x" * 101}, ["name"]),
        ("POST", "/api/clubs", {"name": "a\x00"}, ["name"]),
        ("POST", "/api/clubs", {"name": "x", "extra": 1}, ["extra"]),
        ("POST", "/api/clubs/1/teams", {"name": "x"}, ["season"]),
        ("PUT", "/api/teams/1", {"name": "x", "season": "x" * 21, "age_group": ""}, ["age_group", "season"]),
        ("PUT", "/api/teams/1/archived", {"archived": "yes"}, ["archived"]),
        ("POST", "/api/teams/1/members", {"user_id": 1, "role": "admin"}, ["role"]),
        ("POST", "/api/teams/1/members", {"user_id": True, "role": "player"}, ["user_id"]),
        ("DELETE", "/api/teams/1/members/1", None, ["role"]),
        ("DELETE", "/api/teams/1/members/1?role=fan", None, ["role"]),
        ("POST", "/api/clubs/guardianships", {"guardian_id": 0, "child_id": "2"}, ["child_id", "guardian_id"]),
        ("PUT", "/api/clubs/people/1/birth-date", {}, ["birth_date"]),
        ("PUT", "/api/clubs/people/1/birth-date", {"birth_date": 0}, ["birth_date"]),
        ("PUT", "/api/clubs/people/1/birth-date", {"birth_date": "2012-02-30"}, ["birth_date"]),
        ("PUT", "/api/clubs/people/1/birth-date", {"birth_date": "2012-02-29T00:00:00Z"}, ["birth_date"]),
        ("PUT", "/api/clubs/people/1/birth-date", {"birth_date": "1899-12-31"}, ["birth_date"]),
        ("PUT", "/api/clubs/people/1/birth-date", {"birth_date": "9999-01-01"}, ["birth_date"]),
        ("GET", "/api/clubs?limit=101", None, ["limit"]),
        ("GET", "/api/teams?limit=0&after_id=-1", None, ["after_id", "limit"]),
    ],
)
def test_what_does_not_fit(root: Browser, method: str, path: str, body: Any, fields: list[str]) -> None:
    answer = root.open(path, method=method, json=body)
    assert (answer.status_code, answer.json["error"]["code"]) == (422, "validation_failed"), answer.data
    assert sorted(answer.json["error"]["details"]["fields"]) == fields
