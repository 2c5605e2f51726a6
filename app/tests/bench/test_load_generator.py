"""The benchmark's load generator in miniature: it delivers and counts right, and notices what is lost, repeated or out of order."""

from __future__ import annotations

import base64
import hashlib
import os
import random
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harness.chat import ChatServer
from harness.process import Workshop, ending
from harness.redis_server import RedisServer
from suite import native
from suite.native import Load, LoadError, Target
from suite.peers import Broadcast

MEMBERS = 10
#: Whatever this computer lets us have: nothing here is about speed.
CORES = ",".join(map(str, sorted(os.sched_getaffinity(0))))
SHORT = Load(members=MEMBERS, window=4, warm_up=0.2, seconds=2, patience=10, cores=CORES)
#: For a server that does what it is told.
BRIEF = Load(members=3, window=8, warm_up=0.1, seconds=0.4, patience=1, cores=CORES)

_KEY_END = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455, section 1.3

#: From the number of a connection and of a message, and its frame: the pieces that are written to the connection.
Faults = Callable[[int, int, bytes], list[bytes]]


class Puppet:
    """A server for a few connections, of which the first sends: it passes on what ``faults`` makes of each message."""

    def __init__(self, faults: Faults, connections: int = BRIEF.members) -> None:
        self._faults = faults
        self._count = connections
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def target(self) -> Target:
        """Return where it is found."""
        return Target("raw", f"127.0.0.1:{self._listener.getsockname()[1]}")

    def close(self) -> None:
        """Wait for its end, which is that of its sender."""
        self._thread.join(30)
        self._listener.close()
        assert not self._thread.is_alive()

    def _serve(self) -> None:
        connections = [self._accept() for _ in range(self._count)]
        try:
            for number, text in enumerate(_messages(connections[0])):
                frame = b"\x81\x7e" + len(text).to_bytes(2, "big") + text
                for who, connection in enumerate(connections):
                    for piece in self._faults(who, number, frame):
                        connection.sendall(piece)
        except OSError:
            pass  # the generator has ended with a reset, as it always does
        finally:
            for connection in connections:
                connection.close()

    def _accept(self) -> socket.socket:
        connection, _ = self._listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        request = b""
        while b"\r\n\r\n" not in request:
            request += connection.recv(4096)
        key = request.split(b"Sec-WebSocket-Key: ")[1].split(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + _KEY_END, usedforsecurity=False).digest())
        connection.sendall(
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\n\x81\x06joined"
        )
        return connection


def _messages(connection: socket.socket) -> Iterator[bytes]:
    """Return the texts of a client's frames, each of 126 to 65535 bytes."""
    data = b""
    while True:
        while len(data) < 8 or len(data) < 8 + int.from_bytes(data[2:4], "big"):
            got = connection.recv(65536)
            if not got:
                return
            data += got
        end = 8 + int.from_bytes(data[2:4], "big")
        yield bytes(byte ^ data[4 + index % 4] for index, byte in enumerate(data[8:end]))
        data = data[end:]


@pytest.fixture
def puppet() -> Iterator[Callable[[Faults], Puppet]]:
    """Make servers that do what they are told."""
    made: list[Puppet] = []

    def make(faults: Faults) -> Puppet:
        made.append(Puppet(faults))
        return made[-1]

    yield make
    for each in made:
        each.close()


@pytest.mark.parametrize("program", sorted(native.PROGRAMS))
def test_the_programs_compile_without_a_warning(program: str, tmp_path: Path) -> None:
    assert native.build(program, tmp_path).exists()


def test_everybody_receives_every_message_of_the_chat(
    chat_server: Callable[..., ChatServer],
    database_url: str,
    redis_server: RedisServer,
    workshop: Workshop,
    tmp_path: Path,
) -> None:
    server = chat_server(database_url, redis_server.env, workers=1)
    people = server.people.add(*(f"bench{number}" for number in range(MEMBERS)))
    assert server.people.group(people) == 1, "the generator sends to the conversations 1, 2, 3 …"
    tokens = tmp_path / "tokens"
    with tokens.open("w") as file:
        for person in people:
            api = server.api()
            api.login(person.username, person.password).expect(200)
            file.write(f"{api.cookies['hhc_access']}\n")
    address = f"127.0.0.1:{server.port}"
    target = Target("hhc", address, origin=server.origin, tokens=tokens, watch={"server": server.pid})
    result = native.run(workshop, target, SHORT)
    assert result["live"] == MEMBERS
    assert result["sends"] > 0
    assert result["ack_ms"]["count"] > 0
    assert result["missing"] == 0
    assert server.people.last_seq(1) >= result["sends"]


def test_everybody_receives_every_message_of_the_broadcast(workshop: Workshop) -> None:
    with ending(Broadcast(workshop, "coalesce", cores=CORES)) as server:
        server.start()
        assert isinstance(server, Broadcast)
        result = native.run(workshop, server.target(), SHORT)
    assert result["sends"] > 0
    assert result["missing"] == 0


def test_frames_split_at_any_byte_are_read(workshop: Workshop, puppet: Callable[[Faults], Puppet]) -> None:
    seed = random.SystemRandom().randrange(2**32)
    print(f"seed {seed}")
    dice = random.Random(seed)  # noqa: S311  # to be repeated, not to be guessed

    def split(who: int, number: int, frame: bytes) -> list[bytes]:
        at = sorted(dice.randrange(len(frame)) for _ in range(dice.randrange(4)))
        return [frame[begin:end] for begin, end in zip([0, *at], [*at, len(frame)], strict=True)]

    result = native.run(workshop, puppet(split).target(), BRIEF)
    assert result["sends"] > 0
    assert result["missing"] == 0


def test_a_lost_message_fails_the_run(workshop: Workshop, puppet: Callable[[Faults], Puppet]) -> None:
    server = puppet(lambda who, number, frame: [] if (who, number) == (2, 3) else [frame])
    with pytest.raises(LoadError, match="1 of 3 sockets did not receive exactly"):
        native.run(workshop, server.target(), BRIEF)


def test_a_message_in_place_of_another_fails_the_run(workshop: Workshop, puppet: Callable[[Faults], Puppet]) -> None:
    kept: list[bytes] = []

    def repeat(who: int, number: int, frame: bytes) -> list[bytes]:
        if who != 2:
            return [frame]
        kept.append(frame)
        return [kept[3]] if number == 4 else [frame]

    with pytest.raises(LoadError, match="1 of 3 sockets did not receive exactly"):
        native.run(workshop, puppet(repeat).target(), BRIEF)


def test_a_changed_order_fails_the_run(workshop: Workshop, puppet: Callable[[Faults], Puppet]) -> None:
    held: list[bytes] = []

    def swap(who: int, number: int, frame: bytes) -> list[bytes]:
        if who != 2 or number not in (3, 4):
            return [frame]
        held.append(frame)
        return held[::-1] if number == 4 else []

    with pytest.raises(LoadError, match="out of order"):
        native.run(workshop, puppet(swap).target(), BRIEF)
