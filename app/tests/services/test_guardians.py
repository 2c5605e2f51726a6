"""Guardianships and birth dates: the rules beyond who may."""

from __future__ import annotations

from datetime import date, timedelta

import pytest

from hockey_hub_chat.errors import ConflictError, NotFoundError, PermissionDeniedError, ValidationError
from hockey_hub_chat.services import guardians, teams

from .conftest import Club


def test_nobody_is_their_own_guardian_nor_their_guardians(club: Club) -> None:
    root = club.who("root", is_admin=True)
    ann, bob = club.add("ann"), club.add("bob")
    with pytest.raises(ValidationError):
        guardians.link(club.ctx, root, ann, ann)
    assert guardians.link(club.ctx, root, ann, bob) is True
    assert guardians.link(club.ctx, root, ann, bob) is False
    with pytest.raises(ConflictError):
        guardians.link(club.ctx, root, bob, ann)
    guardians.unlink(club.ctx, root, ann, bob)
    assert guardians.link(club.ctx, root, bob, ann) is True
    with pytest.raises(NotFoundError):
        guardians.unlink(club.ctx, root, ann, bob)


def test_there_are_only_so_many_guardians_and_children(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guardians, "MAX_GUARDIANS", 2)
    monkeypatch.setattr(guardians, "MAX_CHILDREN", 2)
    root = club.who("root", is_admin=True)
    ann, bob, eve, kid, kit, kim = (club.add(name) for name in ("ann", "bob", "eve", "kid", "kit", "kim"))
    guardians.link(club.ctx, root, ann, kid), guardians.link(club.ctx, root, bob, kid)
    with pytest.raises(ConflictError):
        guardians.link(club.ctx, root, eve, kid)
    guardians.link(club.ctx, root, ann, kit)
    with pytest.raises(ConflictError):
        guardians.link(club.ctx, root, ann, kim)
    assert guardians.link(club.ctx, root, ann, kid) is False, "what is there is there"


def test_a_clubs_administrator_decides_about_children_in_its_teams_alone(club: Club) -> None:
    root, chief = club.who("root", is_admin=True), club.who("chief")
    home, other = (teams.create_club(club.ctx, root, name).club.id for name in ("home", "other"))
    teams.add_admin(club.ctx, root, home, chief.user_id)
    team, away = (teams.create_team(club.ctx, root, key, "U15", "2026", None).team.id for key in (home, other))
    parent, kid, foreign = club.add("parent"), club.add("kid"), club.add("foreign")
    teams.add_role(club.ctx, chief, team, kid, "player")
    teams.add_role(club.ctx, chief, team, parent, "guardian")
    teams.add_role(club.ctx, root, away, foreign, "player")
    assert guardians.link(club.ctx, chief, parent, kid)
    said = set()
    for child in (foreign, 404):
        for act in (guardians.link, guardians.unlink):
            with pytest.raises(PermissionDeniedError) as caught:
                act(club.ctx, chief, parent, child)
            said.add(repr(caught.value.as_dict()))
    assert len(said) == 1, "whether there is such a child is not told"
    with pytest.raises(PermissionDeniedError):
        guardians.set_birth_date(club.ctx, chief, foreign, date(2012, 1, 1))
    teams.archive_team(club.ctx, chief, team, True)
    guardians.unlink(club.ctx, chief, parent, kid)
    teams.remove_role(club.ctx, chief, team, kid, "player")
    with pytest.raises(PermissionDeniedError):
        guardians.link(club.ctx, chief, parent, kid)
    assert guardians.link(club.ctx, root, parent, foreign)


def test_birth_dates_that_cannot_be(club: Club) -> None:
    root = club.who("root", is_admin=True)
    kid = club.add("kid")
    today = club.now.date()
    for born in (today, guardians.EARLIEST_BIRTH, None):
        guardians.set_birth_date(club.ctx, root, kid, born)
    for born in (today + timedelta(days=1), guardians.EARLIEST_BIRTH - timedelta(days=1)):
        with pytest.raises(ValidationError) as caught:
            guardians.set_birth_date(club.ctx, root, kid, born)
        assert list(caught.value.details["fields"]) == ["birth_date"]
