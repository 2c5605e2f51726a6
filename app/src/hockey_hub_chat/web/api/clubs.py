"""Clubs, who administers them, and what their administrators decide about people."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, make_response

from hockey_hub_chat.services import guardians, teams
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.schemas import (
    BirthDate,
    Club,
    ClubDetails,
    Clubs,
    Guardianship,
    ListQuery,
    NewClub,
    NewMember,
    NewTeam,
    TeamDetails,
)
from hockey_hub_chat.web.security import context, principal

blueprint = APIBlueprint("clubs", __name__, url_prefix="/api/clubs", tag="Clubs and teams")


@blueprint.get("")
@blueprint.input(ListQuery, location="query", arg_name="wanted")
@blueprint.output(Clubs)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 422))
def list_mine(wanted: ListQuery) -> Clubs:
    """The clubs one administers or is in a team of; all for an administrator of the site."""
    found = teams.list_clubs(context(), principal(), after_id=wanted.after_id, limit=wanted.limit)
    return Clubs(clubs=[Club.of(one) for one in found])


@blueprint.post("")
@blueprint.input(NewClub, arg_name="wanted")
@blueprint.output(ClubDetails, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(400, 401, 403, 413, 422))
def create(wanted: NewClub) -> ClubDetails:
    """Open a club."""
    return ClubDetails.of_view(teams.create_club(context(), principal(), wanted.name))


@blueprint.get("/<id:club_id>")
@blueprint.output(ClubDetails)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 404))
def get(club_id: int) -> ClubDetails:
    """One club with its administrators."""
    return ClubDetails.of_view(teams.get_club(context(), principal(), club_id))


@blueprint.post("/<id:club_id>/admins")
@blueprint.input(NewMember, arg_name="wanted")
@blueprint.output(ClubDetails, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(200, 400, 401, 403, 404, 409, 413, 422))
def add_admin(club_id: int, wanted: NewMember) -> tuple[ClubDetails, int]:
    """Make somebody an administrator of the club; 200 when they are one already."""
    view, is_new = teams.add_admin(context(), principal(), club_id, wanted.user_id)
    return ClubDetails.of_view(view), 201 if is_new else 200


@blueprint.delete("/<id:club_id>/admins/<id:user_id>")
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(204, 401, 403, 404))
def remove_admin(club_id: int, user_id: int) -> Response:
    """Take an administrator's role away."""
    teams.remove_admin(context(), principal(), club_id, user_id)
    return make_response("", 204)


@blueprint.post("/<id:club_id>/teams")
@blueprint.input(NewTeam, arg_name="wanted")
@blueprint.output(TeamDetails, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(400, 401, 403, 404, 409, 413, 422))
def create_team(club_id: int, wanted: NewTeam) -> TeamDetails:
    """Make a team."""
    made = teams.create_team(context(), principal(), club_id, wanted.name, wanted.season, wanted.age_group)
    return TeamDetails.of_view(made)


@blueprint.post("/guardianships")
@blueprint.input(Guardianship, arg_name="wanted")
@blueprint.output(Guardianship, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(200, 400, 401, 403, 404, 409, 413, 422))
def link(wanted: Guardianship) -> tuple[Guardianship, int]:
    """Make somebody a child's guardian; 200 when they are already."""
    is_new = guardians.link(context(), principal(), wanted.guardian_id, wanted.child_id)
    return wanted, 201 if is_new else 200


@blueprint.delete("/guardianships/<id:guardian_id>/<id:child_id>")
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(204, 401, 403, 404))
def unlink(guardian_id: int, child_id: int) -> Response:
    """End a guardianship."""
    guardians.unlink(context(), principal(), guardian_id, child_id)
    return make_response("", 204)


@blueprint.put("/people/<id:user_id>/birth-date")
@blueprint.input(BirthDate, arg_name="wanted")
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(204, 400, 401, 403, 404, 413, 422))
def set_birth_date(user_id: int, wanted: BirthDate) -> Response:
    """Set a birth date, or forget it with null."""
    guardians.set_birth_date(context(), principal(), user_id, wanted.birth_date)
    return make_response("", 204)
