"""Clubs and teams: the rules beyond who may (that matrix is tests/api/test_team_matrix.py)."""

from __future__ import annotations

from datetime import date

import pytest

from hockey_hub_chat.errors import ConflictError, NotFoundError, PermissionDeniedError
from hockey_hub_chat.services import guardians, people, teams
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.teams import TeamView
from hockey_hub_chat.storage.teams import TeamRole

from .conftest import Club


def found(club: Club) -> tuple[Principal, Principal, int]:
    """Open a club; return the site's administrator, the club's, and the club."""
    root, chief = club.who("root", is_admin=True), club.who("chief")
    made = teams.create_club(club.ctx, root, "Ice Bears").club.id
    teams.add_admin(club.ctx, root, made, chief.user_id)
    return root, chief, made


def dates(view: TeamView) -> dict[str, date | None]:
    return {member.person.username: member.birth_date for member in view.members}


def test_a_foreign_team_and_an_unknown_one_answer_alike(club: Club) -> None:
    root, chief, home = found(club)
    team = teams.create_team(club.ctx, chief, home, "U15", "2026", None).team.id
    eve = club.who("eve")
    other = teams.create_club(club.ctx, root, "Other").club.id
    teams.add_admin(club.ctx, root, other, eve.user_id)
    said = set()
    for key in (team, 404):
        for act in (
            lambda key: teams.get_team(club.ctx, eve, key),
            lambda key: teams.change_team(club.ctx, eve, key, "x", "y", None),
            lambda key: teams.archive_team(club.ctx, eve, key, True),
            lambda key: teams.add_role(club.ctx, eve, key, eve.user_id, "player"),
            lambda key: teams.remove_role(club.ctx, eve, key, eve.user_id, "player"),
        ):
            with pytest.raises(NotFoundError) as caught:
                act(key)
            said.add(repr(caught.value.as_dict()))
    assert len(said) == 1
    for key in (home, 404):
        with pytest.raises(NotFoundError) as caught:
            teams.get_club(club.ctx, eve, key)
        said.add(repr(caught.value.as_dict()))
    assert len(said) == 2


def test_a_club_cannot_take_in_the_children_of_another(club: Club) -> None:
    root, chief, home = found(club)
    team = teams.create_team(club.ctx, chief, home, "U15", "2026", None).team.id
    rival = club.who("rival")
    other = teams.create_club(club.ctx, root, "Other").club.id
    teams.add_admin(club.ctx, root, other, rival.user_id)
    theirs = teams.create_team(club.ctx, rival, other, "U15", "2026", None).team.id
    child = club.add("child")
    teams.add_role(club.ctx, chief, team, child, "player")
    guardians.set_birth_date(club.ctx, chief, child, date(2012, 5, 1))
    with pytest.raises(PermissionDeniedError, match="in another club"):
        teams.add_role(club.ctx, rival, theirs, child, "player")
    with pytest.raises(PermissionDeniedError):
        guardians.set_birth_date(club.ctx, rival, child, None)
    assert dates(teams.get_team(club.ctx, rival, theirs)) == {}
    assert teams.add_role(club.ctx, root, theirs, child, "player")[1]  # the site's administrator moves people
    assert teams.add_role(club.ctx, rival, theirs, child, "coach")[1]  # who is in the club may be more in it


def test_a_name_in_a_season_is_taken_once(club: Club) -> None:
    _, chief, home = found(club)
    teams.create_team(club.ctx, chief, home, "U15", "2026", "U15")
    second = teams.create_team(club.ctx, chief, home, "U15", "2027", None).team.id
    with pytest.raises(ConflictError):
        teams.create_team(club.ctx, chief, home, "U15", "2026", None)
    with pytest.raises(ConflictError):
        teams.change_team(club.ctx, chief, second, "U15", "2026", None)
    assert [view.team.season for view in teams.list_teams(club.ctx, chief)] == ["2026", "2027"]
    assert teams.change_team(club.ctx, chief, second, "U15", "2027", "U16").team.age_group == "U16"


