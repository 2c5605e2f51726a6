"""A composed application on each database, without a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import Engine

from harness.people import PASSWORD, cheap_hash
from hockey_hub_chat import compose, tokens
from hockey_hub_chat.config import Settings
from hockey_hub_chat.realtime.bus import BusEvent, MemoryBus
from hockey_hub_chat.realtime.limits import MemoryLimits
from hockey_hub_chat.services import auth
from hockey_hub_chat.services.context import AppContext
from hockey_hub_chat.storage import users


@dataclass
class Club:
    """The services' context, what was published, and a clock that can be moved."""

    ctx: AppContext
    published: list[BusEvent] = field(default_factory=list)
    now: datetime = datetime(2026, 1, 1, tzinfo=timezone.utc)

    def later(self, **amount: float) -> None:
        """Move the clock on."""
        self.now += timedelta(**amount)

    def add(self, name: str, *, is_admin: bool = False, is_probe: bool = False) -> int:
        """Make somebody with the password ``PASSWORD``."""
        with self.ctx.engine.begin() as conn:
            return users.add(
                conn,
                username=name,
                display_name=name.title(),
                password_hash=cheap_hash(),
                is_admin=is_admin,
                is_probe=is_probe,
            )

    def login(self, name: str) -> auth.Tokens:
        """Log somebody in."""
        return auth.login(self.ctx, name, PASSWORD, address="192.0.2.1")

    def who(self, name: str, **kind: bool) -> auth.Principal:
        """Make somebody and return them as a request would have them."""
        self.add(name, **kind)
        return self.login(name).principal


@pytest.fixture(scope="session")
def signing_keys(tmp_path_factory: pytest.TempPathFactory) -> tokens.Keys:
    """Keys for all tests here."""
    private, _ = tokens.generate_keys(tmp_path_factory.mktemp("service-keys"))
    return tokens.Keys(private.read_bytes(), [], "test")


@pytest.fixture
def club(engine: Engine, signing_keys: tokens.Keys, tmp_path: Path) -> Iterator[Club]:
    """See ``Club``."""
    bus = MemoryBus()
    made: list[Club] = []
    clock: Callable[[], datetime] = lambda: made[0].now  # noqa: E731
    ctx = AppContext(
        settings=Settings(data_dir=tmp_path, login_rate_limit=5, service_name="test"),
        engine=engine,
        reactor=None,  # type: ignore[arg-type]  # services reach sockets by the bus alone
        hub=None,  # type: ignore[arg-type]
        writer=None,  # type: ignore[arg-type]
        bus=bus,
        limits=MemoryLimits(),
        keys=signing_keys,
        sessions=compose.sessions_of(engine),
        clock=clock,
    )
    made.append(Club(ctx))
    bus.start(made[0].published.extend, lambda: None)
    yield made[0]
    bus.close()
