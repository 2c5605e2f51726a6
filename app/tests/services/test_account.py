"""What somebody does about their own account: seeing and ending where they are logged in."""

from __future__ import annotations

from uuid import uuid4

import pytest

from harness.people import PASSWORD
from hockey_hub_chat.errors import NotFoundError, TokenInvalidError
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services import account, auth
from hockey_hub_chat.services.auth import Tokens

from .conftest import Club


def is_in(club: Club, given: Tokens) -> bool:
    try:
        return auth.authenticate(club.ctx, given.access_token).session_id == given.principal.session_id
    except TokenInvalidError:
        return False


def assert_over(club: Club, given: Tokens) -> None:
    """Neither token of a session does anything any more."""
    assert not is_in(club, given)
    with pytest.raises(TokenInvalidError):
        auth.refresh(club.ctx, given.refresh_token)


def test_my_sessions_are_listed_newest_first_with_when_and_on_what(club: Club) -> None:
    club.add("ann"), club.add("bob")
    club.login("bob")
    began = club.now
    first = auth.login(club.ctx, "ann", PASSWORD, address="::1", user_agent="Old Phone/1.0 (x; <y>)")
    club.later(hours=1)
    second = auth.login(club.ctx, "ann", PASSWORD, address="::1", user_agent="Laptop")
    club.later(hours=1)
    auth.refresh(club.ctx, first.refresh_token)
    listed = account.list_sessions(club.ctx, second.principal)
    assert [one.id for one in listed] == [second.principal.session_id, first.principal.session_id]
    laptop, phone = listed
    assert (phone.user_agent, laptop.user_agent) == ("Old Phone/1.0 (x; <y>)", "Laptop")
    assert phone.created_at == began and phone.renewed_at == club.now and laptop.renewed_at is None
    assert laptop.expires_at == second.refresh_expires_at < phone.expires_at


def test_what_is_over_is_not_listed(club: Club) -> None:
    club.add("ann")
    club.login("ann")
    club.later(days=29)
    ended, mine = club.login("ann"), club.login("ann")
    auth.end_session(club.ctx, ended.principal.session_id)
    assert len(account.list_sessions(club.ctx, mine.principal)) == 2
    club.later(days=1)
    assert [one.id for one in account.list_sessions(club.ctx, mine.principal)] == [mine.principal.session_id]


def test_ending_one_ends_its_tokens_and_sockets_and_no_other(club: Club) -> None:
    club.add("ann")
    mine, lost, third = (club.login("ann") for _ in range(3))
    account.end_session(club.ctx, mine.principal, lost.principal.session_id)
    assert club.published == [SessionEnded(lost.principal.session_id)]
    assert_over(club, lost)
    assert is_in(club, mine) and is_in(club, third)


def test_an_unknown_an_ended_an_expired_and_a_foreign_session_answer_alike(club: Club) -> None:
    club.add("ann"), club.add("bob")
    expired = club.login("ann")
    club.later(days=30)
    mine, ended, foreign = club.login("ann"), club.login("ann"), club.login("bob")
    auth.end_session(club.ctx, ended.principal.session_id)
    club.published.clear()
    said = set()
    for session_id in (uuid4(), *(one.principal.session_id for one in (expired, ended, foreign))):
        with pytest.raises(NotFoundError) as caught:
            account.end_session(club.ctx, mine.principal, session_id)
        said.add(repr(caught.value.as_dict()))
    assert len(said) == 1
    assert is_in(club, foreign) and club.published == []


def test_ending_all_the_others_counts_those_that_were_not_over(club: Club) -> None:
    club.add("ann"), club.add("bob")
    club.login("ann")
    club.later(days=30)  # that one is over by itself
    ended, first, mine, second, foreign = (club.login(name) for name in ("ann", "ann", "ann", "ann", "bob"))
    auth.end_session(club.ctx, ended.principal.session_id)
    club.published.clear()
    assert account.end_other_sessions(club.ctx, mine.principal) == 2
    others = {one.principal.session_id for one in (first, second)}
    assert len(club.published) == 2
    assert {event.session_id for event in club.published if isinstance(event, SessionEnded)} == others
    assert_over(club, first)
    assert_over(club, second)
    assert is_in(club, mine) and is_in(club, foreign)
    assert account.end_other_sessions(club.ctx, mine.principal) == 0
    assert len(club.published) == 2
