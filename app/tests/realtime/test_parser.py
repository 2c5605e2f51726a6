"""The frame parser, rule by rule of RFC 6455, and that pieces of any size change nothing."""

from __future__ import annotations

import random
import sys
import tracemalloc
from collections.abc import Callable

import pytest

from hockey_hub_chat.realtime import parser as parser_module
from hockey_hub_chat.realtime.parser import BINARY, CLOSE, PING, PONG, TEXT, Parser
from realtime.streams import CONTINUATION, Outcome, client_frame, held_bytes, parse, split

LIMIT = 65_536


def code(number: int, reason: bytes = b"") -> bytes:
    """Return the payload of a close frame."""
    return number.to_bytes(2, "big") + reason


def bytewise(stream: bytes) -> list[bytes]:
    """Return the stream byte by byte."""
    return split(stream, range(1, len(stream)))


#: A whole and a torn way to receive the same: each rule holds on the parser's short path and on its long one.
WAYS = pytest.mark.parametrize("pieces_of", [lambda stream: [stream], bytewise], ids=["whole", "byte by byte"])
PiecesOf = Callable[[bytes], list[bytes]]


# --- what is right ---------------------------------------------------------------------------------------------------


@WAYS
def test_the_example_of_the_rfc_is_read(pieces_of: PiecesOf) -> None:
    stream = bytes.fromhex("8185 37fa213d 7f9f4d5158")  # §5.7
    assert parse(pieces_of(stream)) == Outcome([(TEXT, b"Hello")], None, False)


