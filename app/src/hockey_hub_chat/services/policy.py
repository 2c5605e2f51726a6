"""Who may do what in clubs and teams: one table, and the ages that rules go by. Pure; asks no database.

A service finds out in which roles somebody stands to a thing (often several at once) and asks ``may``. Whoever may not even
see the thing is answered as if it did not exist; that is the service's part.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date
from typing import Literal, get_args

from hockey_hub_chat.storage.teams import TeamRole

#: ``oneself`` and ``own_guardian`` are how somebody stands to a person, the others how they stand to a team or its club.
#: ``other_club_admin`` administers a club, but not this one: that is worth nothing here, and has a column to say so.
Role = Literal[
    "outsider",
    "player",
    "guardian",
    "coach",
    "manager",
    "club_admin",
    "other_club_admin",
    "site_admin",
    "oneself",
    "own_guardian",
]
Action = Literal[
    "create_club",
    "see_club",
    "change_club_admins",
    "create_team",
    "see_team",
    "change_team",
    "archive_team",
    "change_player",
    "change_guardian",
    "change_coach",
    "change_manager",
    "link_guardian",
    "see_birth_date",
    "set_birth_date",
]

ADULT_AGE = 18

_ADMINS: frozenset[Role] = frozenset({"club_admin", "site_admin"})
_INSIDE: frozenset[Role] = _ADMINS | frozenset(get_args(TeamRole))

#: Who may. Whoever is not named may not.
ALLOWED: Mapping[Action, frozenset[Role]] = {
    "create_club": frozenset({"site_admin"}),
    "see_club": _INSIDE,
    "change_club_admins": frozenset({"site_admin"}),
    "create_team": _ADMINS,
    "see_team": _INSIDE,
    "change_team": _ADMINS,
    "archive_team": _ADMINS,
    "change_player": _ADMINS | {"manager"},
    "change_guardian": _ADMINS | {"manager"},
    "change_coach": _ADMINS | {"manager"},
    "change_manager": _ADMINS,
    "link_guardian": _ADMINS,
    "see_birth_date": _ADMINS | {"oneself", "own_guardian"},
    "set_birth_date": _ADMINS,  # not oneself: a child would be as old as it wants
}

#: What somebody is told who may see the thing, but not do this.
REFUSALS: Mapping[Action, str] = {
    "create_club": "Only an administrator of the site opens clubs.",
    "change_club_admins": "Only an administrator of the site says who administers a club.",
    "create_team": "Only an administrator of the club makes teams.",
    "change_team": "Only an administrator of the club changes its teams.",
    "archive_team": "Only an administrator of the club archives its teams.",
    "change_player": "Only a manager of the team, or an administrator of the club, changes who plays in it.",
    "change_guardian": "Only a manager of the team, or an administrator of the club, changes who is a guardian in it.",
    "change_coach": "Only a manager of the team, or an administrator of the club, changes who coaches it.",
    "change_manager": "Only an administrator of the club changes who manages its teams.",
    "link_guardian": "Only an administrator of a club the child is in says who its guardians are.",
    "set_birth_date": "Only an administrator of a club the person is in sets the birth date.",
}


def may(roles: Iterable[Role], action: Action) -> bool:
    """Whether one of the roles is enough for the action."""
    return not ALLOWED[action].isdisjoint(roles)


def age(birth_date: date, today: date) -> int:
    """Return the completed years. Who was born on 29 February completes one on 1 March where there is no such day."""
    return today.year - birth_date.year - ((today.month, today.day) < (birth_date.month, birth_date.day))


def is_minor(birth_date: date | None, today: date) -> bool:
    """Whether somebody is known to be under ``ADULT_AGE``; with an unknown birth date they are not known to be."""
    return birth_date is not None and age(birth_date, today) < ADULT_AGE
