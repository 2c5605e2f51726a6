"""Teams and who is what in them."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, make_response

from hockey_hub_chat.services import teams
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.schemas import Archived, ListQuery, NewRole, NewTeam, RoleQuery, Team, TeamDetails, Teams
from hockey_hub_chat.web.security import context, principal

blueprint = APIBlueprint("teams", __name__, url_prefix="/api/teams", tag="Clubs and teams")


@blueprint.get("")
@blueprint.input(ListQuery, location="query", arg_name="wanted")
@blueprint.output(Teams)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 422))
def list_mine(wanted: ListQuery) -> Teams:
    """The teams one is in or administers; all for an administrator of the site."""
    found = teams.list_teams(context(), principal(), after_id=wanted.after_id, limit=wanted.limit)
    return Teams(teams=[Team.of(one) for one in found])


@blueprint.get("/<id:team_id>")
@blueprint.output(TeamDetails)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 404))
def get(team_id: int) -> TeamDetails:
    """One team with its members by role."""
    return TeamDetails.of_view(teams.get_team(context(), principal(), team_id))


@blueprint.put("/<id:team_id>")
@blueprint.input(NewTeam, arg_name="wanted")
@blueprint.output(TeamDetails)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(400, 401, 403, 404, 409, 413, 422))
def change(team_id: int, wanted: NewTeam) -> TeamDetails:
    """Rename a team."""
    changed = teams.change_team(context(), principal(), team_id, wanted.name, wanted.season, wanted.age_group)
    return TeamDetails.of_view(changed)


@blueprint.put("/<id:team_id>/archived")
@blueprint.input(Archived, arg_name="wanted")
@blueprint.output(TeamDetails)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(400, 401, 403, 404, 413, 422))
def archive(team_id: int, wanted: Archived) -> TeamDetails:
    """Put a team away at the end of its season, or take it out again."""
    return TeamDetails.of_view(teams.archive_team(context(), principal(), team_id, wanted.archived))


@blueprint.post("/<id:team_id>/members")
@blueprint.input(NewRole, arg_name="wanted")
@blueprint.output(TeamDetails, status_code=201)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(200, 400, 401, 403, 404, 409, 413, 422))
def add_role(team_id: int, wanted: NewRole) -> tuple[TeamDetails, int]:
    """Give somebody a role in the team; 200 when they have it already."""
    view, is_new = teams.add_role(context(), principal(), team_id, wanted.user_id, wanted.role)
    return TeamDetails.of_view(view), 201 if is_new else 200


@blueprint.delete("/<id:team_id>/members/<id:user_id>")
@blueprint.input(RoleQuery, location="query", arg_name="wanted")
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(204, 401, 403, 404, 422))
def remove_role(team_id: int, user_id: int, wanted: RoleQuery) -> Response:
    """Take a role in the team away."""
    teams.remove_role(context(), principal(), team_id, user_id, wanted.role)
    return make_response("", 204)
