"""Bare commits of the same PostgreSQL: pgbench inserts rows like a message's, from the server's core."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from harness.process import base_environment
from suite.native import Figures
from suite.places import SERVER_CORE, pinned
from suite.site import Site

_COLUMNS = "INSERT INTO bench_messages (room, sender, client_id, body) VALUES "
_ROW = "(1, 1, gen_random_uuid(), :body)"


class Pgbench:
    """A database with the peers' table, and pgbench on it.

    Args:
        clients: connections, each with a transaction on its way all the time.
        rows: of each transaction, in one statement.
    """

    def __init__(self, site: Site, *, clients: int, rows: int = 1) -> None:
        self._site = site
        self._clients = clients
        self._rows = rows
        self._database = site.peers_database().rpartition("/")[2]
        self._script = site.workshop.directory("pgbench") / "insert.sql"
        self._script.write_text(_COLUMNS + ", ".join([_ROW] * rows) + ";\n")

    def run(self, seconds: float, body: int) -> Figures:
        """Run for whole ``seconds`` and return rows per second and the time of a transaction, from its log.

        Raises:
            subprocess.CalledProcessError: pgbench failed.
        """
        postgres = self._site.postgres
        logs = self._site.workshop.directory("pgbench-log")
        done = subprocess.run(
            [
                *(*pinned(SERVER_CORE), str(postgres.bin / "pgbench"), "-h", "127.0.0.1", "-p", str(postgres.port)),
                *("-U", postgres.user, "-n", "-f", str(self._script), "-M", "prepared", "-c", str(self._clients)),
                *("-j", "1", "-T", str(max(1, round(seconds))), "-D", f"body={'x' * body}", "-l"),
                *("--log-prefix", str(logs / "log"), self._database),
            ],
            env={**base_environment(), "PGPASSWORD": postgres.password},
            check=True,
            capture_output=True,
            text=True,
        )
        found = re.search(r"tps = ([0-9.]+) \(without initial", done.stdout)
        if found is None:
            raise OSError(f"pgbench reported no rate: {done.stdout.strip()[-200:]}")
        times = sorted(_times(logs))
        return {
            "commits_per_s": float(found[1]) * self._rows,
            # of a sender's point of view: what a committed row is to it, an acknowledged message is
            "sends_per_s": float(found[1]) * self._rows,
            "ack_p50_ms": times[len(times) // 2],
            "ack_p99_ms": times[len(times) * 99 // 100],
        }


def _times(directory: Path) -> list[float]:
    """Return the milliseconds of each transaction (pgbench's per-transaction log: the third field, in microseconds)."""
    return [
        int(line.split()[2]) / 1000
        for path in directory.iterdir()
        for line in path.read_text().splitlines()
        if line.split()[2].isdigit()
    ]