def test_an_archived_team_takes_nobody_but_lets_people_go(club: Club) -> None:
    _, chief, home = found(club)
    team = teams.create_team(club.ctx, chief, home, "U15", "2026", None).team.id
    kid, late = club.who("kid"), club.add("late")
    teams.add_role(club.ctx, chief, team, kid.user_id, "player")
    assert teams.archive_team(club.ctx, chief, team, True).team.archived_at is not None
    with pytest.raises(ConflictError):
        teams.add_role(club.ctx, chief, team, late, "player")
    with pytest.raises(ConflictError):
        teams.change_team(club.ctx, chief, team, "U16", "2026", None)
    assert teams.get_team(club.ctx, kid, team).my_roles == ("player",)
    teams.remove_role(club.ctx, chief, team, kid.user_id, "player")
    assert teams.archive_team(club.ctx, chief, team, False).team.archived_at is None
    assert teams.add_role(club.ctx, chief, team, late, "player")[1]


def test_a_full_team_takes_nobody_new(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teams, "MAX_MEMBERS", 2)
    _, chief, home = found(club)
    team = teams.create_team(club.ctx, chief, home, "U15", "2026", None).team.id
    ann, bob, eve = club.add("ann"), club.add("bob"), club.add("eve")
    for person in (ann, bob):
        assert teams.add_role(club.ctx, chief, team, person, "player")[1]
    with pytest.raises(ConflictError) as caught:
        teams.add_role(club.ctx, chief, team, eve, "player")
    assert caught.value.details == {"max": 2}
    view, is_new = teams.add_role(club.ctx, chief, team, bob, "guardian")
    assert is_new and len(view.members) == 3, "another role is not another person"
    assert teams.add_role(club.ctx, chief, team, bob, "guardian")[1] is False
    teams.remove_role(club.ctx, chief, team, ann, "player")
    assert teams.add_role(club.ctx, chief, team, eve, "player")[1]


