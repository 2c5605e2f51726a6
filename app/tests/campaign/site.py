"""The site a fault campaign does its harm to: two servers of two workers on one durable PostgreSQL and one Redis."""

from __future__ import annotations

import os
import signal
from types import TracebackType

from harness.chat import ChatServer, Keys
from harness.postgres import Postgres
from harness.process import Workshop, children_of
from harness.redis_server import RedisServer

#: Short, so that a peer that has vanished is noticed while the campaign still looks.
HEARTBEAT_SECONDS = 4


class TwoNodes:
    """Everything a site is made of, ended with the block."""

    def __init__(self) -> None:
        self.workshop = Workshop("hhc-faults-")
        self.postgres = Postgres(self.workshop, durable=True)
        self.redis = RedisServer(self.workshop)
        self.servers: list[ChatServer] = []

    def __enter__(self) -> TwoNodes:
        try:
            self.postgres.start()
            self.redis.start()
            url = self.postgres.create_database(self.postgres.migrated_template())
            keys = Keys(self.workshop.directory("keys"), self.workshop.account)
            env = {"HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS), "PUBLIC_URL": "https://chat.example"}
            self.servers = [ChatServer(self.workshop, keys, url, self.redis.env, env=env) for _ in range(2)]
            for server in self.servers:
                server.start()
                server.wait_all_workers()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End every daemon."""
        for daemon in (*self.servers, self.redis, self.postgres):
            daemon.destroy()
        self.workshop.close()

    def freeze_postgres(self) -> list[int]:
        """Stop the postmaster and all its children where they are; return their pids for ``thaw``."""
        frozen = [self.postgres.pid]
        os.kill(self.postgres.pid, signal.SIGSTOP)  # first: it starts no more children
        frozen += children_of(self.postgres.pid)
        _signal(frozen[1:], signal.SIGSTOP)
        return frozen

    @staticmethod
    def thaw(pids: list[int]) -> None:
        """Let what was frozen go on."""
        _signal(pids, signal.SIGCONT)


def _signal(pids: list[int], number: int) -> None:
    for pid in pids:
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            continue
