"""The C programs: compiles them when a source is newer, and runs the load generator. Knows no scenario."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from harness.process import Workshop
from suite.places import BENCH, BUILD, CLIENT_CORE, pinned

SOURCES = BENCH / "native"
PROGRAMS = {
    "loadgen": (
        ("loadgen", "options", "transport", "protocol", "tally", "report", "histogram", "ws"),
        ("ssl", "crypto", "m"),
    ),
    "broadcast": (("broadcast", "ws"), ("crypto",)),
}
FLAGS = ("-O2", "-g", "-std=gnu11", "-Wall", "-Wextra", "-Werror")

Figures = dict[str, Any]


class LoadError(RuntimeError):
    """A run of the load generator failed; the text says why in one sentence."""


def build(name: str, directory: Path = BUILD / "bench") -> Path:
    """Return the compiled program, compiled again when a source is newer.

    Raises:
        subprocess.CalledProcessError: the compiler had something to say.
    """
    sources, libraries = PROGRAMS[name]
    paths = [SOURCES / f"{source}.c" for source in sources]
    program = directory / name
    newest = max(path.stat().st_mtime for path in (*paths, *SOURCES.glob("*.h")))
    if not program.exists() or program.stat().st_mtime < newest:
        directory.mkdir(parents=True, exist_ok=True)
        fresh = directory / f".{name}.{os.getpid()}"
        subprocess.run(["gcc", *FLAGS, "-o", fresh, *paths, *(f"-l{library}" for library in libraries)], check=True)
        fresh.replace(program)
    return program


@dataclass(frozen=True)
class Target:
    """Where the load generator connects, and whose CPU time it reads.

    Args:
        protocol: ``hhc``, ``sio`` or ``raw``.
        address: ``host:port`` or ``unix:/path``.
        tokens: a file of access tokens, one a line and connection; None where nobody logs in.
        watch: name of a group of processes to the pid of one; its children count too.
    """

    protocol: str
    address: str
    path: str = "/ws"
    host: str = "localhost"
    origin: str = ""
    tokens: Path | None = None
    tls: bool = False
    watch: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Load:
    """What the load generator does: see bench/README.md.

    Args:
        members: sockets in each room.
        senders: of them, those that send; ``sender_limit`` caps those of all rooms together.
        window: messages each sender keeps in flight, until its own copy and its ack have come.
        rate: sends per second of all senders together, on a schedule; 0 is the closed loop of ``window``.
        lazy_ms: sockets that only listen are read so often; 0 reads what has come at once.
        patience: seconds without anything new that are too long.
        cores: of the load generator.
    """

    rooms: int = 1
    members: int = 1
    senders: int = 1
    sender_limit: int = 0
    window: int = 4
    rate: float = 0.0
    body: int = 200
    lazy_ms: int = 0
    warm_up: float = 1.0
    seconds: float = 4.0
    handshakes: int = 50
    until_hello: bool = False
    stay: bool = False
    patience: float = 15.0
    cores: str = CLIENT_CORE

    @property
    def connections(self) -> int:
        """Sockets altogether."""
        return self.rooms * self.members


class Generator:
    """One run of the load generator, started."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self._events: Iterator[Figures] = (json.loads(line) for line in _lines(process.stdout))

    def tell(self, command: str) -> None:
        """Say ``go`` or ``stop`` to a run that stays."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{command}\n")
        self._process.stdin.flush()

    def wait_for(self, event: str) -> Figures:
        """Return the event's line.

        Raises:
            LoadError: the run ended with an error, or without the event.
        """
        for said in self._events:
            if said.get("error"):
                raise LoadError(str(said["error"]))
            if said["event"] == event:
                return said
        raise LoadError(f"the load generator ended before '{event}' (status {self._process.wait()})")


def _lines(stream: IO[str] | None) -> Iterator[str]:
    assert stream is not None
    yield from stream


@contextlib.contextmanager
def generator(workshop: Workshop, target: Target, load: Load) -> Iterator[Generator]:
    """Start a run; it is ended with the block."""
    settings = {
        "protocol": target.protocol,
        "address": target.address,
        "path": target.path,
        "host": target.host,
        **({"origin": target.origin} if target.origin else {}),
        **({"tokens": target.tokens} if target.tokens else {}),
        "tls": int(target.tls),
        **{key: value for key, value in vars(load).items() if key != "cores"},
    }
    lines = [f"{key} {int(value) if isinstance(value, bool) else value}" for key, value in settings.items()]
    lines += [f"watch {name}:{pid}" for name, pid in target.watch.items()]
    path = workshop.directory("load") / "settings"
    path.write_text("\n".join(lines) + "\n")
    process = subprocess.Popen(
        [*pinned(load.cores), build("loadgen"), path],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    workshop.reaper.tell("pid", process.pid)
    try:
        yield Generator(process)
    finally:
        with contextlib.suppress(ProcessLookupError):
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for stream in (process.stdin, process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()
        workshop.reaper.tell("gone", process.pid)


def run(workshop: Workshop, target: Target, load: Load, during: Callable[[], Figures] | None = None) -> Figures:
    """Run to the end and return what was measured.

    Args:
        during: called when measuring begins; what it returns is added.

    Raises:
        LoadError: it failed, or a socket did not receive exactly the messages of its room.
    """
    with generator(workshop, target, load) as started:
        extra: Figures = {}
        if during is not None:
            started.wait_for("measuring")
            extra = during()
        result = started.wait_for("result")
    if load.senders and load.seconds and not result["deliveries"]:
        raise LoadError("nothing arrived while it was measured; measure for longer")
    wrong = result["wrong_sockets"]
    if wrong:
        raise LoadError(
            f"{wrong} of {result['connections']} sockets did not receive exactly the messages of their room"
            f" ({result['missing']} missing)"
        )
    if result["seq_gaps"]:
        raise LoadError(f"{result['seq_gaps']} messages came out of order of their seq")
    if target.protocol != "sio" and result["disordered"]:
        raise LoadError(f"{result['disordered']} messages of a sender came out of order")
    return {**result, **extra}
