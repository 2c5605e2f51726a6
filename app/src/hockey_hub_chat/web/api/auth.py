"""Logging in, renewing, logging out. Tokens travel in HttpOnly cookies and nowhere else."""

from __future__ import annotations

from apiflask import APIBlueprint
from flask import Response, make_response, request

from hockey_hub_chat.errors import AuthenticationError
from hockey_hub_chat.services import auth, people
from hockey_hub_chat.web import errors as web_errors
from hockey_hub_chat.web.api import describe
from hockey_hub_chat.web.api.schemas import LoggedIn, Login, Me
from hockey_hub_chat.web.security import (
    ACCESS_COOKIE,
    REFRESH_COOKIE,
    REFRESH_PATH,
    access_token,
    client_address,
    context,
)

blueprint = APIBlueprint("auth", __name__, url_prefix="/api/auth", tag="Log-in")


@blueprint.post("/login")
@blueprint.input(Login, arg_name="wanted")
@blueprint.output(LoggedIn)
@blueprint.doc(responses=describe.answers(400, 401, 403, 413, 422))
def login(wanted: Login) -> tuple[LoggedIn, int, dict[str, list[str]]]:
    """Log in; sets both cookies."""
    ctx = context()
    given = auth.login(
        ctx,
        wanted.username,
        wanted.password,
        address=client_address(ctx, request),
        user_agent=request.headers.get("User-Agent", ""),
    )
    holder = Response()
    _set_cookies(holder, given)
    user = people.me(ctx, given.principal)
    return LoggedIn(user=Me.of_account(user)), 200, {"Set-Cookie": holder.headers.getlist("Set-Cookie")}


@blueprint.post("/refresh")
@blueprint.doc(responses=describe.answers(204, 401, 403))
def refresh() -> Response:
    """Renew the cookies; the refresh token counts once."""
    try:
        given = auth.refresh(context(), request.cookies.get(REFRESH_COOKIE))
    except AuthenticationError as error:
        answer = web_errors.answer(error)
        clear_cookies(answer)
        return answer
    response = make_response("", 204)
    _set_cookies(response, given)
    return response


@blueprint.post("/logout")
@blueprint.doc(responses=describe.answers(204, 403))
def logout() -> Response:
    """End the session, if there is one."""
    auth.logout(context(), access_token=access_token(request), refresh_token=request.cookies.get(REFRESH_COOKIE))
    response = make_response("", 204)
    clear_cookies(response)
    return response


def _set_cookies(response: Response, given: auth.Tokens) -> None:
    # Both live as long as the session, so that an access token past its time is answered as just that.
    ctx = context()
    options = {
        "max_age": int((given.refresh_expires_at - ctx.clock()).total_seconds()),
        "httponly": True,
        "secure": ctx.settings.cookie_secure,
        "samesite": "Lax",
    }
    response.set_cookie(ACCESS_COOKIE, given.access_token, path="/", **options)  # type: ignore[arg-type]
    if given.refresh_token is not None:
        response.set_cookie(REFRESH_COOKIE, given.refresh_token, path=REFRESH_PATH, **options)  # type: ignore[arg-type]


def clear_cookies(response: Response) -> None:
    """Take both tokens away from the browser."""
    secure = context().settings.cookie_secure
    response.delete_cookie(ACCESS_COOKIE, path="/", secure=secure, httponly=True, samesite="Lax")
    response.delete_cookie(REFRESH_COOKIE, path=REFRESH_PATH, secure=secure, httponly=True, samesite="Lax")
