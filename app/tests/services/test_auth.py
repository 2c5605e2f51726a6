"""Sessions: who gets in, who stays in, and what ends it."""

from __future__ import annotations

import threading

import pytest
import sqlalchemy as sa

from harness.people import PASSWORD
from hockey_hub_chat.errors import (
    AuthenticationError,
    InvalidCredentialsError,
    RateLimitedError,
    TokenExpiredError,
    TokenInvalidError,
)
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services import auth, people
from hockey_hub_chat.services.auth import Tokens
from hockey_hub_chat.storage import tables

from .conftest import Club


def refresh(club: Club, given: Tokens) -> Tokens:
    return auth.refresh(club.ctx, given.refresh_token)


def is_in(club: Club, given: Tokens) -> bool:
    try:
        return auth.authenticate(club.ctx, given.access_token).session_id == given.principal.session_id
    except TokenInvalidError:
        return False


def test_logging_in(club: Club) -> None:
    key = club.add("ann", is_admin=True)
    given = auth.login(club.ctx, " ANN ", PASSWORD, address="::1", user_agent="a\x00b" * 500)
    principal = auth.authenticate(club.ctx, given.access_token)
    assert (principal.user_id, principal.username, principal.is_admin) == (key, "ann", True)
    assert principal == given.principal
    with club.ctx.engine.connect() as conn:
        row = conn.execute(sa.select(tables.sessions)).one()
    assert len(row.user_agent) == 300
    assert given.refresh_token is not None and given.refresh_token.encode() not in row.refresh_hash


def test_wrong_and_unknown_and_disabled_answer_alike(club: Club) -> None:
    club.add("ann")
    club.add("gone")
    people.disable(club.ctx, "gone")
    said = set()
    for name, word in (("ann", "wrong"), ("nobody", PASSWORD), ("gone", PASSWORD), ("", "")):
        with pytest.raises(InvalidCredentialsError) as caught:
            auth.login(club.ctx, name, word, address="::1")
        said.add(caught.value.message)
    assert len(said) == 1


def test_tries_are_limited_for_each_account_and_address(club: Club) -> None:
    club.add("ann")
    for _ in range(5):
        with pytest.raises(InvalidCredentialsError):
            auth.login(club.ctx, "ann", "wrong", address="192.0.2.9")
    with pytest.raises(RateLimitedError):
        auth.login(club.ctx, "Ann ", PASSWORD, address="192.0.2.9")
    auth.login(club.ctx, "ann", PASSWORD, address="192.0.2.10")


def test_an_access_token_ends_and_is_renewed(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    club.later(minutes=10)
    with pytest.raises(TokenExpiredError):
        auth.authenticate(club.ctx, given.access_token)
    renewed = refresh(club, given)
    assert renewed.refresh_token not in (None, given.refresh_token)
    assert is_in(club, renewed)
    assert renewed.refresh_expires_at > given.refresh_expires_at, "who comes back stays in"


def test_a_session_nobody_renews_ends(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    club.later(days=30)
    with pytest.raises(TokenInvalidError):
        refresh(club, given)


def test_two_tabs_that_renew_at_once_stay_in(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    first = refresh(club, given)
    club.later(seconds=9.9)
    second = refresh(club, given)
    assert second.refresh_token is None, "the other tab's new token stays in force"
    assert is_in(club, second)
    third = refresh(club, first)
    assert third.refresh_token is not None and is_in(club, third)
    assert club.published == []


def test_truly_at_once(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    barrier = threading.Barrier(5)
    results: list[Tokens] = []

    def renew() -> None:
        barrier.wait()
        results.append(refresh(club, given))

    threads = [threading.Thread(target=renew) for _ in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 5
    assert sum(result.refresh_token is not None for result in results) == 1
    assert all(is_in(club, result) for result in results)


def test_reuse_after_the_grace_ends_the_session(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    renewed = refresh(club, given)
    club.later(seconds=10.1)
    with pytest.raises(TokenInvalidError):
        refresh(club, given)
    assert club.published == [SessionEnded(given.principal.session_id)]
    assert not is_in(club, renewed)
    with pytest.raises(TokenInvalidError):
        refresh(club, renewed)


def test_reuse_of_a_token_two_generations_old_ends_it_at_once(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    newest = refresh(club, refresh(club, given))
    with pytest.raises(TokenInvalidError):
        refresh(club, given)
    assert not is_in(club, newest)


def test_logging_out_by_either_token(club: Club) -> None:
    club.add("ann")
    for by_access in (True, False):
        mine, other = club.login("ann"), club.login("ann")
        auth.logout(
            club.ctx,
            access_token=mine.access_token if by_access else None,
            refresh_token=None if by_access else mine.refresh_token,
        )
        assert not is_in(club, mine) and is_in(club, other)
        assert club.published.pop() == SessionEnded(mine.principal.session_id) and not club.published
        auth.logout(club.ctx, access_token=mine.access_token, refresh_token=mine.refresh_token)
        assert not club.published, "it had ended already"


def test_logging_out_with_an_expired_access_token(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    club.later(hours=1)
    auth.logout(club.ctx, access_token=given.access_token, refresh_token=given.refresh_token)
    with pytest.raises(TokenInvalidError):
        refresh(club, given)


def test_nobody_logs_out_a_session_by_guessing(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    from hockey_hub_chat import tokens

    forged = tokens.new_refresh_token(given.principal.session_id)
    auth.logout(club.ctx, access_token="x.y.z", refresh_token=forged.text)
    auth.logout(club.ctx, access_token=None, refresh_token=None)
    assert is_in(club, given)


def test_no_token_and_nonsense(club: Club) -> None:
    for nothing in (None, ""):
        with pytest.raises(AuthenticationError):
            auth.authenticate(club.ctx, nothing)
        with pytest.raises(AuthenticationError):
            auth.refresh(club.ctx, nothing)
    for nonsense in ("x", "a.b.c"):
        with pytest.raises(TokenInvalidError):
            auth.authenticate(club.ctx, nonsense)
        with pytest.raises(TokenInvalidError):
            auth.refresh(club.ctx, nonsense)


def test_disabling_ends_every_session(club: Club) -> None:
    club.add("ann")
    given = [club.login("ann"), club.login("ann")]
    people.disable(club.ctx, "ANN")
    assert {event.session_id for event in club.published if isinstance(event, SessionEnded)} == {
        one.principal.session_id for one in given
    }
    assert not any(is_in(club, one) for one in given)
