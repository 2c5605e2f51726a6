"""The door behind the handshake: who is let in, and what happens when that changes at the last moment."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterator, Mapping
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from hockey_hub_chat import compose
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import UnavailableError
from hockey_hub_chat.realtime.bus import SessionEnded
from hockey_hub_chat.realtime.source import Gatherer
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import sessions
from hockey_hub_chat.storage.tables import UTC
from hockey_hub_chat.web import socket as door
from hockey_hub_chat.web.socket import MAX_SOCKETS_PER_USER, Door
from realtime.fakes import Peer, settle


class Visitor(Peer):
    """Somebody at the door, with a token or without."""

    def __init__(self, ctx: AppContext, token: str | None) -> None:
        ours, self.sock = socket.socketpair()
        self.sock.setblocking(False)
        ours.setblocking(False)
        self.received, self.writes, self.reading, self.ended = bytearray(), [], True, False
        Door(ctx).open(ours.detach(), token)

    def kinds(self) -> list[str]:
        """The types of the frames received."""
        return [frame["type"] for frame in self.frames]


@pytest.fixture
def ctx(tmp_path: Path) -> Iterator[AppContext]:
    """The embedded application's parts, running; sessions are whatever the test says."""
    made = compose.build(Settings(data_dir=tmp_path, service_name="test", max_connections_per_worker=60))
    made.reactor.start()
    yield made
    compose.stop(made)


def answering(ctx: AppContext, live: bool, *, first: object = None) -> str:
    """Return a good token; the database says whether its session counts, after ``first`` has happened."""
    session_id, now = uuid4(), datetime.now(UTC)
    later = now + timedelta(minutes=5)

    def ask(ids: Collection[UUID]) -> Mapping[UUID, sessions.Session]:
        if callable(first):
            first(session_id)
        found = sessions.Session(session_id, 7, "ann", False, b"", None, None, later, None if live else now, None)
        return {session_id: found}

    ctx.sessions = Gatherer(ask)
    return ctx.keys.sign(user_id=7, session_id=session_id, now=now, expires_at=later)


def test_who_is_logged_in_is_greeted(ctx: AppContext) -> None:
    visitor = Visitor(ctx, answering(ctx, live=True))
    settle(lambda: visitor.kinds() == ["hello"], "a greeting")
    assert ctx.hub.size == 1
    visitor.leave()
    settle(lambda: ctx.hub.size == 0 and ctx.reactor.size == 0, "nothing left behind")


@pytest.mark.parametrize("token", [None, "", "garbage"])
def test_who_is_not_hears_why_and_leaves_nothing_behind(ctx: AppContext, token: str | None) -> None:
    visitor = Visitor(ctx, token)
    settle(lambda: visitor.close_code == 4401, "4401")
    assert visitor.kinds() == ["error"] and ctx.hub.size == 0
    visitor.leave()
    settle(lambda: ctx.reactor.size == 0, "gone")


def test_a_session_that_is_over_is_refused(ctx: AppContext) -> None:
    visitor = Visitor(ctx, answering(ctx, live=False))
    settle(lambda: visitor.close_code == 4401, "4401")
    assert visitor.frames[0]["code"] == "token_invalid" and ctx.hub.size == 0


def test_a_session_that_ends_while_it_is_looked_at_is_not_greeted(ctx: AppContext) -> None:
    token = answering(ctx, live=True, first=lambda key: ctx.hub.on_events([SessionEnded(key)]))
    visitor = Visitor(ctx, token)
    settle(lambda: visitor.close_code == 4403, "4403")
    assert visitor.kinds() == [] and ctx.hub.size == 0


def test_a_database_that_is_away_means_later(ctx: AppContext) -> None:
    def away(key: UUID) -> None:
        raise UnavailableError("away")

    visitor = Visitor(ctx, answering(ctx, live=True, first=away))
    settle(lambda: visitor.close_code == 1013, "1013")
    assert visitor.frames[0]["retryable"] and ctx.hub.size == 0


def test_one_persons_sockets_are_bounded(ctx: AppContext) -> None:
    token = answering(ctx, live=True)
    visitors = [Visitor(ctx, token) for _ in range(MAX_SOCKETS_PER_USER + 1)]
    settle(lambda: visitors[-1].close_code == 1013, "1013")
    assert all(visitor.close_code is None for visitor in visitors[:-1])
    assert ctx.hub.size == MAX_SOCKETS_PER_USER


def test_who_may_not_log_in_cannot_take_all_descriptors(ctx: AppContext, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(door, "MAX_TURNED_AWAY", 3)
    strangers = [Visitor(ctx, None) for _ in range(70)]
    assert ctx.reactor.size == 63
    settle(lambda: strangers[62].close_code == 4401 and strangers[63].read() == b"", "answers, and cuts")
    assert strangers[63].ended and strangers[63].close_code is None


def test_a_worker_that_leaves_sends_newcomers_elsewhere(ctx: AppContext) -> None:
    token = answering(ctx, live=True)
    compose.begin_drain(ctx)
    visitor = Visitor(ctx, token)
    settle(lambda: visitor.close_code == 1012, "1012")
    assert visitor.kinds() == ["drain"]
