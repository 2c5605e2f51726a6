"""One process of ``test_append_concurrently``: reads its plan as JSON, appends random batches, prints every result as JSON."""

from __future__ import annotations

import json
import random
import sys
import time
from typing import Any
from uuid import UUID

from hockey_hub_chat.config import Settings
from hockey_hub_chat.storage import messages
from hockey_hub_chat.storage.engine import make_engine
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage


def run(plan: dict[str, Any]) -> list[tuple[str, int, int, int]]:
    """Return (client_id, sender, conversation, seq) of every result."""
    rng = random.Random(plan["seed"])  # noqa: S311  # a test's dice
    engine = make_engine(Settings(database_url=plan["database_url"], database_pool_size=1))
    acked: list[tuple[str, int, int, int]] = []
    mine: list[NewMessage] = []
    time.sleep(max(0.0, plan["start_at"] - time.time()))
    for _ in range(plan["batches"]):
        batch: list[NewMessage] = []
        for _ in range(rng.randint(1, 12)):
            kind = rng.random()
            if kind < 0.2 and mine:
                batch.append(rng.choice(mine))  # a retry of our own
            elif kind < 0.4:
                room, sender, key = rng.choice(plan["shared"])  # every process sends these
                batch.append(NewMessage(room, sender, UUID(key), "shared"))
            else:
                key = UUID(int=rng.getrandbits(128))
                mine.append(NewMessage(rng.choice(plan["rooms"]), rng.choice(plan["people"]), key, "mine"))
                batch.append(mine[-1])
        with engine.begin() as conn:
            results = messages.append_batch(conn, batch)
        for new, result in zip(batch, results, strict=True):
            if not isinstance(result, StoredMessage):
                raise result
            acked.append((str(new.client_id), new.sender_id, result.conversation_id, result.seq))
    engine.dispose()
    return acked


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
