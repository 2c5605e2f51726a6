"""The profile: where a worker's time goes while it is under a scenario's load, into build/bench-profile.txt."""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from suite import machine, native
from suite.native import Figures, LoadError
from suite.places import BUILD, CLIENT_CORE, pinned
from suite.scenario import Scenario, Variant, flat
from suite.site import Site

PY_SPY = BUILD / "venv" / "bench" / "bin" / "py-spy"
PROFILE = BUILD / "bench-profile.txt"
_ROWS = 45
_STRACE_SECONDS = 2
_MARKER = "=" * 100
#: Frames of threads that only wait for work: gevent's own pool, and the loop with nothing to do.
_WAITING = ("(gevent/_threading.py", "epoll_wait", "epoll_pwait")


@dataclass(frozen=True)
class Profile(Scenario):
    """One look after the other at the same server: unhindered, sampled, sampled with native frames, its system calls counted."""

    def measure(self, site: Site, variant: Variant, server: Any, seconds: float | None) -> Figures:
        """Return the figures of the run in which nobody looked.

        Raises:
            LoadError: py-spy is not there, or cannot look.
        """
        load = replace(self.load_of(variant, seconds), seconds=max(5.0, seconds or 0))
        worker = machine.family(server.pid)[1]
        parts: list[str] = []

        def while_driven(look: Callable[[], str]) -> None:
            def note() -> Figures:
                parts.append(look())
                return {}

            machine.settle(server.pid)
            native.run(site.workshop, server.target(), load, during=note)

        result = flat(native.run(site.workshop, server.target(), load))
        while_driven(lambda: _py_spy(site, worker, int(load.seconds) - 1, with_native=False))
        while_driven(lambda: _py_spy(site, worker, int(load.seconds) - 1, with_native=True))
        if shutil.which("strace"):
            while_driven(lambda: _strace(site, worker))
        else:
            parts.append("strace is not installed: no system calls were counted.\n")
        _put(variant.name, parts)
        return result


def _py_spy(site: Site, worker: int, seconds: int, *, with_native: bool) -> str:
    """Return tables of the functions the worker was found in.

    Native frames cost a stop of the worker at each look; without them it is looked at while it runs.
    """
    if not PY_SPY.exists():
        raise LoadError("py-spy is not there: scripts/bootstrap bench")
    output = site.workshop.directory("profile") / "stacks"
    command = [
        *(*pinned(CLIENT_CORE), str(PY_SPY), "record", "--pid", str(worker), "--format", "raw"),
        *("--output", str(output), "--duration", str(seconds)),
        *(["--native", "--rate", "50"] if with_native else ["--nonblocking", "--rate", "200"]),
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not output.exists():
        if with_native:
            return f"py-spy cannot read native frames here: {done.stderr.strip()[-200:]}\n"
        raise LoadError(f"py-spy failed: {done.stderr.strip()[-200:]}")
    title = "py-spy, Python and native frames" if with_native else "py-spy, Python frames"
    return f"{title}\n\n{tables(output.read_text())}"


def tables(folded: str) -> str:
    """Return the functions that took most, by themselves and with what they call.

    Args:
        folded: stacks as "outer;inner count" lines; those that only wait count as idle.
    """
    alone: Counter[str] = Counter()
    below: Counter[str] = Counter()
    idle = 0
    for line in folded.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        if any(waiting in frame for frame in frames for waiting in _WAITING):
            idle += int(count)
            continue
        alone[frames[-1]] += int(count)
        for frame in set(frames):
            below[frame] += int(count)
    whole = sum(alone.values()) or 1
    lines = [f"{whole} looks at work, {idle} at a thread that waits", ""]
    for title, counts in (("by itself", alone), ("with what it calls", below)):
        lines.append(f"{'share':>7}  {title}")
        lines += [f"{count / whole:7.1%}  {frame}" for frame, count in counts.most_common(_ROWS)]
        lines.append("")
    return "\n".join(lines)


def _strace(site: Site, worker: int) -> str:
    output = site.workshop.directory("profile") / "calls"
    subprocess.run(
        ["timeout", "--signal=INT", str(_STRACE_SECONDS), "strace", "-c", "-f", "-p", str(worker), "-o", output],
        capture_output=True,
        check=False,
    )
    text = output.read_text() if output.exists() else "(nothing)"
    return f"strace -c, {_STRACE_SECONDS} seconds of the same load\n\n{text}"


def _put(name: str, parts: list[str]) -> None:
    """Replace a load's part of the file; the others stay."""
    blocks: dict[str, str] = {}
    if PROFILE.exists():
        texts = [text for text in PROFILE.read_text().split(f"{_MARKER}\n") if text.strip()]
        blocks = {text.split("\n", 1)[0].strip(): text for text in texts}
    blocks[name] = "\n".join([name, "", *parts])
    PROFILE.write_text("".join(f"{_MARKER}\n{text}" for text in blocks.values()))
