"""Who is whose guardian, and how old people are.

Rules that live here (who may do what is ``services.policy``):

- An administrator of a club in which the child is in a team decides, and the administrator of the site. To all others every
  person answers alike, whether there is such a one or not.
- Nobody is their own guardian, nor the guardian of their own guardian.
"""

from __future__ import annotations

from datetime import date

import sqlalchemy as sa
import structlog

from hockey_hub_chat.errors import ConflictError, NotFoundError, PermissionDeniedError, ValidationError
from hockey_hub_chat.services import policy
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.services.policy import Action, Role
from hockey_hub_chat.services.teams import check_person
from hockey_hub_chat.storage import teams
from hockey_hub_chat.storage.engine import writing

log = structlog.get_logger(__name__)

MAX_GUARDIANS = 10
MAX_CHILDREN = 20
EARLIEST_BIRTH = date(1900, 1, 1)


def link(ctx: AppContext, principal: Principal, guardian_id: int, child_id: int) -> bool:
    """Make somebody a child's guardian; return False when they were already.

    Raises:
        PermissionDeniedError: not one who decides about this child.
        ValidationError: nobody is their own guardian.
        NotFoundError: there is no such person.
        ConflictError: the child is the guardian's guardian, or one of them has too many.
    """
    with writing(ctx.engine) as conn:
        _check(conn, principal, child_id, "link_guardian")
        if guardian_id == child_id:
            raise ValidationError(
                "Nobody is their own guardian.", {"fields": {"guardian_id": "must be another person than the child"}}
            )
        teams.lock_people(conn, [guardian_id, child_id])
        for person in (guardian_id, child_id):
            check_person(conn, person)
        guardians, children = teams.guardians_of(conn, child_id), teams.children_of(conn, guardian_id)
        if teams.is_guardian(conn, child_id, guardian_id):
            raise ConflictError("The child is this person's guardian. End that first.")
        if guardian_id not in guardians and len(guardians) >= MAX_GUARDIANS:
            raise ConflictError(f"A child has at most {MAX_GUARDIANS} guardians.", {"max": MAX_GUARDIANS})
        if child_id not in children and len(children) >= MAX_CHILDREN:
            raise ConflictError(f"Somebody is the guardian of at most {MAX_CHILDREN} children.", {"max": MAX_CHILDREN})
        is_new = teams.link(conn, guardian_id, child_id)
    if is_new:
        log.info("guardian_linked", guardian_id=guardian_id, child_id=child_id, by=principal.user_id)
    return is_new


def unlink(ctx: AppContext, principal: Principal, guardian_id: int, child_id: int) -> None:
    """End a guardianship.

    Raises:
        PermissionDeniedError: not one who decides about this child.
        NotFoundError: there is none.
    """
    with writing(ctx.engine) as conn:
        _check(conn, principal, child_id, "link_guardian")
        if not teams.unlink(conn, guardian_id, child_id):
            raise NotFoundError("This person is not the child's guardian.")
    log.info("guardian_unlinked", guardian_id=guardian_id, child_id=child_id, by=principal.user_id)


def set_birth_date(ctx: AppContext, principal: Principal, user_id: int, birth_date: date | None) -> None:
    """Set a birth date, or forget it with None.

    Raises:
        PermissionDeniedError: not one who decides about this person.
        NotFoundError: there is no such person.
        ValidationError: in the future, or before 1900.
    """
    with writing(ctx.engine) as conn:
        _check(conn, principal, user_id, "set_birth_date")
        check_person(conn, user_id)
        if birth_date is not None and not EARLIEST_BIRTH <= birth_date <= ctx.clock().date():
            raise ValidationError(
                "This is no birth date. Give one between 1900 and today.",
                {"fields": {"birth_date": "must lie between 1900-01-01 and today"}},
            )
        teams.set_birth_date(conn, user_id, birth_date)
    log.info("birth_date_set", user_id=user_id, by=principal.user_id)  # not the date: logs are read by others


def _check(conn: sa.Connection, principal: Principal, person_id: int, action: Action) -> None:
    roles: set[Role] = {"site_admin"} if principal.is_admin else set()
    if teams.administers_club_of(conn, principal.user_id, person_id):
        roles.add("club_admin")
    if not policy.may(roles or {"outsider"}, action):
        raise PermissionDeniedError(policy.REFUSALS[action])
