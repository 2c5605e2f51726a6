"""Clubs and their teams: who makes them, who is in them, and what of that others see.

Rules that live here (who may do what is ``services.policy``):

- A club or a team answers whoever is neither in it nor an administrator of it as if it did not exist.
- Somebody may have several roles in one team; a team has at most ``MAX_MEMBERS`` people.
- An archived team stays readable and may lose people, but takes none and is not renamed.
- A birth date is shown to the person, to their guardians, and to the club's administrators. So a club cannot take in who belongs to
  another: only an administrator of the site can.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import sqlalchemy as sa
import structlog

from hockey_hub_chat.errors import ConflictError, NotFoundError, PermissionDeniedError
from hockey_hub_chat.services import policy
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.services.policy import Action, Role
from hockey_hub_chat.storage import teams, users
from hockey_hub_chat.storage.conversations import Member
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.storage.teams import Club, Team, TeamMember, TeamRole

log = structlog.get_logger(__name__)

MAX_MEMBERS = 500
MAX_ADMINS = 50
MAX_NAME = 100
MAX_SEASON = 20
MAX_AGE_GROUP = 20

_CHANGES: dict[TeamRole, Action] = {
    "player": "change_player",
    "guardian": "change_guardian",
    "coach": "change_coach",
    "manager": "change_manager",
}


@dataclass(frozen=True, slots=True)
class ClubView:
    """A club, and who administers it."""

    club: Club
    admins: tuple[Member, ...]


@dataclass(frozen=True, slots=True)
class TeamView:
    """A team as somebody sees it: what they are in it, and who is in it with the birth dates they may see."""

    team: Team
    my_roles: tuple[TeamRole, ...]
    members: tuple[TeamMember, ...]


# --- clubs -----------------------------------------------------------------------------------------------------------


def list_clubs(ctx: AppContext, principal: Principal, *, after_id: int = 0, limit: int = teams.MAX_PAGE) -> list[Club]:
    """Return a page of the clubs the person administers or is in a team of, in ascending id; all for a site administrator."""
    with reading(ctx.engine) as conn:
        return teams.list_clubs(conn, _everything_or(principal), after_id=after_id, limit=min(limit, teams.MAX_PAGE))


def create_club(ctx: AppContext, principal: Principal, name: str) -> ClubView:
    """Make a club without administrators.

    Raises:
        PermissionDeniedError: not an administrator of the site.
    """
    if not policy.may({"site_admin"} if principal.is_admin else {"outsider"}, "create_club"):
        raise PermissionDeniedError(policy.REFUSALS["create_club"])
    with writing(ctx.engine) as conn:
        made = _club_view(conn, teams.create_club(conn, name))
    log.info("club_created", club_id=made.club.id, by=principal.user_id)
    return made


def get_club(ctx: AppContext, principal: Principal, club_id: int) -> ClubView:
    """Return a club.

    Raises:
        NotFoundError: unknown, or not the person's.
    """
    with reading(ctx.engine) as conn:
        _check_club(conn, principal, club_id, "see_club")
        return _club_view(conn, club_id)


def add_admin(ctx: AppContext, principal: Principal, club_id: int, user_id: int) -> tuple[ClubView, bool]:
    """Make somebody an administrator of a club; return it, and False when they were one already.

    Raises:
        NotFoundError: unknown club or person.
        PermissionDeniedError: not an administrator of the site.
        ConflictError: it has too many.
    """
    with writing(ctx.engine) as conn:
        _check_club(conn, principal, club_id, "change_club_admins", for_update=True)
        check_person(conn, user_id)
        present = {admin.id for admin in teams.admins(conn, club_id)}
        if user_id not in present and len(present) >= MAX_ADMINS:
            raise ConflictError(f"A club has at most {MAX_ADMINS} administrators.", {"max": MAX_ADMINS})
        is_new = teams.add_admin(conn, club_id, user_id)
        view = _club_view(conn, club_id)
    if is_new:
        log.info("club_admin_added", club_id=club_id, user_id=user_id, by=principal.user_id)
    return view, is_new


def remove_admin(ctx: AppContext, principal: Principal, club_id: int, user_id: int) -> None:
    """Take an administrator's role away.

    Raises:
        NotFoundError: unknown club, or they do not administer it.
        PermissionDeniedError: not an administrator of the site.
    """
    with writing(ctx.engine) as conn:
        _check_club(conn, principal, club_id, "change_club_admins", for_update=True)
        if not teams.remove_admin(conn, club_id, user_id):
            raise NotFoundError("This person does not administer the club.")
    log.info("club_admin_removed", club_id=club_id, user_id=user_id, by=principal.user_id)


# --- teams -----------------------------------------------------------------------------------------------------------


def list_teams(
    ctx: AppContext, principal: Principal, *, after_id: int = 0, limit: int = teams.MAX_PAGE
) -> list[TeamView]:
    """Return a page of the teams the person is in or administers, in ascending id and without their members."""
    with reading(ctx.engine) as conn:
        found = teams.list_teams(conn, _everything_or(principal), after_id=after_id, limit=min(limit, teams.MAX_PAGE))
        mine = teams.roles_of(conn, [team.id for team in found], principal.user_id)
    return [TeamView(team, tuple(mine.get(team.id, ())), ()) for team in found]


def get_team(ctx: AppContext, principal: Principal, team_id: int) -> TeamView:
    """Return a team with its members.

    Raises:
        NotFoundError: unknown, or not the person's.
    """
    with reading(ctx.engine) as conn:
        _check_team(conn, principal, team_id, "see_team")
        return _team_view(conn, principal, team_id)


def create_team(
    ctx: AppContext, principal: Principal, club_id: int, name: str, season: str, age_group: str | None
) -> TeamView:
    """Make a team with nobody in it.

    Raises:
        NotFoundError: unknown club, or not the person's.
        PermissionDeniedError: in the club, but not its administrator.
        ConflictError: the club has one of this name in this season.
    """
    try:
        with writing(ctx.engine) as conn:
            _check_club(conn, principal, club_id, "create_team")
            made = teams.create_team(conn, club_id, name, season, age_group)
            view = _team_view(conn, principal, made)
    except sa.exc.IntegrityError:
        raise _name_is_taken() from None
    log.info("team_created", club_id=club_id, team_id=made, by=principal.user_id)
    return view


def change_team(
    ctx: AppContext, principal: Principal, team_id: int, name: str, season: str, age_group: str | None
) -> TeamView:
    """Rename a team.

    Raises:
        NotFoundError: unknown, or not the person's.
        PermissionDeniedError: in it, but not its club's administrator.
        ConflictError: archived, or the club has one of this name in this season.
    """
    try:
        with writing(ctx.engine) as conn:
            _check_active(_check_team(conn, principal, team_id, "change_team", for_update=True))
            teams.change_team(conn, team_id, name, season, age_group)
            view = _team_view(conn, principal, team_id)
    except sa.exc.IntegrityError:
        raise _name_is_taken() from None
    log.info("team_changed", team_id=team_id, by=principal.user_id)
    return view


def archive_team(ctx: AppContext, principal: Principal, team_id: int, archived: bool) -> TeamView:
    """Put a team away, or take it out again; saying it twice does no harm.

    Raises:
        NotFoundError: unknown, or not the person's.
        PermissionDeniedError: in it, but not its club's administrator.
    """
    with writing(ctx.engine) as conn:
        _check_team(conn, principal, team_id, "archive_team", for_update=True)
        teams.archive_team(conn, team_id, archived)
        view = _team_view(conn, principal, team_id)
    log.info("team_archived" if archived else "team_restored", team_id=team_id, by=principal.user_id)
    return view


def add_role(
    ctx: AppContext, principal: Principal, team_id: int, user_id: int, role: TeamRole
) -> tuple[TeamView, bool]:
    """Give somebody a role in a team; return it, and False when they had the role already.

    Raises:
        NotFoundError: unknown team, not the person's, or no such person.
        PermissionDeniedError: in it, but not one who may give this role; or the person belongs to another club.
        ConflictError: the team is archived or full.
    """
    with writing(ctx.engine) as conn:
        team = _check_team(conn, principal, team_id, _CHANGES[role], for_update=True)
        _check_active(team)
        teams.lock_people(conn, [user_id])  # or two clubs could take somebody in at once
        check_person(conn, user_id)
        _check_ours(conn, principal, team.club_id, user_id)
        is_known = bool(teams.roles_in_team(conn, team_id, user_id))
        if not is_known and teams.count_people(conn, team_id) >= MAX_MEMBERS:
            raise ConflictError(f"The team is full: it has {MAX_MEMBERS} members.", {"max": MAX_MEMBERS})
        is_new = teams.add_role(conn, team_id, user_id, role)
        view = _team_view(conn, principal, team_id)
    if is_new:
        log.info("team_role_added", team_id=team_id, user_id=user_id, role=role, by=principal.user_id)
    return view, is_new


def remove_role(ctx: AppContext, principal: Principal, team_id: int, user_id: int, role: TeamRole) -> None:
    """Take a role in a team away, in an archived one too.

    Raises:
        NotFoundError: unknown team, not the person's, or they have not this role.
        PermissionDeniedError: in it, but not one who may take this role.
    """
    with writing(ctx.engine) as conn:
        _check_team(conn, principal, team_id, _CHANGES[role], for_update=True)
        if not teams.remove_role(conn, team_id, user_id, role):
            raise NotFoundError(f"This person is no {role} of the team.")
    log.info("team_role_removed", team_id=team_id, user_id=user_id, role=role, by=principal.user_id)


def check_person(conn: sa.Connection, user_id: int) -> None:
    """Let only people through: active accounts that are no probes.

    Raises:
        NotFoundError: anybody else.
    """
    if not any(not user.is_probe for user in users.find_active(conn, [user_id])):
        raise NotFoundError("There is no such person.", {"user_ids": [user_id]})


def _check_ours(conn: sa.Connection, principal: Principal, club_id: int, user_id: int) -> None:
    """Keep a club from taking in who belongs to another: its administrators would see their birth date and choose their guardians.

    Raises:
        PermissionDeniedError: somebody of another club alone.
    """
    belongs_to = teams.clubs_of(conn, user_id)
    if belongs_to and club_id not in belongs_to and not principal.is_admin:
        raise PermissionDeniedError("This person is in another club. Ask an administrator of the site to add them.")


def _everything_or(principal: Principal) -> int | None:
    return None if principal.is_admin else principal.user_id


def _check_club(
    conn: sa.Connection, principal: Principal, club_id: int, action: Action, *, for_update: bool = False
) -> None:
    club = teams.get_club(conn, club_id, for_update=for_update)
    roles = _roles(conn, principal, club_id, None)
    if club is None or not policy.may(roles, "see_club"):
        raise NotFoundError("There is no such club.")
    if not policy.may(roles, action):
        raise PermissionDeniedError(policy.REFUSALS[action])


def _check_team(
    conn: sa.Connection, principal: Principal, team_id: int, action: Action, *, for_update: bool = False
) -> Team:
    team = teams.get_team(conn, team_id, for_update=for_update)
    if team is None:
        raise NotFoundError("There is no such team.")
    roles = _roles(conn, principal, team.club_id, team_id)
    if not policy.may(roles, "see_team"):
        raise NotFoundError("There is no such team.")
    if not policy.may(roles, action):
        raise PermissionDeniedError(policy.REFUSALS[action])
    return team


def _roles(conn: sa.Connection, principal: Principal, club_id: int, team_id: int | None) -> set[Role]:
    """Return how the person stands to a team, or without one to the club: there every role in one of its teams counts."""
    standing = teams.standing(conn, club_id, principal.user_id)
    roles: set[Role] = set()
    roles |= standing.team_roles if team_id is None else teams.roles_in_team(conn, team_id, principal.user_id)
    if standing.administers:
        roles.add("club_admin")
    if standing.administers_another:
        roles.add("other_club_admin")
    if principal.is_admin:
        roles.add("site_admin")
    return roles or {"outsider"}


def _check_active(team: Team) -> None:
    if team.archived_at is not None:
        raise ConflictError("The team is archived. Take it out of the archive first.")


def _name_is_taken() -> ConflictError:
    return ConflictError("The club has a team of this name in this season already. Choose another name.")


def _club_view(conn: sa.Connection, club_id: int) -> ClubView:
    club = teams.get_club(conn, club_id)
    if club is None:
        raise NotFoundError("There is no such club.")
    return ClubView(club, tuple(teams.admins(conn, club_id)))


def _team_view(conn: sa.Connection, principal: Principal, team_id: int) -> TeamView:
    team = teams.get_team(conn, team_id)
    if team is None:
        raise NotFoundError("There is no such team.")
    roles = _roles(conn, principal, team.club_id, team_id)
    children = set(teams.children_of(conn, principal.user_id))

    def shown(member: TeamMember) -> TeamMember:
        to_them: set[Role] = set(roles)
        if member.person.id == principal.user_id:
            to_them.add("oneself")
        if member.person.id in children:
            to_them.add("own_guardian")
        return member if policy.may(to_them, "see_birth_date") else replace(member, birth_date=None)

    everybody = teams.members(conn, team_id)
    mine = tuple(sorted(member.role for member in everybody if member.person.id == principal.user_id))
    return TeamView(team, mine, tuple(shown(member) for member in everybody))
