"""The table of who may do what in clubs and teams, cell by cell; and ages."""

from __future__ import annotations

from datetime import date
from typing import get_args

import pytest

from hockey_hub_chat.services import policy

ROLES = [
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
#: One letter for each of ROLES, in that order: y may, n may not.
TABLE = {
    "create_club": "nnnnnnnynn",
    "see_club": "nyyyyynynn",
    "change_club_admins": "nnnnnnnynn",
    "create_team": "nnnnnynynn",
    "see_team": "nyyyyynynn",
    "change_team": "nnnnnynynn",
    "archive_team": "nnnnnynynn",
    "change_player": "nnnnyynynn",
    "change_guardian": "nnnnyynynn",
    "change_coach": "nnnnyynynn",
    "change_manager": "nnnnnynynn",
    "link_guardian": "nnnnnynynn",
    "see_birth_date": "nnnnnynyyy",
    "set_birth_date": "nnnnnynynn",
}


def test_every_role_and_every_action_is_in_the_table() -> None:
    assert set(ROLES) == set(get_args(policy.Role))
    assert set(TABLE) == set(get_args(policy.Action)) == set(policy.ALLOWED)


@pytest.mark.parametrize("action", TABLE)
def test_who_may(action: policy.Action) -> None:
    decided = {role: policy.may({role}, action) for role in get_args(policy.Role)}
    assert decided == {role: cell == "y" for role, cell in zip(ROLES, TABLE[action], strict=True)}


def test_several_roles_may_what_one_of_them_may() -> None:
    assert policy.may({"player", "manager"}, "change_player")
    assert not policy.may({"player", "coach", "other_club_admin"}, "change_player")
    assert not policy.may(set(), "see_team")


def test_every_refusal_has_its_sentence() -> None:
    assert set(policy.REFUSALS) == set(TABLE) - {"see_club", "see_team", "see_birth_date"}, "these hide instead"


@pytest.mark.parametrize(
    ("born", "today", "years"),
    [
        (date(2010, 6, 15), date(2026, 6, 14), 15),
        (date(2010, 6, 15), date(2026, 6, 15), 16),
        (date(2010, 12, 31), date(2026, 1, 1), 15),
        (date(2008, 2, 29), date(2026, 2, 28), 17),
        (date(2008, 2, 29), date(2026, 3, 1), 18),
        (date(2008, 2, 29), date(2028, 2, 29), 20),
        (date(2026, 1, 1), date(2026, 1, 1), 0),
    ],
)
def test_ages(born: date, today: date, years: int) -> None:
    assert policy.age(born, today) == years


def test_a_minor_is_known_to_be_under_eighteen() -> None:
    assert policy.is_minor(date(2008, 6, 15), date(2026, 6, 14))
    assert not policy.is_minor(date(2008, 6, 15), date(2026, 6, 15))
    assert not policy.is_minor(None, date(2026, 6, 15))
