"""The frame parser and wsproto say the same of every stream: good ones, broken ones, torn ones."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from wsproto.connection import Connection, ConnectionType
from wsproto.events import CloseConnection

from hockey_hub_chat.realtime.parser import BINARY, CLOSE, PING, PONG, TEXT
from realtime.fuzz_parser import BROKEN, CHARACTERS, CLOSE_CODES, LIMITS, campaign
from realtime.reference import disagreement, reference_of
from realtime.streams import CONTINUATION, Outcome, client_frame, parse, split

KEYS = st.binary(min_size=4, max_size=4)
TEXTS = st.text(CHARACTERS, max_size=80).map(str.encode)
PAYLOADS = st.one_of(
    TEXTS,
    st.tuples(TEXTS, st.sampled_from(BROKEN), TEXTS).map(b"".join),
    st.integers(120, 130).map(lambda size: b"x" * size),
)
CLOSES = st.one_of(
    st.sampled_from([b"", b"\x03"]),
    st.tuples(st.sampled_from(CLOSE_CODES).map(lambda code: code.to_bytes(2, "big")), PAYLOADS).map(
        lambda parts: b"".join(parts)[:125]
    ),
)
CONTROLS = st.builds(client_frame, st.sampled_from([PING, PONG]), st.binary(max_size=125), key=KEYS)


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    """One good message in fragments, control frames between them; its text may be broken."""
    opcode = draw(st.sampled_from([TEXT, TEXT, TEXT, BINARY]))
    payload = draw(PAYLOADS)
    parts = split(payload, draw(st.lists(st.integers(0, len(payload)), max_size=4)))
    stream = b""
    for index, part in enumerate(parts):
        last = index == len(parts) - 1
        stream += client_frame(CONTINUATION if index else opcode, part, fin=last, key=draw(KEYS))
        if not last:
            stream += b"".join(draw(st.lists(CONTROLS, max_size=1)))
    return stream


def odd(opcodes: st.SearchStrategy[int]) -> st.SearchStrategy[bytes]:
    """One frame with any field wrong."""
    return st.builds(
        client_frame,
        opcodes,
        PAYLOADS,
        fin=st.booleans(),
        rsv=st.sampled_from([0, 0, 0, 1, 2, 4, 7]),
        masked=st.sampled_from([True, True, True, False]),
        key=KEYS,
        length_bytes=st.sampled_from([None, None, None, 8]),
        announced=st.one_of(st.none(), st.none(), st.integers(0, 125)),
    )


GOOD = st.one_of(messages(), CONTROLS)
STREAMS = st.builds(
    lambda good, end, rest: b"".join(good) + end + b"".join(rest),
    st.lists(GOOD, max_size=4),
    st.one_of(
        st.just(b""),
        st.builds(client_frame, st.just(CLOSE), CLOSES, key=KEYS),
        odd(st.sampled_from([CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG])),
        odd(st.integers(0, 15)),
        st.binary(max_size=40),
    ),
    st.lists(GOOD, max_size=2),
)


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A stream with a few bytes changed, lost, or put in."""
    stream = bytearray(draw(STREAMS))
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(stream)))
        stream[at : at + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(stream)


def assert_same(data: st.DataObject, stream: bytes) -> Outcome:
    """Assert that the parser, at any split, and wsproto agree on the stream, and on what a connection cut early saw of it."""
    limit = data.draw(st.sampled_from(LIMITS), "limit")
    stream = stream[: data.draw(st.one_of(st.just(len(stream)), st.integers(0, len(stream))), "length")]
    pieces = split(stream, data.draw(st.lists(st.integers(0, len(stream)), max_size=6), "cuts"))
    ours = parse(pieces, limit)
    assert parse([stream], limit) == ours
    assert disagreement(ours, reference_of(pieces, limit)) is None
    return ours


CAMPAIGN = settings(max_examples=300, deadline=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow])


@CAMPAIGN
@given(data=st.data(), good=st.lists(GOOD, max_size=6))
def test_good_frames_are_read_as_wsproto_reads_them(data: st.DataObject, good: list[bytes]) -> None:
    assert assert_same(data, b"".join(good)).code != 1002


@CAMPAIGN
@given(data=st.data(), stream=STREAMS)
def test_what_is_broken_is_refused_as_wsproto_refuses_it(data: st.DataObject, stream: bytes) -> None:
    assert_same(data, stream)


@CAMPAIGN
@given(data=st.data(), stream=mutations())
def test_changed_bytes_are_judged_as_wsproto_judges_them(data: st.DataObject, stream: bytes) -> None:
    assert_same(data, stream)


def test_a_few_thousand_random_streams_are_judged_as_wsproto_judges_them() -> None:
    """The beginning of ``make fuzz``."""
    seed = random.SystemRandom().getrandbits(31)
    print(f"--seed {seed}")
    ends = Counter(end for _, end in campaign(seed, 0, 4_000))
    assert set(ends) == {"open", "closed", "1002", "1007", "1009"}, ends


def code_of(connection: Connection, data: bytes) -> int | None:
    """Return the code wsproto, as it comes, would close with."""
    connection.receive_data(data)
    return next((int(event.code) for event in connection.events() if isinstance(event, CloseConnection)), None)


@pytest.mark.parametrize(
    ("stream", "theirs", "ours"),
    [
        # 1014 is registered (RFC 6455 §11.7) and may be sent (§7.4.2)
        (client_frame(CLOSE, (1014).to_bytes(2, "big")), 1002, Outcome([(CLOSE, b"\x03\xf6")], None, True)),
        # what cannot become right is refused with its header
        (client_frame(CONTINUATION, b"x")[:-1], None, Outcome([], 1002, False)),
        # nothing is too large for wsproto
        (client_frame(TEXT, announced=65_537), None, Outcome([], 1009, False)),
    ],
    ids=["1014", "continuation of nothing", "size"],
)
def test_where_wsproto_differs_is_known(stream: bytes, theirs: int | None, ours: Outcome) -> None:
    """Fails when wsproto changes: then ``realtime.reference`` may put right less."""
    assert code_of(Connection(ConnectionType.SERVER), stream) == theirs
    assert parse([stream]) == ours


@pytest.mark.parametrize(
    "wrong", [Outcome([], 1002, False), Outcome([(BINARY, b"")], None, False), Outcome([], 1007, False)]
)
def test_the_reference_does_not_take_a_wrong_verdict_for_an_early_one(wrong: Outcome) -> None:
    harmless: dict[str, Any] = {
        "nothing": b"",
        "a frame": client_frame(TEXT, b"x", fin=False),
        "half a key": client_frame(TEXT, b"", fin=False)[:-2],
        "half a payload": client_frame(TEXT, b"xx", fin=False)[:-1],
        "a ping's header": client_frame(PING, b"x" * 100)[:6],
    }
    for name, stream in harmless.items():
        assert disagreement(parse([stream]), reference_of([stream], 65_536)) is None, name
        assert disagreement(wrong, reference_of([stream], 65_536)) is not None, name
