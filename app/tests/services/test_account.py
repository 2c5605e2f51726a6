"""What somebody does about their own account: seeing and ending where they are logged in, taking another password."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import sqlalchemy as sa

from harness.people import PASSWORD
from hockey_hub_chat import passwords
from hockey_hub_chat.errors import (
    ChatError,
    InvalidCredentialsError,
    NotFoundError,
    RateLimitedError,
    TokenInvalidError,
    ValidationError,
    WrongPasswordError,
)
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.services import account, auth, people
from hockey_hub_chat.services.auth import Tokens
from hockey_hub_chat.storage import sessions, tables

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


# --- password --------------------------------------------------------------------------------------------------------

NEW = "another password of the tests"


def change(club: Club, given: Tokens, current: str = PASSWORD, new: str = NEW, *, address: str = "192.0.2.1") -> None:
    account.change_password(club.ctx, given.principal, current, new, address=address)


def can_log_in(club: Club, password: str, name: str = "ann") -> bool:
    try:
        auth.login(club.ctx, name, password, address=f"test {uuid4()}")
    except InvalidCredentialsError:
        return False
    return True


def meanwhile(monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
    """Let something happen once, while the next password is checked."""
    verify = passwords.verify_password

    def slowly(password_hash: str | None, password: str) -> bool:
        monkeypatch.setattr(passwords, "verify_password", verify)
        right = verify(password_hash, password)
        action()
        return right

    monkeypatch.setattr(passwords, "verify_password", slowly)


def test_a_changed_password_ends_all_other_sessions_and_keeps_this_one(club: Club) -> None:
    club.add("ann"), club.add("bob")
    first, mine, second, foreign = (club.login(name) for name in ("ann", "ann", "ann", "bob"))
    change(club, mine)
    assert can_log_in(club, NEW) and not can_log_in(club, PASSWORD)
    assert can_log_in(club, PASSWORD, "bob") and is_in(club, foreign)
    others = {one.principal.session_id for one in (first, second)}
    assert {event.session_id for event in club.published if isinstance(event, SessionEnded)} == others
    assert_over(club, first)
    assert_over(club, second)
    assert is_in(club, mine) and auth.refresh(club.ctx, mine.refresh_token).refresh_token


def test_a_wrong_current_password_changes_and_ends_nothing(club: Club) -> None:
    club.add("ann")
    other, mine = club.login("ann"), club.login("ann")
    for wrong in ("wrong", PASSWORD + " ", NEW, ""):
        with pytest.raises(WrongPasswordError):
            change(club, mine, wrong, address="192.0.2.7")
    assert is_in(club, mine) and is_in(club, other) and club.published == []
    assert can_log_in(club, PASSWORD) and not can_log_in(club, NEW)


@pytest.mark.parametrize(
    ("new", "rule"),
    [
        ("", "8 to 1024 characters"),
        ("x" * 7, "8 to 1024 characters"),
        ("x" * 1025, "8 to 1024 characters"),
        ("a\x00bcdefgh", "only characters that can be stored"),
        ("a\ud800bcdefgh", "only characters that can be stored"),
    ],
)
def test_a_new_password_that_breaks_a_rule_is_refused_by_that_rule(club: Club, new: str, rule: str) -> None:
    club.add("ann")
    mine = club.login("ann")
    with pytest.raises(ValidationError) as caught:
        change(club, mine, new=new)
    assert caught.value.details == {"fields": {"new": rule}} and rule in caught.value.message
    assert can_log_in(club, PASSWORD)
    with pytest.raises(ValidationError) as caught:
        people.add(club.ctx, "zoe", "Zoe", new)
    assert caught.value.details == {"fields": {"password": rule}}, "the same rules as for a new account"


@pytest.mark.parametrize("new", ["x" * 8, "é" * 1024, "pass 🏒 word"])
def test_what_just_fits_is_taken(club: Club, new: str) -> None:
    club.add("ann")
    change(club, club.login("ann"), new=new)
    assert can_log_in(club, new)


def test_tries_are_counted_together_with_those_of_logging_in(club: Club) -> None:
    club.add("ann"), club.add("bob")
    mine, bob = club.login("ann"), club.login("bob")  # one try of five from this address
    for _ in range(2):
        with pytest.raises(InvalidCredentialsError):
            auth.login(club.ctx, "ann", "wrong", address="192.0.2.1")
        with pytest.raises(WrongPasswordError):
            change(club, mine, "wrong")
    for refused in (lambda: change(club, mine), lambda: club.login("ann")):
        with pytest.raises(RateLimitedError) as caught:
            refused()
        assert caught.value.details["retry_after_ms"] > 0
    change(club, bob)
    change(club, mine, address="192.0.2.2")


def test_a_rule_broken_costs_no_try(club: Club) -> None:
    club.add("ann")
    mine = club.login("ann")
    for _ in range(6):
        with pytest.raises(ValidationError):
            change(club, mine, new="short")
    change(club, mine)


def test_of_two_changes_at_once_one_counts(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    club.add("ann")
    mine, other = club.login("ann"), club.login("ann")
    meanwhile(monkeypatch, lambda: change(club, other, new="the quicker password"))
    with pytest.raises(WrongPasswordError):
        change(club, mine)
    assert can_log_in(club, "the quicker password") and not can_log_in(club, NEW)
    assert is_in(club, other) and not is_in(club, mine)


@pytest.mark.parametrize(("how", "error"), [("session", TokenInvalidError), ("account", WrongPasswordError)])
def test_who_was_put_out_meanwhile_changes_nothing(
    club: Club, monkeypatch: pytest.MonkeyPatch, how: str, error: type[ChatError]
) -> None:
    club.add("ann")
    thief, mine = club.login("ann"), club.login("ann")
    puts_out: dict[str, Callable[[], object]] = {
        "session": lambda: account.end_session(club.ctx, mine.principal, thief.principal.session_id),
        "account": lambda: people.disable(club.ctx, "ann"),
    }
    meanwhile(monkeypatch, puts_out[how])
    with pytest.raises(error):
        change(club, thief)
    assert not can_log_in(club, NEW)
    assert is_in(club, mine) == (how == "session")


@pytest.mark.parametrize("how", ["password", "account"])
def test_no_session_begins_with_a_password_that_was_changed_meanwhile(
    club: Club, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    club.add("ann")
    mine = club.login("ann")
    ends: dict[str, Callable[[], object]] = {
        "password": lambda: change(club, mine),
        "account": lambda: people.disable(club.ctx, "ann"),
    }
    meanwhile(monkeypatch, ends[how])
    with pytest.raises(InvalidCredentialsError):
        auth.login(club.ctx, "ann", PASSWORD, address="192.0.2.66")
    assert [one.id for one in account.list_sessions(club.ctx, mine.principal)] == (
        [mine.principal.session_id] if how == "password" else []
    )


# --- what becomes of ended sessions ----------------------------------------------------------------------------------


def kept(club: Club) -> int:
    """Return how many sessions there are, over or not."""
    with club.ctx.engine.connect() as conn:
        found: int = conn.execute(sa.select(sa.func.count()).select_from(tables.sessions)).scalar_one()
        return found


def fill(club: Club, user_id: int, count: int) -> None:
    """Give somebody sessions that ran out two months ago."""
    rows = [
        {
            "id": uuid4(),
            "user_id": user_id,
            "refresh_hash": uuid4().bytes * 2,
            "created_at": club.now - timedelta(days=90),
            "expires_at": club.now - timedelta(days=60),
        }
        for _ in range(count)
    ]
    with club.ctx.engine.begin() as conn:
        conn.execute(sa.insert(tables.sessions), rows)


def test_what_is_over_is_removed_after_thirty_days_and_not_before(club: Club) -> None:
    club.add("ann")
    mine, ended = club.login("ann"), club.login("ann")
    account.end_session(club.ctx, mine.principal, ended.principal.session_id)
    club.later(days=30)  # the other one runs out by itself
    assert account.prune_sessions(club.ctx) == 0 and kept(club) == 2
    club.later(seconds=1)
    assert account.prune_sessions(club.ctx) == 1 and kept(club) == 1, "the one that was ended"
    club.later(days=30, seconds=-1)
    assert account.prune_sessions(club.ctx) == 0 and kept(club) == 1
    live = club.login("ann")
    club.later(seconds=1)
    assert account.prune_sessions(club.ctx) == 1 and kept(club) == 1
    assert is_in(club, live)
    assert account.prune_sessions(club.ctx) == 0 and kept(club) == 1


def test_a_copied_token_of_an_ended_session_stays_refused_before_and_after(club: Club) -> None:
    club.add("ann")
    given = club.login("ann")
    auth.refresh(club.ctx, given.refresh_token)
    club.later(seconds=11)
    for days in (0, 29, 32):  # ended at once; it would have run out after 30
        club.later(days=days)
        account.prune_sessions(club.ctx)
        with pytest.raises(TokenInvalidError):
            auth.refresh(club.ctx, given.refresh_token)
    assert kept(club) == 0


def test_many_are_removed_in_bounded_batches_until_none_is_left(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    user_id = club.add("ann")
    live = club.login("ann")
    fill(club, user_id, 2500)
    batches: list[int] = []
    prune = sessions.prune

    def counted(*args: Any) -> int:
        batches.append(prune(*args))
        return batches[-1]

    monkeypatch.setattr(sessions, "prune", counted)
    assert account.prune_sessions(club.ctx) == 2500
    assert batches == [1000, 1000, 500]
    assert kept(club) == 1 and is_in(club, live)


@pytest.mark.parametrize("engine", ["postgresql"], indirect=True)  # SQLite has one writer at a time
def test_pruning_waits_for_nobody(club: Club) -> None:
    fill(club, club.add("ann"), 2)
    with club.ctx.engine.begin() as conn:
        conn.execute(sa.select(tables.sessions.c.id).limit(1).with_for_update())
        assert account.prune_sessions(club.ctx) == 1 and kept(club) == 1
    assert account.prune_sessions(club.ctx) == 1 and kept(club) == 0
