"""Clubs, their teams, who is what in them, and who is whose guardian. Decides nothing: who may is for the services."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from hockey_hub_chat.storage.conversations import Member
from hockey_hub_chat.storage.tables import UTC, club_roles, clubs, guardianships, team_members, teams, users

TeamRole = Literal["player", "guardian", "coach", "manager"]

#: Entries of one page of clubs or teams.
MAX_PAGE = 100


@dataclass(frozen=True, slots=True)
class Club:
    """A club."""

    id: int
    name: str
    created_at: datetime


@dataclass(frozen=True, slots=True)
class Team:
    """A team of one season."""

    id: int
    club_id: int
    name: str
    season: str
    age_group: str | None
    archived_at: datetime | None
    created_at: datetime


@dataclass(frozen=True, slots=True)
class TeamMember:
    """Someone in a team, once for each of their roles. The birth date is for few: see ``services.policy``."""

    person: Member
    role: TeamRole
    birth_date: date | None


@dataclass(frozen=True, slots=True)
class Standing:
    """How somebody stands to a club: what they are in its teams, and where they are an administrator."""

    team_roles: frozenset[TeamRole]
    administers: bool
    administers_another: bool


# --- clubs -----------------------------------------------------------------------------------------------------------


def create_club(conn: sa.Connection, name: str) -> int:
    """Make a club and return its id."""
    made: int = conn.execute(sa.insert(clubs).values(name=name).returning(clubs.c.id)).scalar_one()
    return made


def get_club(conn: sa.Connection, club_id: int, *, for_update: bool = False) -> Club | None:
    """Return a club; ``for_update`` holds its row, as a change of its administrators does."""
    query = sa.select(*_CLUB).where(clubs.c.id == club_id)
    row = conn.execute(query.with_for_update(key_share=True) if for_update else query).one_or_none()
    return Club(*row) if row else None


def list_clubs(conn: sa.Connection, user_id: int | None, *, after_id: int, limit: int) -> list[Club]:
    """Return clubs in ascending id: those somebody administers or is in a team of, or all with ``user_id`` None."""
    query = sa.select(*_CLUB).where(clubs.c.id > after_id)
    if user_id is not None:
        query = query.where(clubs.c.id.in_(_clubs_of(user_id).union(_administered(user_id))))
    return [Club(*row) for row in conn.execute(query.order_by(clubs.c.id).limit(limit))]


def admins(conn: sa.Connection, club_id: int) -> list[Member]:
    """Return a club's administrators, in ascending id."""
    query = (
        sa.select(users.c.id, users.c.username, users.c.display_name)
        .join(club_roles, club_roles.c.user_id == users.c.id)
        .where(club_roles.c.club_id == club_id, club_roles.c.role == "admin")
        .order_by(users.c.id)
    )
    return [Member(*row) for row in conn.execute(query)]


def add_admin(conn: sa.Connection, club_id: int, user_id: int) -> bool:
    """Make somebody an administrator of a club; False when they were one already."""
    return _insert(conn, club_roles, club_id=club_id, user_id=user_id, role="admin")


def remove_admin(conn: sa.Connection, club_id: int, user_id: int) -> bool:
    """Take an administrator's role away; False when they were none."""
    return _delete(conn, club_roles, club_id=club_id, user_id=user_id, role="admin")


def standing(conn: sa.Connection, club_id: int, user_id: int) -> Standing:
    """Return how somebody stands to a club."""
    administered = {row.club_id for row in conn.execute(_administered(user_id))}
    query = (
        sa.select(team_members.c.role)
        .join(teams, teams.c.id == team_members.c.team_id)
        .where(teams.c.club_id == club_id, team_members.c.user_id == user_id)
        .distinct()
    )
    return Standing(
        frozenset(conn.execute(query).scalars()), club_id in administered, not administered.issubset({club_id})
    )


def administers_club_of(conn: sa.Connection, admin_id: int, person_id: int) -> bool:
    """Whether somebody administers a club in one of whose teams the person is, archived ones included."""
    query = _administered(admin_id).where(club_roles.c.club_id.in_(_clubs_of(person_id)))
    return conn.execute(sa.select(query.exists())).scalar_one()


