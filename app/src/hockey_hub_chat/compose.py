"""The composition root: decides which database, bus and limits there are, and joins them. Knows no HTTP."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from uuid import UUID

import sqlalchemy as sa

from hockey_hub_chat import tokens
from hockey_hub_chat.config import Settings
from hockey_hub_chat.errors import ChatError
from hockey_hub_chat.events import CLOSE_RESTART, message_json
from hockey_hub_chat.realtime.bus import Bus, MemoryBus, MessageStored, OneWayBus, RedisBus
from hockey_hub_chat.realtime.hub import Hub
from hockey_hub_chat.realtime.limits import Limits, MemoryLimits, RedisLimits
from hockey_hub_chat.realtime.reactor import Reactor
from hockey_hub_chat.realtime.redis_client import make_client
from hockey_hub_chat.realtime.source import Gatherer, HubSource
from hockey_hub_chat.realtime.writer import Writer
from hockey_hub_chat.services.admission import MessageAdmission
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import conversations, messages, sessions
from hockey_hub_chat.storage.appender import Appender
from hockey_hub_chat.storage.engine import connector, is_conflict, is_transient, make_engine, reading
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage
from hockey_hub_chat.storage.tables import UTC

__all__ = ["AppContext", "build"]

#: A limit that cannot be asked within this time is counted in process.
_LIMIT_TIMEOUT_SECONDS = 0.25
#: How long the writer waits for answers to leave before it commits a few messages.
BREATH_SECONDS = 0.001


def build(settings: Settings, *, with_realtime: bool = True) -> AppContext:
    """Return the parts of one process, joined but not started.

    Args:
        with_realtime: False for the command line: events are told to the workers, and nothing is heard or counted.

    Raises:
        ConfigError: a key, an address or a directory cannot be used.
    """
    engine = make_engine(settings)
    use_redis = bool(settings.redis_url) and with_realtime
    bus: Bus = MemoryBus()
    if settings.redis_url:
        bus = RedisBus(lambda: make_client(settings)) if with_realtime else OneWayBus(make_client(settings))
    limits: Limits = RedisLimits(make_client(settings, timeout=_LIMIT_TIMEOUT_SECONDS)) if use_redis else MemoryLimits()
    reactor = Reactor(heartbeat_seconds=settings.heartbeat_seconds, coalesce=settings.realtime_coalesce)
    return AppContext(
        settings=settings,
        engine=engine,
        reactor=reactor,
        hub=Hub(_hub_source(engine), bus, reactor),
        writer=_writer(settings, engine, bus, limits, reactor),
        bus=bus,
        limits=limits,
        keys=tokens.load_keys(settings),
        sessions=sessions_of(engine),
        clock=lambda: datetime.now(UTC),
    )


def start(ctx: AppContext) -> None:
    """Start the greenlets, in the process that serves. Safe to repeat; does nothing once it is leaving."""
    if ctx.hub.draining:
        return
    ctx.reactor.start()
    ctx.hub.start()
    ctx.bus.start(ctx.hub.on_events, ctx.hub.on_missed)
    ctx.writer.start()


def begin_drain(ctx: AppContext) -> None:
    """Say that this worker is leaving: not ready any more, and every socket hears of it."""
    ctx.hub.drain()


def finish_drain(ctx: AppContext, *, flush_seconds: float, close_seconds: float) -> None:
    """Commit and acknowledge what is held, then close every socket with 1012."""
    ctx.writer.stop(flush_seconds)
    ctx.hub.close_all(CLOSE_RESTART, "restarting", timeout=close_seconds)


def stop(ctx: AppContext) -> None:
    """End what ``start`` began and let go of the database. Safe to repeat."""
    ctx.writer.stop(0)
    ctx.hub.stop()
    ctx.reactor.stop()
    ctx.bus.close()
    ctx.limits.close()
    ctx.engine.dispose()


def _writer(
    settings: Settings, engine: sa.Engine, bus: Bus, limits: Limits, reactor: Reactor
) -> Writer[NewMessage, StoredMessage]:
    def append(batch: Sequence[NewMessage]) -> Sequence[StoredMessage | ChatError]:
        if appender is not None:
            return appender.append(batch)
        with engine.begin() as conn:
            return messages.append_batch(conn, batch)

    def release() -> None:
        if appender is not None:
            appender.close()

    def publish(stored: Sequence[StoredMessage]) -> None:
        # Fields by place: a name each would cost a lookup a message.
        bus.publish(
            [
                MessageStored(conversation_id, seq, message_json(conversation_id, seq, sender_id, client_id, body, at))
                for conversation_id, seq, sender_id, client_id, body, at, _ in stored
            ]
        )

    connect = connector(engine)
    appender = Appender(connect) if connect is not None else None
    return Writer(
        append,
        is_transient=is_transient,
        is_conflict=is_conflict,
        on_committed=publish,
        admission=MessageAdmission(limits, engine, settings.message_rate_limit),
        breathe=lambda: reactor.wait_written(BREATH_SECONDS),
        release=release,
    )


def sessions_of(engine: sa.Engine) -> Gatherer[UUID, sessions.Session]:
    """Return who answers which log-in sessions there are, for many askers at once."""

    def ask(ids: Collection[UUID]) -> Mapping[UUID, sessions.Session]:
        with reading(engine) as conn:
            return sessions.get_many(conn, ids)

    return Gatherer(ask)


def _hub_source(engine: sa.Engine) -> HubSource:
    def history(conversation_id: int, after_seq: int, limit: int) -> list[StoredMessage]:
        with reading(engine) as conn:
            return messages.page(conn, conversation_id, after_seq=after_seq, before_seq=None, limit=limit)

    def last_seqs(ids: Collection[int]) -> Mapping[int, int]:
        with reading(engine) as conn:
            return messages.last_seqs(conn, ids)

    def memberships(user_ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        with reading(engine) as conn:
            return conversations.memberships_of(conn, user_ids)

    def live_sessions(ids: Collection[UUID]) -> Collection[UUID]:
        with reading(engine) as conn:
            return sessions.live(conn, ids)

    def rosters(ids: Collection[int]) -> Mapping[int, Mapping[int, int]]:
        with reading(engine) as conn:
            return conversations.rosters(conn, ids)

    return HubSource(history, last_seqs, memberships, live_sessions, rosters, is_transient)
