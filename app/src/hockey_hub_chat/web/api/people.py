"""The person logged in, and whom they may write to."""

from __future__ import annotations

from apiflask import APIBlueprint

from hockey_hub_chat.services import people
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.schemas import Me, User, UserQuery, Users
from hockey_hub_chat.web.security import context, principal

blueprint = APIBlueprint("people", __name__, url_prefix="/api", tag="People")


@blueprint.get("/me")
@blueprint.output(Me)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401))
def me() -> Me:
    """The person logged in."""
    return Me.of_account(people.me(context(), principal()))


@blueprint.get("/users")
@blueprint.input(UserQuery, location="query", arg_name="wanted")
@blueprint.output(Users)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 422))
def users(wanted: UserQuery) -> Users:
    """People one may write to, whose name holds the query."""
    found = people.search(context(), principal(), wanted.query, wanted.limit)
    return Users(users=[User.of(user) for user in found])
