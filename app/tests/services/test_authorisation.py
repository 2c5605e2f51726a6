"""Who may do what in a conversation, as a matrix; and what the others are told."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from hockey_hub_chat.errors import (
    ChatError,
    ConflictError,
    NotAMemberError,
    NotFoundError,
    PermissionDeniedError,
    ValidationError,
)
from hockey_hub_chat.realtime.bus import MembershipChanged
from hockey_hub_chat.services import conversations, messages, people
from hockey_hub_chat.services.auth import Principal
from hockey_hub_chat.services.context import AppContext

from .conftest import Club

WHO = ("creator", "member", "left", "stranger", "admin member", "admin stranger")
ACTIONS: dict[str, dict[str, type[ChatError] | None]] = {
    # action: who is refused, and how; everybody else may
    "see": {"left": NotAMemberError, "stranger": NotAMemberError, "admin stranger": NotAMemberError},
    "read history": {"left": NotAMemberError, "stranger": NotAMemberError, "admin stranger": NotAMemberError},
    "mark read": {"left": NotAMemberError, "stranger": NotAMemberError, "admin stranger": NotAMemberError},
    "invite": {"left": NotAMemberError, "stranger": NotAMemberError, "admin stranger": NotAMemberError},
    "remove another": {
        "member": PermissionDeniedError,
        "left": NotAMemberError,
        "stranger": NotAMemberError,
        "admin stranger": NotAMemberError,
    },
    "leave": {"left": NotAMemberError, "stranger": NotAMemberError, "admin stranger": NotAMemberError},
}


def actions(ctx: AppContext, room: int, victim: int, guest: int) -> dict[str, Callable[[Principal], object]]:
    """Return what can be tried in a group."""
    return {
        "see": lambda me: conversations.get(ctx, me, room),
        "read history": lambda me: messages.history(ctx, me, room),
        "mark read": lambda me: messages.mark_read(ctx, me, room, 0),
        "invite": lambda me: conversations.invite(ctx, me, room, guest),
        "remove another": lambda me: conversations.remove(ctx, me, room, victim),
        "leave": lambda me: conversations.remove(ctx, me, room, me.user_id),
    }


@pytest.mark.parametrize("action", ACTIONS)
def test_matrix_of_a_group(club: Club, action: str) -> None:
    persons = {who: club.who(who.replace(" ", "-"), is_admin=who.startswith("admin")) for who in WHO}
    inside = [persons[who].user_id for who in ("member", "left", "admin member")]
    for who in WHO:
        victim, guest = club.add(f"victim-{who.replace(' ', '-')}"), club.add(f"guest-{who.replace(' ', '-')}")
        room = conversations.open_group(club.ctx, persons["creator"], [*inside, victim], "room").id
        conversations.remove(club.ctx, persons["creator"], room, persons["left"].user_id)
        acts = actions(club.ctx, room, victim, guest)
        refused = ACTIONS[action].get(who)
        if refused is None:
            acts[action](persons[who])
        else:
            with pytest.raises(refused) as caught:
                acts[action](persons[who])
            assert type(caught.value) is refused, f"{who} may not {action}: {caught.value!r}"


def test_an_unknown_conversation_and_a_foreign_one_answer_alike(club: Club) -> None:
    ann, eve = club.who("ann"), club.who("eve")
    room = conversations.open_group(club.ctx, ann, [], "mine").id
    said = set()
    for key in (room, room + 1):
        with pytest.raises(NotAMemberError) as caught:
            conversations.get(club.ctx, eve, key)
        said.add(repr(caught.value.as_dict()))
    assert len(said) == 1


def test_a_direct_conversation_stays_between_two(club: Club) -> None:
    ann, bob = club.who("ann"), club.who("bob", is_admin=True)
    eve = club.add("eve")
    made, is_new = conversations.open_direct(club.ctx, ann, [ann.user_id, bob.user_id])
    assert is_new and conversations.open_direct(club.ctx, bob, [ann.user_id]) == (made, False)
    for me in (ann, bob):
        with pytest.raises(PermissionDeniedError):
            conversations.invite(club.ctx, me, made.id, eve)
        for victim in (ann.user_id, bob.user_id):
            with pytest.raises(PermissionDeniedError):
                conversations.remove(club.ctx, me, made.id, victim)


def test_a_direct_conversation_is_with_exactly_one_other(club: Club) -> None:
    ann = club.who("ann")
    for ids in ([], [ann.user_id], [ann.user_id, club.add("bob"), club.add("eve")]):
        with pytest.raises(ValidationError):
            conversations.open_direct(club.ctx, ann, ids)


def test_nobody_writes_to_the_missing_the_disabled_or_across_probes(club: Club) -> None:
    ann, probe = club.who("ann"), club.who("probe", is_probe=True)
    gone = club.add("gone")
    people.disable(club.ctx, "gone")
    bob, other_probe = club.add("bob"), club.add("probe2", is_probe=True)
    room = conversations.open_group(club.ctx, ann, [bob], "room").id
    for me, wanted in ((ann, 404), (ann, gone), (ann, other_probe), (probe, bob)):
        with pytest.raises(NotFoundError) as caught:
            conversations.open_direct(club.ctx, me, [wanted])
        assert caught.value.details == {"user_ids": [wanted]}
        with pytest.raises(NotFoundError):
            conversations.open_group(club.ctx, me, [wanted], "x")
    with pytest.raises(NotFoundError):
        conversations.invite(club.ctx, ann, room, other_probe)
    conversations.open_direct(club.ctx, probe, [other_probe])
    assert [user.username for user in people.search(club.ctx, probe, "", 10)] == ["probe2"]
    assert [user.username for user in people.search(club.ctx, ann, "", 10)] == ["bob"]


def test_comings_and_goings_are_published(club: Club) -> None:
    ann, bob = club.who("ann"), club.who("bob")
    eve = club.add("eve")
    room = conversations.open_group(club.ctx, ann, [bob.user_id], "room").id
    assert club.published == [MembershipChanged(room, who, "joined") for who in (ann.user_id, bob.user_id)]
    club.published.clear()
    after, joined = conversations.invite(club.ctx, bob, room, eve)
    assert joined and len(after.members) == 3
    assert conversations.invite(club.ctx, bob, room, eve)[1] is False
    conversations.remove(club.ctx, ann, room, eve)
    with pytest.raises(NotFoundError):
        conversations.remove(club.ctx, ann, room, eve)
    assert club.published == [MembershipChanged(room, eve, "joined"), MembershipChanged(room, eve, "left")]


def test_a_full_group_takes_nobody(club: Club, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conversations, "MAX_MEMBERS", 2)
    ann, bob, eve = club.who("ann"), club.add("bob"), club.add("eve")
    with pytest.raises(ValidationError):
        conversations.open_group(club.ctx, ann, [bob, eve], "x")
    room = conversations.open_group(club.ctx, ann, [bob], "x").id
    with pytest.raises(ConflictError):
        conversations.invite(club.ctx, ann, room, eve)
    assert conversations.invite(club.ctx, ann, room, bob)[1] is False


def test_probes_leave_nothing_behind(club: Club) -> None:
    ann = club.who("ann")
    conversations.open_group(club.ctx, ann, [], "kept")
    made, _ = people.begin_probe(club.ctx)
    assert len({password for _, _, password in made}) == 2
    assert [user.username for user in people.list_all(club.ctx)] == ["ann"]
    assert people.end_probes(club.ctx) == 2
    assert people.end_probes(club.ctx) == 0
    assert [one.name for one in conversations.list_mine(club.ctx, ann)] == ["kept"]


@pytest.mark.parametrize(
    ("name", "shown", "word", "field"),
    [
        ("a b", "Ann", "long enough", "username"),
        ("-ann", "Ann", "long enough", "username"),
        ("x" * 65, "Ann", "long enough", "username"),
        ("änn", "Ann", "long enough", "username"),
        ("ann", "  ", "long enough", "display_name"),
        ("ann", "a\x00", "long enough", "display_name"),
        ("ann", "Ann", "short", "password"),
        ("ann", "Ann", "x" * 1025, "password"),
    ],
)
def test_accounts_that_cannot_be(club: Club, name: str, shown: str, word: str, field: str) -> None:
    with pytest.raises(ValidationError) as caught:
        people.add(club.ctx, name, shown, word)
    assert list(caught.value.details["fields"]) == [field]


def test_a_name_is_taken_however_it_is_written(club: Club) -> None:
    people.add(club.ctx, "Ann.Lee", "Ann", "long enough")
    with pytest.raises(ConflictError):
        people.add(club.ctx, "ann.lee", "Ann", "long enough")
