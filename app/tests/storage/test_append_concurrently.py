"""append_batch from several processes at once: gapless seqs, one message a key, no deadlock."""

from __future__ import annotations

import json
import os
import random
import secrets
import subprocess
import sys
import time
from pathlib import Path
from uuid import UUID

import sqlalchemy as sa
from sqlalchemy import Engine

import hockey_hub_chat
from hockey_hub_chat.storage import conversations, messages, tables, users

PROCESSES = 4
BATCHES = 25
ROOMS = 5
PEOPLE = 4
WORKER = Path(__file__).with_name("append_worker.py")
SOURCE = Path(hockey_hub_chat.__file__).resolve().parents[1]


def test_many_processes_write_gapless_and_once(engine: Engine) -> None:
    seed = os.environ.get("TEST_SEED") or secrets.token_hex(4)
    print(f"TEST_SEED={seed}")
    rng = random.Random(seed)  # noqa: S311  # a test's dice
    with engine.begin() as conn:
        people = [
            users.add(conn, username=f"u{number}", display_name="U", password_hash="-") for number in range(PEOPLE)
        ]
        rooms = [conversations.create_group(conn, people[0], None, people) for _ in range(ROOMS)]
    plan = {
        "database_url": address(engine),
        "batches": BATCHES,
        "rooms": rooms,
        "people": people,
        "shared": [(rng.choice(rooms), rng.choice(people), str(UUID(int=rng.getrandbits(128)))) for _ in range(15)],
        "start_at": time.time() + 3,
    }
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": str(SOURCE)},
            text=True,
        )
        for _ in range(PROCESSES)
    ]
    for number, process in enumerate(processes):
        assert process.stdin is not None
        process.stdin.write(json.dumps({**plan, "seed": f"{seed}:{number}"}))
        process.stdin.close()
        process.stdin = None
    said = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0] * PROCESSES, said
    acked: dict[tuple[UUID, int], tuple[int, int]] = {}
    for out, _ in said:
        for client_id, sender, conversation, seq in json.loads(out):
            assert acked.setdefault((UUID(client_id), sender), (conversation, seq)) == (conversation, seq)
    with engine.connect() as conn:
        stored = conn.execute(sa.select(tables.messages)).all()
        last = messages.last_seqs(conn, rooms)
    assert {(row.client_id, row.sender_id): (row.conversation_id, row.seq) for row in stored} == acked
    for room in rooms:
        assert sorted(row.seq for row in stored if row.conversation_id == room) == list(range(1, last[room] + 1))


def address(engine: Engine) -> str:
    """Return the DATABASE_URL of an engine's database."""
    if engine.dialect.name == "sqlite":
        return f"sqlite:///{engine.url.database}"
    with engine.connect() as conn:
        raw = conn.connection.driver_connection
        assert raw is not None
        info = raw.info
        return f"postgresql://{info.user}:{info.password}@{info.host}:{info.port}/{info.dbname}"