@pytest.mark.parametrize("size", [0, 1, 2, 3, 4, 5, 124, 125, 126, 127, 128, 300, 16_384, 65_535, 65_536])
def test_messages_of_every_length_are_read(size: int) -> None:
    text = (b"abcdefghijklmnopqrstuvwxyz" * (size // 26 + 1))[:size]
    stream = client_frame(TEXT, text, key=b"\x00\xff\x80\x01")
    assert parse([stream]).events == [(TEXT, text)]
    assert parse([stream * 3]).events == [(TEXT, text)] * 3
    assert parse([stream[:-1], stream[-1:] + stream]).events == [(TEXT, text)] * 2
    assert parse(split(stream, range(0, len(stream), 1 + size // 1_000))).events == [(TEXT, text)]


@WAYS
def test_fragments_are_joined_and_control_frames_come_between(pieces_of: PiecesOf) -> None:
    stream = (
        client_frame(TEXT, b"Hock", fin=False)
        + client_frame(PING, b"still there?")
        + client_frame(CONTINUATION, b"", fin=False)
        + client_frame(CONTINUATION, b"ey ", fin=False)
        + client_frame(PONG)
        + client_frame(CONTINUATION, "🏒".encode())
        + client_frame(TEXT, b"next")
    )
    assert parse(pieces_of(stream)) == Outcome(
        [(PING, b"still there?"), (PONG, b""), (TEXT, "Hockey 🏒".encode()), (TEXT, b"next")], None, False
    )


@WAYS
@pytest.mark.parametrize("opcode", [PING, PONG])
@pytest.mark.parametrize("size", [0, 1, 125])
def test_control_frames_bring_their_payload(pieces_of: PiecesOf, opcode: int, size: int) -> None:
    payload = bytes(range(131, 131 + size))  # any bytes: only text is UTF-8
    assert parse(pieces_of(client_frame(opcode, payload))).events == [(opcode, payload)]


@WAYS
def test_a_binary_message_is_told_with_its_first_header_and_not_kept(pieces_of: PiecesOf) -> None:
    first = client_frame(BINARY, b"\xff" * 50, fin=False)
    rest = client_frame(PING) + client_frame(CONTINUATION, b"\xff" * 50) + client_frame(TEXT, b"after")
    assert parse([first[:6]]).events == [(BINARY, b"")]
    assert parse(pieces_of(first + rest)).events == [(BINARY, b""), (PING, b""), (TEXT, b"after")]
    parser = Parser(LIMIT)
    parser.receive(client_frame(BINARY, b"\xff" * 60_000)[:-1])
    assert held_bytes(parser) < 1_000


# --- UTF-8 -----------------------------------------------------------------------------------------------------------

HOSTILE_BUT_RIGHT = "\0\x7f\x80߿ࠀ퟿\ue000\uffff\U00010000\U0010ffff🏒 äöü"


@WAYS
def test_every_kind_of_character_passes_wherever_fragments_cut_it(pieces_of: PiecesOf) -> None:
    text = HOSTILE_BUT_RIGHT.encode()
    assert parse(pieces_of(client_frame(TEXT, text))).events == [(TEXT, text)]
    for cut in range(len(text) + 1):
        stream = client_frame(TEXT, text[:cut], fin=False) + client_frame(CONTINUATION, text[cut:])
        assert parse(pieces_of(stream)).events == [(TEXT, text)]


#: What cannot be the beginning of UTF-8 any more, exactly from its last byte on (RFC 3629).
WRONG_FROM_THE_LAST_BYTE = {
    "lone continuation": b"\x80",
    "overlong of two": b"\xc0",
    "overlong of two, c1": b"\xc1",
    "overlong of three": b"\xe0\x9f",
    "overlong of four": b"\xf0\x8f",
    "surrogate": b"\xed\xa0\x80",  # Python, and so wsproto, waits for the third byte here
    "surrogate cut short": b"\xed\xbfa",
    "too high": b"\xf4\x90",
    "far too high": b"\xf5",
    "ff": b"\xff",
    "no second of two": b"\xc3a",
    "no second of three": b"\xe2a",
    "no third of three": b"\xe2\x82a",
    "no fourth of four": b"\xf0\x9f\x8fa",
    "a character within a character": b"\xe2\x82\xe2",
}


@pytest.mark.parametrize("wrong", WRONG_FROM_THE_LAST_BYTE.values(), ids=WRONG_FROM_THE_LAST_BYTE.keys())
def test_broken_utf8_is_refused_with_its_first_wrong_byte(wrong: bytes) -> None:
    text = "gü".encode() + wrong
    unfinished = client_frame(TEXT, text + b"tail", announced=60_000)[: 8 + len(text)]
    assert parse([unfinished[:-1]]).code is None
    assert parse([unfinished]).code == 1007
    assert parse([unfinished[:-1], unfinished[-1:]]).code == 1007
    assert parse(bytewise(unfinished)).code == 1007
    assert parse([client_frame(TEXT, text)]).code == 1007
    fragments = client_frame(TEXT, text[:-1], fin=False) + client_frame(CONTINUATION, text[-1:], fin=False)
    assert parse([fragments]).code == 1007


@WAYS
@pytest.mark.parametrize("missing", [1, 2, 3])
def test_a_character_cut_short_is_refused_where_the_message_ends(pieces_of: PiecesOf, missing: int) -> None:
    text = "🏒".encode()[:-missing]
    assert parse(pieces_of(client_frame(TEXT, text))).code == 1007
    unfinished = client_frame(TEXT, text, fin=False)
    assert parse(pieces_of(unfinished)).code is None
    assert parse(pieces_of(unfinished + client_frame(CONTINUATION))).code == 1007


# --- broken frames ---------------------------------------------------------------------------------------------------

OPEN = client_frame(TEXT, b"{", fin=False)
BROKEN_FRAMES = {
    **{f"opcode {opcode}": client_frame(opcode) for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15)},
    **{f"reserved bits {rsv}": client_frame(TEXT, b"x", rsv=rsv) for rsv in range(1, 8)},
    "reserved bit of a ping": client_frame(PING, rsv=4),
    "reserved bit of a continuation": OPEN + client_frame(CONTINUATION, b"}", rsv=4),
    "unmasked": client_frame(TEXT, b"x", masked=False),
    "unmasked and long": client_frame(TEXT, b"x" * 300, masked=False),
    "unmasked and empty": client_frame(TEXT, masked=False) + b"\0\0\0\0",
    "unmasked ping": client_frame(PING, masked=False),
    "continuation of nothing": client_frame(CONTINUATION, b"x"),
    "empty continuation of nothing": client_frame(CONTINUATION),
    "continuation of what is finished": OPEN + client_frame(CONTINUATION, b"}") + client_frame(CONTINUATION, b"}"),
    "message inside a message": OPEN + client_frame(TEXT, b"x"),
    "binary inside a text": OPEN + client_frame(BINARY, b"x"),
    "text inside a binary": client_frame(BINARY, b"x", fin=False) + client_frame(TEXT, b"x"),
    "fragmented ping": client_frame(PING, fin=False),
    "fragmented pong": client_frame(PONG, fin=False),
    "fragmented close": client_frame(CLOSE, fin=False),
    "ping of 126 bytes": client_frame(PING, b"x" * 126),
    "close of 126 bytes": client_frame(CLOSE, code(1000, b"x" * 124)),
    "ping with a length of 8 bytes": client_frame(PING, b"x", length_bytes=8),
    "125 in 2 bytes": client_frame(TEXT, b"x" * 125, length_bytes=2),
    "0 in 2 bytes": client_frame(TEXT, b"", length_bytes=2),
    "125 in 8 bytes": client_frame(TEXT, b"x" * 125, length_bytes=8),
    "65535 in 8 bytes": client_frame(TEXT, b"x" * 65_535, length_bytes=8),
    "length of 2**63": client_frame(TEXT, b"x", announced=2**63),
    "length of 2**64 - 1": client_frame(TEXT, b"x", announced=2**64 - 1),
    "close of one byte": client_frame(CLOSE, b"\x03"),
}


@WAYS
@pytest.mark.parametrize("broken", BROKEN_FRAMES.values(), ids=BROKEN_FRAMES.keys())
def test_a_broken_frame_is_refused_with_1002(pieces_of: PiecesOf, broken: bytes) -> None:
    before = client_frame(TEXT, b"before") + client_frame(PING, b"p")
    outcome = parse(pieces_of(before + broken + client_frame(TEXT, b"after")))
    assert outcome.code == 1002 and not outcome.closed
    assert [event for event in outcome.events if event != (BINARY, b"")][:2] == [(TEXT, b"before"), (PING, b"p")]
    assert (TEXT, b"after") not in outcome.events


def test_nothing_is_heard_after_a_failure() -> None:
    parser = Parser(LIMIT)
    assert parser.receive(OPEN + client_frame(PING, masked=False)) == []
    failure = parser.failure
    assert failure is not None and failure[0] == 1002 and failure[1]
    assert parser.receive(client_frame(TEXT, b"x") + client_frame(CLOSE)) == []
    assert parser.failure == failure and not parser.peer_closed
    assert parser._pending is None


# --- close frames ----------------------------------------------------------------------------------------------------


@WAYS
@pytest.mark.parametrize(
    "payload", [b"", code(1000), code(4999, "auf Wiedersehen 🏒".encode()), code(1001, b"x" * 123)]
)
def test_a_close_frame_ends_what_is_heard(pieces_of: PiecesOf, payload: bytes) -> None:
    stream = OPEN + client_frame(CLOSE, payload) + client_frame(PING) + client_frame(TEXT, masked=False)
    assert parse(pieces_of(stream)) == Outcome([(CLOSE, payload)], None, True)
    parser = Parser(LIMIT)
    parser.receive(client_frame(CLOSE, payload))
    assert parser.receive(client_frame(PING)) == [] and parser.failure is None and parser._pending is None


def test_exactly_the_close_codes_that_may_be_sent_are_taken() -> None:
    registered = {1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014}
    for number in range(65_536):
        outcome = parse([client_frame(CLOSE, code(number))])
        if number in registered or 3000 <= number <= 4999:
            assert outcome == Outcome([(CLOSE, code(number))], None, True)
        else:
            assert outcome == Outcome([], 1002, False), number


@WAYS
def test_a_close_reason_is_utf8(pieces_of: PiecesOf) -> None:
    assert parse(pieces_of(client_frame(CLOSE, code(1000, b"\xff")))) == Outcome([], 1007, False)
    assert parse(pieces_of(client_frame(CLOSE, code(1000, "🏒".encode()[:3])))) == Outcome([], 1007, False)


# --- sizes -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@pytest.mark.parametrize("limit", [0, 5, 125, 126, 300, 65_536])
def test_the_limit_is_judged_by_the_header(opcode: int, limit: int) -> None:
    header = client_frame(opcode, b"", announced=limit + 1)
    assert parse([header], limit).code == 1009
    assert parse([header[:-4]], limit).code == 1009, "before the key"
    assert parse(bytewise(header), limit).code == 1009
    assert parse([client_frame(opcode, b"x" * limit)] * 2, limit).code is None


@pytest.mark.parametrize("opcode", [TEXT, BINARY])
@WAYS
def test_fragments_are_added_up(pieces_of: PiecesOf, opcode: int) -> None:
    first = client_frame(opcode, b"x" * 60, fin=False) + client_frame(PING, b"p" * 125)
    whole = first + client_frame(CONTINUATION, b"x" * 30, fin=False) + client_frame(CONTINUATION, b"x" * 10)
    assert parse(pieces_of(whole + whole), 100).code is None
    assert parse(pieces_of(first + client_frame(CONTINUATION, b"", announced=41)), 100).code == 1009
    too_long = client_frame(CONTINUATION, b"x" * 40, fin=False) + client_frame(CONTINUATION, b"x")
    assert parse(pieces_of(first + too_long), 100).code == 1009


def test_an_idle_parser_keeps_nothing() -> None:
    parser = Parser(LIMIT)
    assert sys.getsizeof(parser) <= 64
    stream = (
        OPEN + client_frame(PING, b"x" * 125) + client_frame(CONTINUATION, "🏒".encode() * 1_000) + client_frame(PONG)
    )
    for pieces in ([stream], bytewise(stream), [client_frame(BINARY, b"x" * 1_000)]):
        for piece in pieces:
            parser.receive(piece)
        assert parser._pending is None
        assert held_bytes(parser) == sys.getsizeof(parser)


def test_empty_fragments_cost_no_memory() -> None:
    stream = client_frame(TEXT, b"a", fin=False) + client_frame(CONTINUATION, fin=False) * 20_000
    parser = Parser(LIMIT)
    tracemalloc.start()
    try:
        assert parser.receive(stream) == []
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 5_000, "what is still to be read is copied, or what was read is kept"
    assert parser.receive(client_frame(CONTINUATION, b"z")) == [(TEXT, b"az")]


@pytest.mark.parametrize("character", ["x", "🏒"])
def test_bytes_that_come_one_by_one_are_not_copied_again_and_again(
    monkeypatch: pytest.MonkeyPatch, character: str
) -> None:
    text = (character * LIMIT).encode()[:LIMIT]
    pieces = bytewise(client_frame(TEXT, text))
    unmasked = 0
    unmask = parser_module._unmask

    def counted(payload: bytes, key: bytes) -> bytes:
        nonlocal unmasked
        unmasked += len(payload)
        return unmask(payload, key)

    monkeypatch.setattr(parser_module, "_unmask", counted)
    parser = Parser(LIMIT)
    large = 0
    tracemalloc.start()
    try:
        for piece in pieces[:-1]:
            before, _ = tracemalloc.get_traced_memory()
            tracemalloc.reset_peak()
            parser.receive(piece)
            large += tracemalloc.get_traced_memory()[1] - before > 1_000
    finally:
        tracemalloc.stop()
    assert large < 100, "the buffer grows by eighths; it is not copied for each byte"
    assert parser.receive(pieces[-1]) == [(TEXT, text)]
    assert unmasked == LIMIT


# --- pieces ----------------------------------------------------------------------------------------------------------

RICH = b"".join(
    [
        client_frame(TEXT, b'{"type": "ping"}'),
        client_frame(PING, b"\xff\x00"),
        client_frame(TEXT, HOSTILE_BUT_RIGHT.encode() * 4, key=b"\xff\x00\x80\x7f"),
        client_frame(TEXT, "ä🏒".encode()[:1], fin=False),
        client_frame(PONG),
        client_frame(CONTINUATION, "ä🏒".encode()[1:4], fin=False),
        client_frame(CONTINUATION, fin=False),
        client_frame(CONTINUATION, "ä🏒".encode()[4:]),
        client_frame(TEXT),
        client_frame(BINARY, b"\xfe" * 130, fin=False),
        client_frame(CONTINUATION, b"\xfe"),
        client_frame(TEXT, b"x" * 126),
    ]
)
ENDS = {
    "open": (client_frame(PING), None),
    "closed": (client_frame(CLOSE, code(4000, "später".encode())) + client_frame(PING), None),
    "unmasked": (client_frame(PING, masked=False), 1002),
    "reserved": (client_frame(TEXT, b"x" * 200, rsv=2), 1002),
    "not the shortest length": (client_frame(TEXT, b"x" * 7, length_bytes=8), 1002),
    "out of order": (client_frame(CONTINUATION, b"x" * 200), 1002),
    "bad close": (client_frame(CLOSE, code(1005)), 1002),
    "broken text": (client_frame(TEXT, b"xxxxxx\xed\xa0\x80yyyyy"), 1007),
    "text cut short": (client_frame(TEXT, "xxxxxx🏒".encode()[:-1]), 1007),
    "too long": (client_frame(TEXT, b"x" * 2_001), 1009),
    "fragments too long": (client_frame(TEXT, b"x" * 50, fin=False) + client_frame(CONTINUATION, b"x" * 1_951), 1009),
}


@pytest.mark.parametrize(("end", "verdict"), ENDS.values(), ids=ENDS.keys())
def test_where_a_stream_is_cut_changes_nothing(end: bytes, verdict: int | None) -> None:
    stream = RICH + end
    whole = parse([stream], 2_000)
    assert whole.code == verdict and len(whole.events) >= 8
    assert parse(bytewise(stream), 2_000) == whole
    for cut in range(len(stream) + 1):
        assert parse(split(stream, [cut]), 2_000) == whole, f"cut at {cut}"
    seed = random.SystemRandom().getrandbits(32)
    print(f"seed {seed}")
    rng = random.Random(seed)  # noqa: S311  # a test's dice
    for _ in range(1_000):
        cuts = [rng.randint(0, len(stream)) for _ in range(2)]
        assert parse(split(stream, cuts), 2_000) == whole, f"cut at {cuts}"


def test_where_a_long_frame_is_cut_changes_nothing() -> None:
    text = HOSTILE_BUT_RIGHT.encode() * 2_000
    stream = client_frame(TEXT, text) + client_frame(PING)
    assert len(text) > 65_535
    for cut in [*range(40), *range(len(stream) - 20, len(stream)), *range(1_000, len(stream), 7_919)]:
        assert parse(split(stream, [cut]), 100_000).events == [(TEXT, text), (PING, b"")]
        assert parse(split(stream, [cut, cut + 1]), 100_000).events == [(TEXT, text), (PING, b"")]