def clubs_of(conn: sa.Connection, user_id: int) -> set[int]:
    """Return the clubs in one of whose teams somebody is, archived ones included."""
    return {row.club_id for row in conn.execute(_clubs_of(user_id))}


# --- teams -----------------------------------------------------------------------------------------------------------


def create_team(conn: sa.Connection, club_id: int, name: str, season: str, age_group: str | None) -> int:
    """Make a team and return its id.

    Raises:
        sqlalchemy.exc.IntegrityError: the club has one of this name in this season.
    """
    statement = (
        sa.insert(teams).values(club_id=club_id, name=name, season=season, age_group=age_group).returning(teams.c.id)
    )
    made: int = conn.execute(statement).scalar_one()
    return made


def get_team(conn: sa.Connection, team_id: int, *, for_update: bool = False) -> Team | None:
    """Return a team; ``for_update`` holds its row until the transaction ends, as every change of it does."""
    query = sa.select(*_TEAM).where(teams.c.id == team_id)
    row = conn.execute(query.with_for_update(key_share=True) if for_update else query).one_or_none()
    return Team(*row) if row else None


def list_teams(conn: sa.Connection, user_id: int | None, *, after_id: int, limit: int) -> list[Team]:
    """Return teams in ascending id: those somebody is in or administers, or all with ``user_id`` None."""
    query = sa.select(*_TEAM).where(teams.c.id > after_id)
    if user_id is not None:
        inside = sa.select(team_members.c.team_id).where(team_members.c.user_id == user_id)
        query = query.where(sa.or_(teams.c.id.in_(inside), teams.c.club_id.in_(_administered(user_id))))
    return [Team(*row) for row in conn.execute(query.order_by(teams.c.id).limit(limit))]


def change_team(conn: sa.Connection, team_id: int, name: str, season: str, age_group: str | None) -> None:
    """Rename a team.

    Raises:
        sqlalchemy.exc.IntegrityError: the club has one of this name in this season.
    """
    conn.execute(sa.update(teams).where(teams.c.id == team_id).values(name=name, season=season, age_group=age_group))


def archive_team(conn: sa.Connection, team_id: int, archived: bool) -> None:
    """Put a team away, or take it out again; the time of the first archiving stays."""
    is_other = teams.c.archived_at.is_(None) if archived else teams.c.archived_at.is_not(None)
    conn.execute(
        sa.update(teams)
        .where(teams.c.id == team_id, is_other)
        .values(archived_at=datetime.now(UTC) if archived else None)
    )


def members(conn: sa.Connection, team_id: int) -> list[TeamMember]:
    """Return who is in a team, by display name; somebody with two roles is there twice."""
    query = (
        sa.select(users.c.id, users.c.username, users.c.display_name, team_members.c.role, users.c.birth_date)
        .join(team_members, team_members.c.user_id == users.c.id)
        .where(team_members.c.team_id == team_id)
        .order_by(users.c.display_name, users.c.id, team_members.c.role)
    )
    return [
        TeamMember(Member(row.id, row.username, row.display_name), row.role, row.birth_date)
        for row in conn.execute(query)
    ]


def roles_in_team(conn: sa.Connection, team_id: int, user_id: int) -> frozenset[TeamRole]:
    """Return what somebody is in a team."""
    query = sa.select(team_members.c.role).where(team_members.c.team_id == team_id, team_members.c.user_id == user_id)
    return frozenset(conn.execute(query).scalars())


def roles_of(conn: sa.Connection, team_ids: Sequence[int], user_id: int) -> dict[int, list[TeamRole]]:
    """Return team id → what somebody is in it, in the alphabet's order; teams they are not in are missing."""
    query = (
        sa.select(team_members.c.team_id, team_members.c.role)
        .where(team_members.c.team_id.in_(list(team_ids)), team_members.c.user_id == user_id)
        .order_by(team_members.c.role)
    )
    found: dict[int, list[TeamRole]] = {}
    for row in conn.execute(query):
        found.setdefault(row.team_id, []).append(row.role)
    return found


