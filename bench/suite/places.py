"""Where things are, and which core does what."""

from __future__ import annotations

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
BENCH = PROJECT / "bench"
BUILD = PROJECT / "build"

#: What is measured has a core of its own; the load generator, PostgreSQL and Redis share the other.
SERVER_CORE = "0"
CLIENT_CORE = "1"
BOTH_CORES = "0,1"


def pinned(cores: str) -> list[str]:
    """Return what stands before a command so that it runs on these cores alone."""
    return ["taskset", "--cpu-list", cores]
