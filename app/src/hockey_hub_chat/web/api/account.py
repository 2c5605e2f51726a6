"""One's own account: where one is logged in, and the password."""

from __future__ import annotations

from uuid import UUID

from apiflask import APIBlueprint
from flask import Response, make_response, request

from hockey_hub_chat.services import account
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.auth import clear_cookies
from hockey_hub_chat.web.api.schemas import EndedSessions, NewPassword, Session, Sessions
from hockey_hub_chat.web.security import client_address, context, principal

blueprint = APIBlueprint("account", __name__, url_prefix="/api", tag="Account")


@blueprint.get("/sessions")
@blueprint.output(Sessions)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401))
def list_sessions() -> Sessions:
    """Where one is logged in, the newest first."""
    who = principal()
    found = account.list_sessions(context(), who)
    return Sessions(sessions=[Session.of(one, who.session_id) for one in found])


@blueprint.delete("/sessions")
@blueprint.output(EndedSessions)
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(401, 403))
def end_other_sessions() -> EndedSessions:
    """Log out everywhere else."""
    return EndedSessions(ended=account.end_other_sessions(context(), principal()))


@blueprint.delete("/sessions/<uuid:session_id>")
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(204, 401, 403, 404))
def end_session(session_id: UUID) -> Response:
    """Log out one of one's own log-ins; the one that asks loses its cookies with it."""
    who = principal()
    account.end_session(context(), who, session_id)
    response = make_response("", 204)
    if session_id == who.session_id:
        clear_cookies(response)
    return response


@blueprint.put("/me/password")
@blueprint.input(NewPassword, arg_name="wanted")
@blueprint.doc(security=describe.LOGGED_IN, responses=describe.answers(204, 400, 401, 403, 413, 422))
def change_password(wanted: NewPassword) -> Response:
    """Take another password; all one's other log-ins end. A wrong current one is `wrong_password`, and ends nothing."""
    ctx = context()
    account.change_password(ctx, principal(), wanted.current, wanted.new, address=client_address(ctx, request))
    return make_response("", 204)
