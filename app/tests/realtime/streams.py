"""Byte streams as clients send them, right and wrong, and what the parser makes of them."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from operator import xor

from hockey_hub_chat.realtime.parser import Parser

CONTINUATION = 0
KEY = b"\x37\xfa\x21\x3d"  # the key of RFC 6455 §5.7


def client_frame(
    opcode: int,
    payload: bytes = b"",
    *,
    fin: bool = True,
    rsv: int = 0,
    masked: bool = True,
    key: bytes = KEY,
    length_bytes: int | None = None,
    announced: int | None = None,
) -> bytes:
    """Encode one frame, byte by byte as RFC 6455 §5.2 draws it; everything may be wrong on purpose.

    Args:
        length_bytes: of the extended length: 0, 2 or 8; by default the shortest.
        announced: the length the header tells, when it is not that of ``payload``.
    """
    length = len(payload) if announced is None else announced
    if length_bytes is None:
        length_bytes = 0 if length < 126 else 2 if length < 65_536 else 8
    short = {0: length, 2: 126, 8: 127}[length_bytes]
    header = bytes([fin << 7 | rsv << 4 | opcode, masked << 7 | short])
    header += length.to_bytes(length_bytes, "big") if length_bytes else b""
    if not masked:
        return header + payload
    return header + key + bytes(map(xor, payload, itertools.cycle(key)))


def split(stream: bytes, cuts: Iterable[int]) -> list[bytes]:
    """Return the stream cut at these offsets; what is cut twice gives an empty piece."""
    edges = [0, *sorted(cuts), len(stream)]
    return [stream[start:stop] for start, stop in itertools.pairwise(edges)]


@dataclass
class Outcome:
    """What became of a stream."""

    events: list[tuple[int, bytes]]
    code: int | None
    closed: bool


def parse(pieces: Sequence[bytes], limit: int = 65_536) -> Outcome:
    """Give the pieces to a fresh parser; after each, no more may be held than the limit allows."""
    parser = Parser(limit)
    events: list[tuple[int, bytes]] = []
    for piece in pieces:
        events += parser.receive(piece)
        held = held_bytes(parser)
        assert held <= most_held(limit), f"{held} bytes are held of messages of at most {limit}"
    return Outcome(events, parser.failure[0] if parser.failure else None, parser.peer_closed)


def held_bytes(parser: Parser) -> int:
    """Return the memory the parser keeps between two calls: itself and what it refers to, numbers left out."""
    total = 0
    waiting: list[object] = [parser]
    while waiting:
        holder = waiting.pop()
        total += sys.getsizeof(holder)
        for name in getattr(type(holder), "__slots__", ()):
            value = getattr(holder, name)
            if isinstance(value, (str, bytes, bytearray)) or hasattr(type(value), "__slots__"):
                waiting.append(value)
    return total


def most_held(limit: int) -> int:
    """Return what may be held: a message in a buffer that grows by eighths, a header, a control frame, and the objects."""
    return limit + limit // 8 + 14 + 125 + 700
