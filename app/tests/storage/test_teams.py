"""Clubs, teams, roles in them, and guardianships."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import date

import pytest
import sqlalchemy as sa
from sqlalchemy import Connection, Engine

from hockey_hub_chat.storage import teams, users
from hockey_hub_chat.storage.conversations import Member
from hockey_hub_chat.storage.teams import Standing, TeamMember


def add_users(conn: Connection, *names: str) -> list[int]:
    return [users.add(conn, username=name, display_name=name.title(), password_hash="-") for name in names]


def at_once(engine: Engine, actions: list[Callable[[Connection], object]]) -> list[object]:
    """Run each action in a transaction of its own, all at the same moment; return what they returned, in order."""
    barrier = threading.Barrier(len(actions))
    results: list[object] = [None] * len(actions)

    def run(number: int) -> None:
        barrier.wait()
        with engine.begin() as conn:
            results[number] = actions[number](conn)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(len(actions))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_a_clubs_administrators_come_and_go(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
        club = teams.create_club(conn, "Ice Bears")
        assert teams.admins(conn, club) == []
        assert teams.add_admin(conn, club, bob) and teams.add_admin(conn, club, ann)
        assert not teams.add_admin(conn, club, ann)
        assert teams.admins(conn, club) == [Member(ann, "ann", "Ann"), Member(bob, "bob", "Bob")]
        assert teams.remove_admin(conn, club, bob) and not teams.remove_admin(conn, club, bob)
        assert [admin.id for admin in teams.admins(conn, club)] == [ann]
        found = teams.get_club(conn, club, for_update=True)
        assert found is not None and (found.name, found.created_at.tzinfo is not None) == ("Ice Bears", True)
        assert teams.get_club(conn, 404) is None


def test_a_standing_tells_one_club_from_another(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob, eve = add_users(conn, "ann", "bob", "eve")
        here, there = teams.create_club(conn, "here"), teams.create_club(conn, "there")
        team = teams.create_team(conn, here, "U15", "2026/27", None)
        teams.add_admin(conn, here, ann), teams.add_admin(conn, there, ann), teams.add_admin(conn, there, bob)
        teams.add_role(conn, team, bob, "coach"), teams.add_role(conn, team, bob, "guardian")
        assert teams.standing(conn, here, ann) == Standing(frozenset(), True, True)
        assert teams.standing(conn, here, bob) == Standing(frozenset({"coach", "guardian"}), False, True)
        assert teams.standing(conn, there, bob) == Standing(frozenset(), True, False)
        assert teams.standing(conn, here, eve) == Standing(frozenset(), False, False)
        assert teams.administers_club_of(conn, ann, bob)
        assert not teams.administers_club_of(conn, bob, bob), "another club is no reason"
        assert not teams.administers_club_of(conn, ann, eve)
        teams.archive_team(conn, team, True)
        assert teams.administers_club_of(conn, ann, bob), "the end of a season ends nobody's responsibility"


def test_clubs_are_paged_and_only_ones_own(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")
        ids = [teams.create_club(conn, name) for name in "abcd"]
        teams.add_admin(conn, ids[2], ann)
        for name in ("U13", "U15"):
            teams.add_role(conn, teams.create_team(conn, ids[0], name, "2026", None), ann, "player")

        def listed(user_id: int | None, after_id: int = 0, limit: int = 10) -> list[int]:
            return [one.id for one in teams.list_clubs(conn, user_id, after_id=after_id, limit=limit)]

        assert listed(ann) == [ids[0], ids[2]] and listed(bob) == []
        assert listed(ann, limit=1) == [ids[0]] and listed(ann, after_id=ids[0]) == [ids[2]]
        assert listed(None) == ids and listed(None, after_id=ids[1], limit=1) == [ids[2]]


def test_teams_are_paged_and_only_ones_own(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob, eve = add_users(conn, "ann", "bob", "eve")
        one, other = teams.create_club(conn, "one"), teams.create_club(conn, "other")
        ids = [teams.create_team(conn, club, name, "2026", None) for club in (one, other) for name in ("U13", "U15")]
        teams.add_admin(conn, one, ann)
        for role in ("player", "coach"):
            teams.add_role(conn, ids[3], ann, role)
        teams.add_role(conn, ids[0], bob, "guardian")

        def listed(user_id: int | None, after_id: int = 0, limit: int = 10) -> list[int]:
            return [team.id for team in teams.list_teams(conn, user_id, after_id=after_id, limit=limit)]

        assert listed(ann) == [ids[0], ids[1], ids[3]] and listed(bob) == [ids[0]] and listed(eve) == []
        assert listed(ann, after_id=ids[0], limit=1) == [ids[1]]
        assert listed(None) == ids
        assert teams.roles_of(conn, ids, ann) == {ids[3]: ["coach", "player"]}


def test_a_team_is_renamed_and_archived(engine: Engine) -> None:
    with engine.begin() as conn:
        club = teams.create_club(conn, "club")
        team = teams.create_team(conn, club, "U15", "2026/27", "U15")
        teams.change_team(conn, team, "U15 A", "2027/28", None)
        teams.archive_team(conn, team, True)
        first = teams.get_team(conn, team)
        assert first is not None and (first.name, first.season, first.age_group) == ("U15 A", "2027/28", None)
        assert first.archived_at is not None
        teams.archive_team(conn, team, True)
        again = teams.get_team(conn, team, for_update=True)
        assert again == first, "it was archived when it was archived first"
        teams.archive_team(conn, team, False)
        back = teams.get_team(conn, team)
        assert back is not None and back.archived_at is None
        assert teams.get_team(conn, 404) is None


def test_a_name_is_taken_for_one_season_of_one_club(engine: Engine) -> None:
    with engine.begin() as conn:
        club, other = teams.create_club(conn, "club"), teams.create_club(conn, "other")
        teams.create_team(conn, club, "U15", "2026", None)
        teams.create_team(conn, club, "U15", "2027", None)
        teams.create_team(conn, other, "U15", "2026", None)
        second = teams.create_team(conn, club, "U13", "2026", None)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
        teams.create_team(conn, club, "U15", "2026", None)
    with pytest.raises(sa.exc.IntegrityError), engine.begin() as conn:
        teams.change_team(conn, second, "U15", "2026", None)


def test_somebody_has_several_roles_in_one_team(engine: Engine) -> None:
    with engine.begin() as conn:
        zoe, ann = add_users(conn, "zoe", "ann")
        team = teams.create_team(conn, teams.create_club(conn, "club"), "U15", "2026", None)
        teams.set_birth_date(conn, zoe, date(2012, 2, 29))
        assert teams.add_role(conn, team, zoe, "player") and not teams.add_role(conn, team, zoe, "player")
        assert teams.add_role(conn, team, ann, "manager") and teams.add_role(conn, team, ann, "guardian")
        assert teams.count_people(conn, team) == 2
        assert teams.roles_in_team(conn, team, ann) == {"guardian", "manager"}
        assert teams.members(conn, team) == [
            TeamMember(Member(ann, "ann", "Ann"), "guardian", None),
            TeamMember(Member(ann, "ann", "Ann"), "manager", None),
            TeamMember(Member(zoe, "zoe", "Zoe"), "player", date(2012, 2, 29)),
        ]
        assert teams.remove_role(conn, team, ann, "guardian") and not teams.remove_role(conn, team, ann, "guardian")
        assert teams.roles_in_team(conn, team, ann) == {"manager"}
        teams.set_birth_date(conn, zoe, None)
        assert teams.members(conn, team)[-1].birth_date is None


def test_guardianships(engine: Engine) -> None:
    with engine.begin() as conn:
        ann, bob, kid, other = add_users(conn, "ann", "bob", "kid", "other")
        assert teams.link(conn, ann, kid) and not teams.link(conn, ann, kid)
        assert teams.link(conn, bob, kid) and teams.link(conn, ann, other)
        assert teams.guardians_of(conn, kid) == [ann, bob] and teams.children_of(conn, ann) == [kid, other]
        assert teams.is_guardian(conn, ann, kid) and not teams.is_guardian(conn, kid, ann)
        assert teams.unlink(conn, ann, kid) and not teams.unlink(conn, ann, kid)
        assert teams.guardians_of(conn, kid) == [bob]


def test_people_are_held_in_one_order_whoever_asks(engine: Engine) -> None:
    """Both directions at once, again and again: one waits for the other, and finds what it stored."""
    with engine.begin() as conn:
        ann, bob = add_users(conn, "ann", "bob")

    def link(one: int, other: int) -> Callable[[Connection], object]:
        def run(conn: Connection) -> object:
            teams.lock_people(conn, [one, other])
            return not teams.is_guardian(conn, other, one) and teams.link(conn, one, other)

        return run

    for _ in range(10):
        assert sorted(map(bool, at_once(engine, [link(ann, bob), link(bob, ann)]))) == [False, True]
        with engine.begin() as conn:
            teams.unlink(conn, ann, bob), teams.unlink(conn, bob, ann)