def test_a_club_has_only_so_many_administrators(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(teams, "MAX_ADMINS", 1)
    root, chief, home = found(club)
    with pytest.raises(ConflictError):
        teams.add_admin(club.ctx, root, home, club.add("ann"))
    assert teams.add_admin(club.ctx, root, home, chief.user_id)[1] is False
    teams.remove_admin(club.ctx, root, home, chief.user_id)
    with pytest.raises(NotFoundError):
        teams.remove_admin(club.ctx, root, home, chief.user_id)
    with pytest.raises(NotFoundError):
        teams.create_team(club.ctx, chief, home, "U15", "2026", None)


def test_only_people_who_are_there_get_a_role(club: Club) -> None:
    root, chief, home = found(club)
    team = teams.create_team(club.ctx, chief, home, "U15", "2026", None).team.id
    gone = club.add("gone")
    teams.add_role(club.ctx, chief, team, gone, "player")
    people.disable(club.ctx, "gone")
    for person in (404, gone, club.add("probe", is_probe=True)):
        for act in (
            lambda key: teams.add_role(club.ctx, chief, team, key, "coach"),
            lambda key: teams.add_admin(club.ctx, root, home, key),
            lambda key: guardians.link(club.ctx, root, key, chief.user_id),
            lambda key: guardians.link(club.ctx, root, chief.user_id, key),
            lambda key: guardians.set_birth_date(club.ctx, root, key, None),
        ):
            with pytest.raises(NotFoundError) as caught:
                act(person)
            assert caught.value.details == {"user_ids": [person]}
    teams.remove_role(club.ctx, chief, team, gone, "player")
    with pytest.raises(NotFoundError):
        teams.remove_role(club.ctx, chief, team, gone, "player")


def test_a_manager_of_one_team_is_none_of_another(club: Club) -> None:
    _, chief, home = found(club)
    mine, other = (teams.create_team(club.ctx, chief, home, name, "2026", None).team.id for name in ("A", "B"))
    boss, kid = club.who("boss"), club.add("kid")
    teams.add_role(club.ctx, chief, mine, boss.user_id, "manager")
    teams.add_role(club.ctx, chief, other, boss.user_id, "coach")
    assert teams.add_role(club.ctx, boss, mine, kid, "player")[1]
    with pytest.raises(PermissionDeniedError):
        teams.add_role(club.ctx, boss, other, kid, "player")
    with pytest.raises(PermissionDeniedError):
        teams.create_team(club.ctx, boss, home, "C", "2026", None)
    teams.remove_role(club.ctx, chief, mine, boss.user_id, "manager")
    with pytest.raises(NotFoundError):
        teams.remove_role(club.ctx, boss, mine, kid, "player")


def test_a_birth_date_is_for_the_person_their_guardians_and_the_clubs_administrators(club: Club) -> None:
    root, chief, home = found(club)
    team = teams.create_team(club.ctx, chief, home, "U15", "2026", None).team.id
    kid, friend, parent, boss = (club.who(name) for name in ("kid", "friend", "parent", "boss"))
    given: dict[TeamRole, list[Principal]] = {"player": [kid, friend], "guardian": [parent], "manager": [boss]}
    for role, those in given.items():
        for person in those:
            teams.add_role(club.ctx, chief, team, person.user_id, role)
    born = {"kid": date(2012, 5, 1), "friend": date(2011, 1, 2), "parent": date(1980, 1, 1), "boss": date(1970, 1, 1)}
    for person in (kid, friend, parent, boss):
        guardians.set_birth_date(club.ctx, chief, person.user_id, born[person.username])
    guardians.link(club.ctx, chief, parent.user_id, kid.user_id)

    def seen_by(who: Principal) -> set[str]:
        shown = dates(teams.get_team(club.ctx, who, team))
        assert all(value in (None, born.get(name)) for name, value in shown.items())
        return {name for name, value in shown.items() if value}

    assert seen_by(chief) == seen_by(root) == set(born)
    assert seen_by(kid) == {"kid"} and seen_by(friend) == {"friend"} and seen_by(boss) == {"boss"}
    assert seen_by(parent) == {"parent", "kid"}
    assert teams.add_role(club.ctx, boss, team, club.add("new"), "player")[0].members[0].birth_date == born["boss"]
    assert {
        name for name, value in dates(teams.add_role(club.ctx, boss, team, kid.user_id, "player")[0]).items() if value
    } == {"boss"}
    away = club.who("away")
    other = teams.create_club(club.ctx, root, "Other").club.id
    teams.add_admin(club.ctx, root, other, away.user_id)
    teams.add_role(club.ctx, chief, team, away.user_id, "coach")
    assert seen_by(away) == set(), "another club's administrator is here what they are here"
    guardians.unlink(club.ctx, chief, parent.user_id, kid.user_id)
    assert seen_by(parent) == {"parent"}


def test_lists_are_ones_own_and_paged(club: Club) -> None:
    root, chief, home = found(club)
    other = teams.create_club(club.ctx, root, "Other").club.id
    ids = [teams.create_team(club.ctx, root, home, f"U{n}", "2026", None).team.id for n in range(3)]
    away = teams.create_team(club.ctx, root, other, "U15", "2026", None).team.id
    kid = club.who("kid")
    teams.add_role(club.ctx, root, away, kid.user_id, "player")
    teams.add_role(club.ctx, root, away, kid.user_id, "coach")
    assert [view.team.id for view in teams.list_teams(club.ctx, root)] == [*ids, away]
    assert [view.team.id for view in teams.list_teams(club.ctx, chief, after_id=ids[0], limit=1)] == [ids[1]]
    (mine,) = teams.list_teams(club.ctx, kid)
    assert (mine.team.id, mine.my_roles, mine.members) == (away, ("coach", "player"), ())
    assert [one.id for one in teams.list_clubs(club.ctx, kid)] == [other]
    assert [one.id for one in teams.list_clubs(club.ctx, root, limit=1)] == [home]
