"""What every service is given: the parts of the running application, built by ``compose``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING
from uuid import UUID

import sqlalchemy as sa

from hockey_hub_chat.config import Settings
from hockey_hub_chat.tokens import Keys

if TYPE_CHECKING:
    from hockey_hub_chat.realtime.bus import Bus
    from hockey_hub_chat.realtime.hub import Hub
    from hockey_hub_chat.realtime.limits import Limits
    from hockey_hub_chat.realtime.reactor import Reactor
    from hockey_hub_chat.realtime.source import Gatherer
    from hockey_hub_chat.realtime.writer import Writer
    from hockey_hub_chat.storage.messages import NewMessage, StoredMessage
    from hockey_hub_chat.storage.sessions import Session


Clock = Callable[[], datetime]


@dataclass
class AppContext:
    """The parts of one worker. ``clock`` returns the UTC time; tests set their own."""

    settings: Settings
    engine: sa.Engine
    reactor: Reactor
    hub: Hub
    writer: Writer[NewMessage, StoredMessage]
    bus: Bus
    limits: Limits
    keys: Keys
    sessions: Gatherer[UUID, Session]
    clock: Clock
