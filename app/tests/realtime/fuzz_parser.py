"""A campaign of random streams against the parser, with wsproto as the judge: ``make fuzz``.

    python -m realtime.fuzz_parser --streams 1000000 --seed 1

Each stream is parsed whole and in random pieces. Both times the parser must say what wsproto says, raise nothing, hold no
more than its limit allows, and come to an end. A stream is made by its seed and its number alone, so ``--first`` repeats it.
"""

from __future__ import annotations

import argparse
import faulthandler
import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from hockey_hub_chat.realtime.parser import BINARY, CLOSE, PING, PONG, TEXT
from realtime.reference import disagreement, reference_of
from realtime.streams import CONTINUATION, client_frame, parse, split

LIMITS = (0, 20, 125, 126, 200, 200, 1_000, 1_000, 70_000, 70_000)
CHARACTERS = "aZ0 \0\x7f\x80é߿ࠀ€퟿\uffff\U00010000🏒\U0010ffff"
BROKEN = (b"\x80", b"\xc0\xaf", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80", b"\xf0\x9f\x8f", b"\xf4\x90\x80\x80", b"\xff")
CLOSE_CODES = (0, 999, 1000, 1001, 1003, 1004, 1005, 1006, 1007, 1013, 1014, 1015, 1016, 2999, 3000, 4999, 5000, 65_535)
LENGTHS = (0, 0, 1, 2, 3, 4, 5, 10, 50, 124, 125, 126, 127, 128, 200, 1_001, 2**16, 2**31, 2**62, 2**63, 2**64 - 1)
#: Seconds on a few hundred streams, a moment's work, that count as never coming to an end.
HANG_SECONDS = 30


@dataclass(frozen=True)
class Stream:
    """One case."""

    kind: str
    data: bytes
    limit: int
    cuts: list[int]


def _text(rng: random.Random, size: int) -> bytes:
    text = "".join(rng.choices(CHARACTERS, k=size)).encode()
    if rng.random() < 0.05:
        at = rng.randint(0, len(text))
        text = text[:at] + rng.choice(BROKEN) + text[at:]
    return text


def _control(rng: random.Random) -> bytes:
    size = rng.choice((0, 1, 5, 125)) if rng.random() < 0.5 else rng.randint(0, 12)
    return client_frame(rng.choice((PING, PONG)), rng.randbytes(size), key=rng.randbytes(4))


def _message(rng: random.Random) -> bytes:
    """Encode one good message, in one frame or several, with control frames between them."""
    opcode = TEXT if rng.random() < 0.9 else BINARY
    kind = rng.random()
    size = rng.randint(0, 12) if kind < 0.8 else rng.randint(20, 140) if kind < 0.999 else rng.randint(10_000, 70_000)
    payload = _text(rng, size) if opcode == TEXT else rng.randbytes(size)
    fragments = 1 if rng.random() < 0.5 else rng.randint(2, 6)
    parts = split(payload, [rng.randint(0, len(payload)) for _ in range(fragments - 1)])
    stream = b""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        stream += client_frame(CONTINUATION if index else opcode, part, fin=last, key=rng.randbytes(4))
        if not last and rng.random() < 0.2:
            stream += _control(rng)
    return stream


def _close(rng: random.Random) -> bytes:
    code = rng.choice(CLOSE_CODES).to_bytes(2, "big")
    payload = rng.choice((b"", b"\x03", code, code + _text(rng, rng.randint(0, 15))))
    return client_frame(CLOSE, payload, key=rng.randbytes(4))


def _noise(rng: random.Random) -> bytes:
    return rng.randbytes(rng.randint(0, 60))


def _headers(rng: random.Random) -> bytes:
    """Make frames of which each field is probably right."""
    stream = b""
    for _ in range(rng.randint(1, 4)):
        opcode = (
            rng.choice((TEXT, TEXT, CONTINUATION, BINARY, CLOSE, PING, PONG))
            if rng.random() < 0.95
            else rng.getrandbits(4)
        )
        length = rng.choice(LENGTHS)
        shortest = 0 if length < 126 else 2 if length < 2**16 else 8
        length_bytes = shortest if rng.random() < 0.95 else rng.choice([n for n in (2, 8) if n >= shortest])
        payload = _text(rng, min(length, 200) // 2)[: min(length, 200)]
        payload += b"." * (min(length, 200) - len(payload))
        stream += client_frame(
            opcode,
            payload,
            fin=rng.random() < 0.7,
            rsv=0 if rng.random() < 0.97 else rng.getrandbits(3),
            masked=rng.random() < 0.97,
            key=rng.randbytes(4),
            length_bytes=length_bytes,
            announced=length,
        )
    return stream


def _valid(rng: random.Random) -> bytes:
    stream = b""
    for _ in range(rng.randint(1, 4)):
        stream += _message(rng) if rng.random() < 0.8 else _control(rng)
    return stream + _close(rng) if rng.random() < 0.3 else stream


def _mutated(rng: random.Random) -> bytes:
    stream = bytearray(_valid(rng))
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(stream) + 1)
        match rng.randrange(6):
            case 0 | 1 if at < len(stream):
                stream[at] ^= 1 << rng.randrange(8)
            case 2:
                stream[at:at] = rng.randbytes(rng.randint(1, 4))
            case 3:
                del stream[at : at + rng.randint(1, 4)]
            case 4:
                stream[at:at] = stream[at : at + rng.randint(1, 30)]
            case _:
                del stream[at:]
    return bytes(stream)


KINDS: tuple[Callable[[random.Random], bytes], ...] = (_noise, _headers, _headers, _valid, _mutated, _mutated, _mutated)


def make_stream(seed: int, number: int) -> Stream:
    """Make stream ``number`` of a campaign."""
    rng = random.Random(seed << 32 | number)  # noqa: S311  # a test's dice
    make = rng.choice(KINDS)
    data = make(rng)
    cuts = [rng.randint(0, len(data)) for _ in range(rng.randint(0, 5))]
    if rng.random() < 0.05 and len(data) < 300:
        cuts = list(range(1, len(data)))  # byte by byte
    return Stream(make.__name__.strip("_"), data, rng.choice(LIMITS), cuts)


def check(stream: Stream) -> str:
    """Parse one stream, and return how it ended.

    Raises:
        AssertionError: the parser did not do what it must.
    """
    pieces = split(stream.data, stream.cuts)
    ours = parse(pieces, stream.limit)
    assert parse([stream.data], stream.limit) == ours, "whole and in pieces it says different things"
    difference = disagreement(ours, reference_of(pieces if len(pieces) % 2 else [stream.data], stream.limit))
    assert difference is None, difference
    return str(ours.code) if ours.code else "closed" if ours.closed else "open"


def campaign(seed: int, first: int, streams: int) -> Iterator[tuple[str, str]]:
    """Check streams, yielding the kind and the end of each.

    Raises:
        AssertionError: naming the stream.
    """
    for number in range(first, first + streams):
        stream = make_stream(seed, number)
        try:
            end = check(stream)
        except Exception as error:
            what = f"--seed {seed} --first {number} --streams 1\n{stream}"
            raise AssertionError(f"{type(error).__name__}: {error}\n{what}") from error
        yield stream.kind, end


def main() -> None:
    """Run a campaign and show how far it is."""
    parser = argparse.ArgumentParser(description="Random streams against the frame parser, judged by wsproto.")
    parser.add_argument("--streams", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().getrandbits(31))
    parser.add_argument("--first", type=int, default=0, help="number of the first stream")
    options = parser.parse_args()
    print(f"{options.streams} streams from number {options.first}, --seed {options.seed}", flush=True)
    ends: Counter[tuple[str, str]] = Counter()
    started = shown = time.monotonic()
    faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)
    for done, end in enumerate(campaign(options.seed, options.first, options.streams), 1):
        ends[end] += 1
        if done % 256 == 0:
            faulthandler.dump_traceback_later(HANG_SECONDS, exit=True)  # begins to count again
        if done == options.streams or time.monotonic() - shown > 5:
            shown = time.monotonic()
            rate = done / (shown - started)
            print(f"{done:>9} ({100 * done / options.streams:3.0f} %)  {rate:6.0f} a second", flush=True)
    faulthandler.cancel_dump_traceback_later()
    for (kind, verdict), count in sorted(ends.items()):
        print(f"  {kind:8} {verdict:6} {count:>8}")


if __name__ == "__main__":
    main()
