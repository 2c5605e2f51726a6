"""Facts about the machine, and the memory of processes (Linux ``/proc``)."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import time
from collections.abc import Iterable
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness.process import children_of
from suite.places import PROJECT


def facts() -> dict[str, Any]:
    """Return what a reader needs to know to compare figures with those of another day or machine."""
    info = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in info.splitlines() if line.startswith("model name")]
    memory = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    return {
        "at": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "processor": models[0] if models else platform.machine(),
        "cores": os.cpu_count(),
        "memory_mib": int(memory.split()[1]) // 1024,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_1_minute": os.getloadavg()[0],
        "commit": _output("git", "-C", str(PROJECT), "rev-parse", "--short", "HEAD"),
    }


def _output(*argv: str) -> str:
    if shutil.which(argv[0]) is None:
        return ""
    return subprocess.run(argv, capture_output=True, text=True, check=False).stdout.strip()


def pss_bytes(pids: Iterable[int]) -> int:
    """Return the proportional set size of processes together (proc(5), smaps_rollup)."""
    total = 0
    for pid in pids:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) * 1024
    return total


def family(pid: int) -> list[int]:
    """Return a process and its children."""
    return [pid, *children_of(pid)]


def settle(pid: int, timeout: float = 20) -> None:
    """Return when a process and its children have done next to nothing for a while, at most after ``timeout`` seconds.

    A run's end leaves thousands of connections to be cleaned up, which must not fall into the next one's run.
    """
    deadline = time.monotonic() + timeout
    before = _ticks(pid)
    while time.monotonic() < deadline:
        time.sleep(0.2)
        now = _ticks(pid)
        if now - before <= 1:
            return
        before = now


def _ticks(pid: int) -> int:
    total = 0
    for each in family(pid):
        try:
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        except OSError:  # it ended while we looked
            continue
        total += int(fields[11]) + int(fields[12])
    return total
