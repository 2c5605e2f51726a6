"""Measure the write path end to end: acked sends through one gunicorn worker, beside bare single-row commits.

Both use the same PostgreSQL with fsync on and the same number of connections; the message's way includes parsing, authorisation,
Redis and the sender's own copy. The ratio tells what group commit wins and the rest costs. It measures, it judges nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import re
import statistics
import subprocess
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.asyncio.client import ClientConnection, connect

from harness.chat import ChatServer, Keys
from harness.people import Person
from harness.postgres import Postgres
from harness.process import Workshop
from harness.redis_server import RedisServer

RESULT = Path(__file__).parent.parent / "build" / "bench.json"
BODY = "Practice moves to rink two at seven; bring both jerseys, please. " * 2


def bare_commits(postgres: Postgres, url: str, clients: int, seconds: int) -> float:
    """Return commits per second of pgbench inserting one row like a message in each transaction."""
    database = url.rsplit("/", 1)[1].split("?")[0]
    with_password = {"PGPASSWORD": postgres.password, "PATH": os.environ["PATH"], "PGCONNECT_TIMEOUT": "10"}
    target = ["-h", "127.0.0.1", "-p", str(postgres.port), "-U", postgres.user]
    subprocess.run(
        [
            *(str(postgres.bin / "psql"), *target, "-d", database, "-q", "-c"),
            "CREATE TABLE bench (id uuid PRIMARY KEY, sender bigint, body text, created_at timestamptz DEFAULT now())",
        ],
        env=with_password,
        check=True,
    )
    script = postgres.directory / "bench.sql"
    script.write_text("INSERT INTO bench (id, sender, body) VALUES (gen_random_uuid(), 1, :body);\n")
    done = subprocess.run(
        [
            *(str(postgres.bin / "pgbench"), *target, "-n", "-f", str(script), "-M", "prepared"),
            *("-c", str(clients), "-j", "1", "-T", str(seconds), "-D", f"body={BODY}", database),
        ],
        env=with_password,
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"tps = ([0-9.]+) \(without initial", done.stdout)
    if found is None:
        raise RuntimeError(f"pgbench reported no rate:\n{done.stdout}")
    return float(found[1])


async def send_for(socket: ClientConnection, room: int, seconds: float, window: int) -> list[float]:
    """Keep ``window`` messages in flight for ``seconds``; return how long each acknowledgement took."""
    sent: dict[str, float] = {}
    took: list[float] = []
    end = time.perf_counter() + seconds

    async def send_one() -> None:
        client_id = str(uuid.uuid4())
        sent[client_id] = time.perf_counter()
        frame = {"type": "send", "client_id": client_id, "conversation_id": room, "body": BODY}
        await socket.send(json.dumps(frame))

    for _ in range(window):
        await send_one()
    while sent:
        frame: dict[str, Any] = json.loads(await asyncio.wait_for(socket.recv(), 30))
        if frame["type"] == "error":
            raise RuntimeError(f"refused: {frame}")
        if frame["type"] == "ack":
            took.append(time.perf_counter() - sent.pop(frame["client_id"]))
            if time.perf_counter() < end:
                await send_one()
    return took


async def acked_sends(
    server: ChatServer, people: list[Person], rooms: list[int], seconds: int, window: int
) -> list[float]:
    """Let everybody send in a room of their own at once; return all acknowledgement times in seconds."""
    sockets = []
    for person in people:
        api = server.api()
        api.login(person.username, person.password).expect(200)
        headers = {"Cookie": f"hhc_access={api.cookies['hhc_access']}"}
        url = f"ws://127.0.0.1:{server.port}/ws"
        socket = await connect(url, origin=server.origin, additional_headers=headers, compression=None, proxy=None)  # type: ignore[arg-type]
        await socket.recv()  # hello
        await socket.send(json.dumps({"type": "resume", "cursors": {}}))
        while json.loads(await socket.recv())["type"] != "resumed":
            pass
        sockets.append(socket)
    results = await asyncio.gather(
        *(send_for(socket, room, seconds, window) for socket, room in zip(sockets, rooms, strict=True))
    )
    for socket in sockets:
        await socket.close()
    return [took for result in results for took in result]


@contextmanager
def site() -> Iterator[tuple[Postgres, str, ChatServer]]:
    """Start a durable PostgreSQL, a Redis and the application with one worker; end them all."""
    workshop = Workshop()
    made: list[Any] = []
    try:
        postgres = Postgres(workshop, durable=True)
        redis = RedisServer(workshop)
        made += [postgres, redis]
        postgres.start()
        redis.start()
        url = postgres.create_database(template=postgres.migrated_template())
        server = ChatServer(workshop, Keys(workshop.directory("keys"), workshop.account), url, redis.env, workers=1)
        made.append(server)
        server.start()
        yield postgres, url, server
    finally:
        for daemon in reversed(made):
            daemon.destroy()
        workshop.close()


def main() -> None:
    """Measure, print, write build/bench.json."""
    parser = argparse.ArgumentParser(description="Acked sends beside bare commits.")
    parser.add_argument("--seconds", type=int, default=10, help="of each measurement")
    parser.add_argument("--clients", type=int, default=20, help="connections of either side")
    parser.add_argument("--window", type=int, default=8, help="messages each client keeps in flight")
    args = parser.parse_args()

    with site() as (postgres, url, server):
        people = server.people.add(*(f"bench{number}" for number in range(args.clients)))
        rooms = [server.people.group([person]) for person in people]
        commits = bare_commits(postgres, url, args.clients, args.seconds)
        started = time.perf_counter()
        took = asyncio.run(acked_sends(server, people, rooms, args.seconds, args.window))
        acked = len(took) / (time.perf_counter() - started)

    result = {
        "clients": args.clients,
        "window": args.window,
        "seconds": args.seconds,
        "bare_commits_per_second": round(commits, 1),
        "acked_messages_per_second": round(acked, 1),
        "ratio": round(acked / commits, 3),
        "ack_ms_median": round(statistics.median(took) * 1000, 1),
        "ack_ms_p99": round(statistics.quantiles(took, n=100)[98] * 1000, 1),
        "processors": os.cpu_count(),
    }
    RESULT.write_text(json.dumps(result, indent=2) + "\n")
    print(f"bare single-row commits   {commits:8.0f} /s  ({args.clients} connections)")
    print(
        f"acknowledged messages     {acked:8.0f} /s  ({args.clients} sockets, {args.window} in flight each, one worker)"
    )
    print(f"ratio                     {acked / commits:8.2f}")
    print(
        f"send to ack               {result['ack_ms_median']:8.1f} ms median, {result['ack_ms_p99']} ms at the 99th percentile"
    )
    print(
        f"in {RESULT.relative_to(RESULT.parent.parent)}; both on this computer's {os.cpu_count()} processors, shared with the clients"
    )


if __name__ == "__main__":
    main()