def count_people(conn: sa.Connection, team_id: int) -> int:
    """Return how many people are in a team, however many roles they have."""
    query = sa.select(sa.func.count(team_members.c.user_id.distinct())).where(team_members.c.team_id == team_id)
    return conn.execute(query).scalar_one()


def add_role(conn: sa.Connection, team_id: int, user_id: int, role: TeamRole) -> bool:
    """Give somebody a role in a team; False when they had it already."""
    return _insert(conn, team_members, team_id=team_id, user_id=user_id, role=role)


def remove_role(conn: sa.Connection, team_id: int, user_id: int, role: TeamRole) -> bool:
    """Take a role in a team away; False when they had it not."""
    return _delete(conn, team_members, team_id=team_id, user_id=user_id, role=role)


# --- guardians -------------------------------------------------------------------------------------------------------


def lock_people(conn: sa.Connection, ids: Sequence[int]) -> None:
    """Hold the rows of these accounts until the transaction ends, in ascending id so that two never wait for each other."""
    query = sa.select(users.c.id).where(users.c.id.in_(list(ids))).order_by(users.c.id)
    conn.execute(query.with_for_update(key_share=True)).all()


def is_guardian(conn: sa.Connection, guardian_id: int, child_id: int) -> bool:
    """Whether the one is the other's guardian."""
    table = guardianships
    query = sa.select(table.c.child_id).where(table.c.guardian_id == guardian_id, table.c.child_id == child_id)
    return conn.execute(sa.select(query.exists())).scalar_one()


def guardians_of(conn: sa.Connection, child_id: int) -> list[int]:
    """Return the guardians of a child, in ascending id."""
    table = guardianships
    query = sa.select(table.c.guardian_id).where(table.c.child_id == child_id).order_by(table.c.guardian_id)
    return list(conn.execute(query).scalars())


def children_of(conn: sa.Connection, guardian_id: int) -> list[int]:
    """Return the children somebody is a guardian of, in ascending id."""
    table = guardianships
    query = sa.select(table.c.child_id).where(table.c.guardian_id == guardian_id).order_by(table.c.child_id)
    return list(conn.execute(query).scalars())


def link(conn: sa.Connection, guardian_id: int, child_id: int) -> bool:
    """Make somebody a child's guardian; False when they were already."""
    return _insert(conn, guardianships, guardian_id=guardian_id, child_id=child_id)


def unlink(conn: sa.Connection, guardian_id: int, child_id: int) -> bool:
    """End a guardianship; False when there was none."""
    return _delete(conn, guardianships, guardian_id=guardian_id, child_id=child_id)


def set_birth_date(conn: sa.Connection, user_id: int, birth_date: date | None) -> None:
    """Set or forget a birth date."""
    conn.execute(sa.update(users).where(users.c.id == user_id).values(birth_date=birth_date))


_CLUB = (clubs.c.id, clubs.c.name, clubs.c.created_at)
_TEAM = (
    teams.c.id,
    teams.c.club_id,
    teams.c.name,
    teams.c.season,
    teams.c.age_group,
    teams.c.archived_at,
    teams.c.created_at,
)


def _administered(user_id: int) -> sa.Select[tuple[int]]:
    return sa.select(club_roles.c.club_id).where(club_roles.c.user_id == user_id, club_roles.c.role == "admin")


def _clubs_of(user_id: int) -> sa.Select[tuple[int]]:
    return (
        sa.select(teams.c.club_id)
        .join(team_members, team_members.c.team_id == teams.c.id)
        .where(team_members.c.user_id == user_id)
    )


def _insert(conn: sa.Connection, table: sa.Table, **values: object) -> bool:
    insert = postgresql.insert if conn.dialect.name == "postgresql" else sqlite.insert
    statement = insert(table).values(**values).on_conflict_do_nothing().returning(*table.primary_key.columns)
    return conn.execute(statement).one_or_none() is not None


def _delete(conn: sa.Connection, table: sa.Table, **values: object) -> bool:
    return conn.execute(sa.delete(table).filter_by(**values)).rowcount == 1
