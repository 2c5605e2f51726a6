"""Every endpoint of clubs and teams, asked by every role: the whole table, and that a refusal changes nothing."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
import sqlalchemy as sa

from hockey_hub_chat.storage import tables, teams

from .conftest import Browser, Site

ROLES = ("outsider", "player", "guardian", "coach", "manager", "club admin", "other club's admin", "site admin")

_CLUB_ADMINS = (404, 403, 403, 403, 403, 0, 404, 0)
_SITE_ADMINS = (404, 403, 403, 403, 403, 403, 404, 0)
_MANAGERS = (404, 403, 403, 403, 0, 0, 404, 0)
_INSIDE = (404, 0, 0, 0, 0, 0, 404, 0)
_OF_A_CHILD = (403, 403, 403, 403, 403, 0, 403, 0)

#: (what, method, path) → (status when it is done, and the answer to each of ROLES: 0 is "it is done").
TABLE: dict[tuple[str, str, str], tuple[int, tuple[int, ...]]] = {
    ("list clubs", "GET", "/api/clubs"): (200, (0,) * 8),
    ("open a club", "POST", "/api/clubs"): (201, (403, 403, 403, 403, 403, 403, 403, 0)),
    ("see a club", "GET", "/api/clubs/{club_id}"): (200, _INSIDE),
    ("add an admin", "POST", "/api/clubs/{club_id}/admins"): (201, _SITE_ADMINS),
    ("remove an admin", "DELETE", "/api/clubs/{club_id}/admins/{user_id}"): (204, _SITE_ADMINS),
    ("make a team", "POST", "/api/clubs/{club_id}/teams"): (201, _CLUB_ADMINS),
    ("link", "POST", "/api/clubs/guardianships"): (201, _OF_A_CHILD),
    ("unlink", "DELETE", "/api/clubs/guardianships/{guardian_id}/{child_id}"): (204, _OF_A_CHILD),
    ("birth date", "PUT", "/api/clubs/people/{user_id}/birth-date"): (204, _OF_A_CHILD),
    ("list teams", "GET", "/api/teams"): (200, (0,) * 8),
    ("see a team", "GET", "/api/teams/{team_id}"): (200, _INSIDE),
    ("rename", "PUT", "/api/teams/{team_id}"): (200, _CLUB_ADMINS),
    ("archive", "PUT", "/api/teams/{team_id}/archived"): (200, _CLUB_ADMINS),
    ("give player", "POST", "/api/teams/{team_id}/members"): (201, _MANAGERS),
    ("give guardian", "POST", "/api/teams/{team_id}/members"): (201, _MANAGERS),
    ("give coach", "POST", "/api/teams/{team_id}/members"): (201, _MANAGERS),
    ("give manager", "POST", "/api/teams/{team_id}/members"): (201, _CLUB_ADMINS),
    ("take player", "DELETE", "/api/teams/{team_id}/members/{user_id}"): (204, _MANAGERS),
    ("take guardian", "DELETE", "/api/teams/{team_id}/members/{user_id}"): (204, _MANAGERS),
    ("take coach", "DELETE", "/api/teams/{team_id}/members/{user_id}"): (204, _MANAGERS),
    ("take manager", "DELETE", "/api/teams/{team_id}/members/{user_id}"): (204, _CLUB_ADMINS),
}


@dataclass
class World:
    """A club with one team, another club with another, and one person in each role."""

    site: Site
    club: int
    team: int
    other_team: int
    ids: dict[str, int]
    clients: dict[str, Browser]
    numbers: itertools.count[int] = field(default_factory=itertools.count)

    def change(self, act: Callable[[sa.Connection], object]) -> None:
        with self.site.ctx.engine.begin() as conn:
            act(conn)

    def fresh(self, *roles: teams.TeamRole) -> int:
        """Make somebody with these roles in the team."""
        made = self.site.add(f"fresh{next(self.numbers)}")
        for role in roles:
            self.change(lambda conn, role=role: teams.add_role(conn, self.team, made, role))  # type: ignore[misc]
        return made

    def stored(self) -> list[Any]:
        """Everything these endpoints may change."""
        kinds = (tables.clubs, tables.club_roles, tables.teams, tables.team_members, tables.guardianships)
        with self.site.ctx.engine.begin() as conn:
            rows: list[Any] = [sorted(map(repr, conn.execute(sa.select(kind)))) for kind in kinds]
            rows.append(sorted(map(repr, conn.execute(sa.select(tables.users.c.id, tables.users.c.birth_date)))))
        return rows


@pytest.fixture
def world(make_site: Callable[..., Site]) -> World:
    """See ``World``."""
    site = make_site()
    names = {role: role.replace(" ", "-").replace("'", "") for role in ROLES}
    ids = {role: site.add(names[role], is_admin=role == "site admin") for role in ROLES}
    with site.ctx.engine.begin() as conn:
        club, other = teams.create_club(conn, "Ice Bears"), teams.create_club(conn, "Other")
        team = teams.create_team(conn, club, "U15", "2026/27", None)
        other_team = teams.create_team(conn, other, "U15", "2026/27", None)
        for role in teams.TeamRole.__args__:  # type: ignore[attr-defined]
            teams.add_role(conn, team, ids[role], role)
        teams.add_admin(conn, club, ids["club admin"])
        teams.add_admin(conn, other, ids["other club's admin"])
    return World(site, club, team, other_team, ids, {role: site.client(names[role]) for role in ROLES})


def request(world: World, what: str) -> tuple[dict[str, int], dict[str, Any] | None, str]:
    """Return the ids for the path, the body and the query of something that can be done now, and only once."""
    path = {"club_id": world.club, "team_id": world.team}
    verb, _, thing = what.partition(" ")
    if what == "open a club":
        return path, {"name": "New"}, ""
    if what == "add an admin":
        return path, {"user_id": world.fresh()}, ""
    if what == "remove an admin":
        admin = world.fresh()
        world.change(lambda conn: teams.add_admin(conn, world.club, admin))
        return path | {"user_id": admin}, None, ""
    if what in ("make a team", "rename"):
        return path, {"name": f"Team {next(world.numbers)}", "season": "2027/28", "age_group": "U16"}, ""
    if what == "archive":
        world.change(lambda conn: teams.archive_team(conn, world.team, False))
        return path, {"archived": True}, ""
    if what == "birth date":
        return path | {"user_id": world.fresh("player")}, {"birth_date": "2012-02-29"}, ""
    if what in ("link", "unlink"):
        pair = {"guardian_id": world.fresh("guardian"), "child_id": world.fresh("player")}
        if what == "link":
            return path, pair, ""
        world.change(lambda conn: teams.link(conn, pair["guardian_id"], pair["child_id"]))
        return path | pair, None, ""
    if verb == "give":
        return path, {"user_id": world.fresh(), "role": thing}, ""
    if verb == "take":
        return path | {"user_id": world.fresh(thing)}, None, f"?role={thing}"  # type: ignore[arg-type]
    return path, None, ""


@pytest.mark.parametrize(("what", "method", "path"), TABLE, ids=[what for what, _, _ in TABLE])
def test_who_may(world: World, what: str, method: str, path: str) -> None:
    done, row = TABLE[what, method, path]
    answers, wanted = {}, {}
    for role, cell in zip(ROLES, row, strict=True):
        ids, body, query = request(world, what)
        before = world.stored()
        answer = world.clients[role].open(path.format(**ids) + query, method=method, json=body)
        answers[role], wanted[role] = answer.status_code, cell or done
        is_changed = world.stored() != before
        assert is_changed == (method != "GET" and answer.status_code < 300), f"{role}: {what}"
        if answer.status_code >= 400:
            code = {403: "forbidden", 404: "not_found"}[answer.status_code]
            assert answer.json["error"]["code"] == code and answer.json["error"]["details"] == {}
    assert answers == wanted


def test_the_table_has_every_endpoint(world: World) -> None:
    paths = world.site.client().get("/api/openapi.json").json["paths"]
    there = {
        (method.upper(), path)
        for path, operations in paths.items()
        for method in operations
        if path.startswith(("/api/clubs", "/api/teams"))
    }
    assert there == {(method, path) for _, method, path in TABLE}
    for (_, method, path), (done, row) in TABLE.items():
        declared = set(paths[path][method.lower()]["responses"])
        assert {str(cell or done) for cell in row} <= declared, (method, path)


def test_what_is_listed_for_whom(world: World) -> None:
    with world.site.ctx.engine.begin() as conn:
        other = teams.get_team(conn, world.other_team)
    assert other is not None
    for role in ROLES:
        clubs = [one["id"] for one in world.clients[role].get("/api/clubs").json["clubs"]]
        listed = [one["id"] for one in world.clients[role].get("/api/teams").json["teams"]]
        wanted = {
            "outsider": ([], []),
            "other club's admin": ([other.club_id], [world.other_team]),
            "site admin": ([world.club, other.club_id], [world.team, world.other_team]),
        }.get(role, ([world.club], [world.team]))
        assert (clubs, listed) == wanted, role


def test_who_is_shown_a_birth_date(world: World) -> None:
    kid = world.ids["player"]
    own, other = world.fresh("guardian"), world.fresh("guardian")
    world.change(lambda conn: teams.link(conn, own, kid))
    born = "2012-02-29"
    assert (
        world.clients["club admin"].put(f"/api/clubs/people/{kid}/birth-date", json={"birth_date": born}).status_code
        == 204
    )
    with world.site.ctx.engine.begin() as conn:
        names = {row.id: row.username for row in conn.execute(sa.select(tables.users.c.id, tables.users.c.username))}
    askers = world.clients | {"their guardian": world.site.client(names[own])}
    askers["another guardian"] = world.site.client(names[other])
    shown = {}
    for who, client in askers.items():
        answer = client.get(f"/api/teams/{world.team}")
        if answer.status_code == 200:
            (player,) = answer.json["members"]["player"]
            shown[who] = player["birth_date"]
        everywhere = [client.get(path).data for path in ("/api/users?limit=100", "/api/me", "/api/teams", "/api/clubs")]
        assert not any(b"birth" in data or born.encode() in data for data in everywhere), who
    assert shown == {
        "player": born,
        "guardian": None,
        "coach": None,
        "manager": None,
        "club admin": born,
        "site admin": born,
        "their guardian": born,
        "another guardian": None,
    }
