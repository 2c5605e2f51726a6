"""Who may be written to, and the accounts behind them."""

from __future__ import annotations

import re
import secrets
from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from hockey_hub_chat import passwords
from hockey_hub_chat.errors import ConflictError, NotFoundError, TokenInvalidError, ValidationError
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import conversations, sessions, users
from hockey_hub_chat.storage.engine import reading, writing
from hockey_hub_chat.storage.messages import is_storable
from hockey_hub_chat.storage.users import User

log = structlog.get_logger(__name__)

MAX_DISPLAY_NAME = 100
_USERNAME = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,62}[a-z0-9])?", re.ASCII)


def me(ctx: AppContext, principal: Principal) -> User:
    """Return the account of who asks.

    Raises:
        TokenInvalidError: it vanished meanwhile.
    """
    with reading(ctx.engine) as conn:
        user = users.get(conn, principal.user_id)
    if user is None:
        raise TokenInvalidError("The session is over.")
    return user


def search(ctx: AppContext, principal: Principal, query: str, limit: int) -> list[User]:
    """Return people the person may write to whose name holds ``query``; probes only see probes."""
    with reading(ctx.engine) as conn:
        asking = users.get(conn, principal.user_id)
        if asking is None:
            return []
        return users.search(conn, query.strip(), except_id=principal.user_id, limit=limit, probes=asking.is_probe)


def add(ctx: AppContext, username: str, display_name: str, password: str, *, is_admin: bool = False) -> int:
    """Make an account and return its id.

    Raises:
        ValidationError: ``details["fields"]`` says what is wrong.
        ConflictError: the name is taken.
    """
    name, shown = users.normalise(username), display_name.strip()
    problems: dict[str, str] = {}
    if not _USERNAME.fullmatch(name):
        problems["username"] = (
            "1 to 64 of a-z, 0-9, dot, dash and underscore, beginning and ending with a letter or digit"
        )
    if not 1 <= len(shown) <= MAX_DISPLAY_NAME or not is_storable(shown):
        problems["display_name"] = f"1 to {MAX_DISPLAY_NAME} characters"
    problem = password_problem(password)
    if problem is not None:
        problems["password"] = problem
    if problems:
        listed = "; ".join(f"{field}: {what}" for field, what in problems.items())
        raise ValidationError(f"The account is not valid: {listed}.", {"fields": problems})
    password_hash = passwords.hash_password(password)
    try:
        with writing(ctx.engine) as conn:
            made = users.add(conn, username=name, display_name=shown, password_hash=password_hash, is_admin=is_admin)
    except sa.exc.IntegrityError:
        raise ConflictError(f"There is a user named {name} already.") from None
    log.info("user_added", user_id=made, is_admin=is_admin)
    return made


def password_problem(password: str) -> str | None:
    """Return the rule a new password breaks, such as "8 to 1024 characters"; None when it is good."""
    if not passwords.MIN_LENGTH <= len(password) <= passwords.MAX_LENGTH:
        return f"{passwords.MIN_LENGTH} to {passwords.MAX_LENGTH} characters"
    return None if is_storable(password) else "only characters that can be stored"


def disable(ctx: AppContext, username: str) -> None:
    """Close an account and end its sessions; its messages stay.

    Raises:
        NotFoundError: there is no such user.
    """
    with writing(ctx.engine) as conn:
        user = users.find(conn, username)
        if user is None:
            raise NotFoundError(f"There is no user named {users.normalise(username)}.")
        users.disable(conn, user.id)
        ended = sessions.revoke_all(conn, user.id)
    ctx.bus.publish([SessionEnded(session_id) for session_id in ended])
    log.info("user_disabled", user_id=user.id, sessions=len(ended))


def list_all(ctx: AppContext) -> list[User]:
    """Return every account that is a person's, in ascending id."""
    with reading(ctx.engine) as conn:
        return [user for user in users.list_all(conn) if not user.is_probe]


def begin_probe(ctx: AppContext) -> tuple[list[tuple[int, str, str]], int]:
    """Make two throw-away accounts that only see each other, and a group of both.

    Returns:
        ([(user id, user name, password)], conversation id)
    """
    run = secrets.token_hex(4)
    made: list[tuple[int, str, str]] = []
    secrets_of = {f"probe-{run}-{letter}": secrets.token_urlsafe(18) for letter in "ab"}
    hashes = {name: passwords.hash_password(password) for name, password in secrets_of.items()}
    with writing(ctx.engine) as conn:
        for name, password in secrets_of.items():
            user_id = users.add(
                conn, username=name, display_name=f"Probe {name[-1].upper()}", password_hash=hashes[name], is_probe=True
            )
            made.append((user_id, name, password))
        group = conversations.create_group(conn, made[0][0], f"Probe {run}", [user_id for user_id, _, _ in made])
    return made, group


def end_probes(ctx: AppContext) -> int:
    """Remove every probe account with its sessions and conversations; return how many there were."""
    with writing(ctx.engine) as conn:
        ids: Sequence[int] = users.probe_ids(conn)
        rooms = [key for mine in conversations.memberships_of(conn, ids).values() for key in mine]
        conversations.delete(conn, rooms)
        users.delete(conn, ids)
    return len(ids)
