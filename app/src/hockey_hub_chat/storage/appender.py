"""The write path on PostgreSQL: a batch of messages in one round trip, on one connection that does nothing else.

Two prepared statements travel together and are one transaction, because nothing but a Sync ends it (PostgreSQL documentation,
"Pipelining" of the extended query protocol). The first locks the conversations. The second does the rest, and being a statement
of its own it sees what was committed while the first waited: a removal, a retry that came in through another node. The rules are
those of ``messages.append_batch``, and its tests are run on both.

Arguments and results are put into PostgreSQL's binary array form by hand, a batch at a time: psycopg's adaptation, a value at a
time, costs seven times as much. Waits through gevent. It repeats nothing: that is the writer's.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

import gevent
import psycopg
from psycopg import pq

from hockey_hub_chat.errors import ChatError
from hockey_hub_chat.storage import messages
from hockey_hub_chat.storage.engine import is_demotion
from hockey_hub_chat.storage.messages import NewMessage, StoredMessage
from hockey_hub_chat.storage.tables import UTC

#: The plans are made once, when tables may still be small, and must hold when they are not: every access of this connection is by a
#: key. So the planner is left no other way (a small table invites it to read all of it), and nothing is compiled for it.
_SESSION = """
SET plan_cache_mode = force_generic_plan;
SET enable_seqscan = off; SET enable_bitmapscan = off; SET enable_nestloop = off; SET enable_mergejoin = off; SET jit = off;
"""

# In ascending id, so that batches of several nodes never wait for each other in a ring. FOR NO KEY UPDATE: writers take turns,
# while inserts that merely refer to the row (memberships) are not held up.
_LOCK = """
SELECT count(*) FROM (SELECT FROM conversations WHERE id = ANY($1) ORDER BY id FOR NO KEY UPDATE) locked
"""

# Answers one row: the time of what is stored; per message its seq, 0 (stored nothing) or -1 (stored before); of those stored
# before their number in the batch, seq, time, and whether it was the same message. Scalar subqueries and LIMIT keep each probe
# an index probe. "last_seq" is null for what is not to be stored, and count() passes over nulls.
_APPEND = """
WITH wanted AS MATERIALIZED (
  SELECT w.n, w.conversation_id, w.sender_id, w.client_id, w.body, first.seq AS first_seq, first.created_at AS first_at,
    first.conversation_id = w.conversation_id AND first.body = w.body AS is_same,
    CASE WHEN first.seq IS NULL AND w.is_echo IS NOT TRUE AND (
      SELECT p.left_at IS NULL FROM conversation_participants p
      WHERE p.conversation_id = w.conversation_id AND p.user_id = w.sender_id
    ) THEN (SELECT c.last_seq FROM conversations c WHERE c.id = w.conversation_id) END AS last_seq
  FROM unnest($1, $2, $3, $4, $5) WITH ORDINALITY AS w(conversation_id, sender_id, client_id, body, is_echo, n)
  LEFT JOIN LATERAL (
    SELECT m.conversation_id, m.seq, m.body, m.created_at FROM messages m
    WHERE m.sender_id = w.sender_id AND m.client_id = w.client_id LIMIT 1
  ) first ON true
), numbered AS MATERIALIZED (
  SELECT w.*, last_seq + count(last_seq) OVER (PARTITION BY conversation_id ORDER BY n ROWS UNBOUNDED PRECEDING) AS seq
  FROM wanted w
), clock AS MATERIALIZED (
  SELECT clock_timestamp() AS now
), inserted AS (
  INSERT INTO messages (conversation_id, seq, sender_id, client_id, body, created_at)
  SELECT conversation_id, seq, sender_id, client_id, body, now FROM numbered, clock WHERE seq IS NOT NULL
), moved AS (
  UPDATE conversations c SET last_seq = newest.seq
  FROM (SELECT conversation_id, max(seq) AS seq FROM numbered WHERE seq IS NOT NULL GROUP BY conversation_id) newest
  WHERE c.id = newest.conversation_id AND c.id = ANY($6)
)
SELECT (SELECT now FROM clock),
  array_agg(coalesce(seq, CASE WHEN first_seq IS NULL THEN 0 ELSE -1 END) ORDER BY n),
  array_agg(n) FILTER (WHERE first_seq IS NOT NULL),
  array_agg(first_seq) FILTER (WHERE first_seq IS NOT NULL),
  array_agg(first_at) FILTER (WHERE first_seq IS NOT NULL),
  array_agg(is_same) FILTER (WHERE first_seq IS NOT NULL)
FROM numbered
"""

# The same for a message that comes alone, which most do and whose sender waits for nothing else: half the work. Answers nothing
# when it is not to be stored; the statement for many then says why.
_LOCK_ONE = "SELECT FROM conversations WHERE id = $1 FOR NO KEY UPDATE"
_APPEND_ONE = """
WITH moved AS (
  UPDATE conversations c SET last_seq = c.last_seq + 1
  WHERE c.id = $1
    AND (SELECT p.left_at IS NULL FROM conversation_participants p WHERE p.conversation_id = $1 AND p.user_id = $2)
    AND NOT EXISTS (SELECT FROM messages m WHERE m.sender_id = $2 AND m.client_id = $3)
  RETURNING c.last_seq
)
INSERT INTO messages (conversation_id, seq, sender_id, client_id, body, created_at)
SELECT $1, last_seq, $2, $3, $4, clock_timestamp() FROM moved RETURNING created_at, seq
"""

_PREPARE = (
    f"{_SESSION}PREPARE hhc_lock (bigint[]) AS {_LOCK};"
    f"PREPARE hhc_append (bigint[], bigint[], uuid[], text[], boolean[], bigint[]) AS {_APPEND};"
    f"PREPARE hhc_lock_one (bigint) AS {_LOCK_ONE};"
    f"PREPARE hhc_append_one (bigint, bigint, uuid, text) AS {_APPEND_ONE};"
)
#: A lock and an append by name.
_Pair = tuple[bytes, bytes]
_MANY: _Pair = (b"hhc_lock", b"hhc_append")
_ONE: _Pair = (b"hhc_lock_one", b"hhc_append_one")

_BINARY = 1
# Types by number, as an array names the type of its elements (src/include/catalog/pg_type.dat).
_OF_BOOL, _OF_INT8, _OF_TEXT, _OF_UUID = 16, 20, 25, 2950
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # where PostgreSQL counts microseconds from
_READ, _WRITE = 1, 2  # gevent's names for what a watcher waits for

_STORED_NOTHING, _STORED_BEFORE = 0, -1


class Appender:
    """Stores batches; for one greenlet, which gives one batch after the other.

    Args:
        connect: opens a connection with the application's parameters.
    """

    def __init__(self, connect: Callable[[], psycopg.Connection[Any]]) -> None:
        self._connect = connect
        self._line: _Line | None = None

    def append(self, batch: Sequence[NewMessage]) -> list[StoredMessage | ChatError]:
        """Store messages in one transaction, in the order given; see ``messages.append_batch`` for what result ``i`` may be.

        Raises:
            psycopg.Error: nothing is known to be stored; ``engine.is_transient`` and ``engine.is_conflict`` tell what to do.
        """
        results: list[StoredMessage | ChatError] = []
        while len(results) < len(batch):
            results += self._append_some(batch[len(results) :] if results else batch)
        return results

    def close(self) -> None:
        """Let go of the connection; the next batch opens another."""
        if self._line is not None:
            self._line.close()
            self._line = None

    def _append_some(self, batch: Sequence[NewMessage]) -> list[StoredMessage | ChatError]:
        """Store the messages up to the first one whose fate only the next transaction can tell."""
        firsts: dict[tuple[int, int], int] = {}
        echoes: dict[int, int] = {}  # a repetition inside the batch, and what it repeats
        spoiled: set[int] = set()
        for number, new in enumerate(batch):
            if not messages.is_storable(new.body):
                spoiled.add(number)
                continue
            first = firsts.setdefault((new.sender_id, new.client_id.int), number)
            if first != number:
                if batch[first].conversation_id != new.conversation_id:
                    # This key names another conversation's message, or is free again when that one may not be stored.
                    batch = batch[:number]
                    break
                echoes[number] = first
        if not spoiled:
            return self._run(batch, echoes) if len(batch) > 1 else [self._run_one(batch[0])]
        kept = [number for number in range(len(batch)) if number not in spoiled]
        results: list[StoredMessage | ChatError] = [messages.not_storable() for _ in batch]
        if kept:
            place = {number: index for index, number in enumerate(kept)}
            moved = {place[number]: place[first] for number, first in echoes.items()}
            for number, result in zip(kept, self._run([batch[number] for number in kept], moved), strict=True):
                results[number] = result
        return results

    def _run_one(self, new: NewMessage) -> StoredMessage | ChatError:
        room = _INT8.pack(new.conversation_id)
        row = self._ask(
            _ONE, [room], [room, _INT8.pack(new.sender_id), new.client_id.int.to_bytes(16, "big"), new.body.encode()]
        )
        if not row:
            return self._run([new], {})[0]
        now, seq = (int.from_bytes(value or b"", "big", signed=True) for value in row)
        return StoredMessage(new.conversation_id, seq, new.sender_id, new.client_id, new.body, _time(now))

    def _run(self, batch: Sequence[NewMessage], echoes: dict[int, int]) -> list[StoredMessage | ChatError]:
        rooms = [new.conversation_id for new in batch]
        locked = _int8s(sorted(set(rooms)))
        row = self._ask(
            _MANY,
            [locked],
            [
                _int8s(rooms),
                _int8s([new.sender_id for new in batch]),
                _uuids([new.client_id.int for new in batch]),
                _texts([new.body for new in batch]),
                _bools([number in echoes for number in range(len(batch))]) if echoes else None,
                locked,
            ],
        )
        now = _time(int.from_bytes(row[0] or b"", "big", signed=True))
        seqs = _read_int8s(row[1])
        results: list[StoredMessage | ChatError] = [
            StoredMessage(room, seq, sender_id, client_id, body, now)
            for (room, sender_id, client_id, body), seq in zip(batch, seqs, strict=True)
        ]
        if min(seqs) > 0:
            return results
        before = {
            n - 1: (seq, _time(at), same)
            for n, seq, at, same in zip(*map(_read_int8s, row[2:5]), _read_bools(row[5]), strict=True)
        }
        for number, seq in enumerate(seqs):
            new = batch[number]
            if seq == _STORED_BEFORE:
                first_seq, created_at, is_same = before[number]
                first = StoredMessage(
                    new.conversation_id, first_seq, new.sender_id, new.client_id, new.body, created_at
                )
                results[number] = first._replace(is_new=False) if is_same else messages.conflict(new)
            elif seq == _STORED_NOTHING:
                echoed = results[echoes[number]] if number in echoes else None
                results[number] = (
                    messages.answer_retry(new, echoed) if isinstance(echoed, StoredMessage) else messages.not_a_member()
                )
        return results

    def _ask(self, pair: _Pair, lock: Sequence[bytes], append: Sequence[bytes | None]) -> list[bytes | None]:
        if self._line is None:
            self._line = _Line(self._connect())
        try:
            return self._line.run(pair, lock, append)
        except BaseException as error:
            # Kept only when the server answered to the end and is still the primary; a wait broken off leaves answers behind.
            if not self._line.is_quiet or is_demotion(error):
                self.close()
            raise


class _Line:
    """One connection in pipeline mode, and how to wait for it."""

    def __init__(self, connection: psycopg.Connection[Any]) -> None:
        self._connection = connection
        self.is_quiet = False  # nothing is under way
        try:
            connection.autocommit = True
            connection.execute(_PREPARE)
            self._pg = connection.pgconn
            self._pg.nonblocking = 1
            self._pg.enter_pipeline_mode()
            self._hub = gevent.get_hub()
            self._readable = self._hub.loop.io(self._pg.socket, _READ)
        except BaseException:
            connection.close()
            raise

    def close(self) -> None:
        """Close it, whatever is under way."""
        self._readable.close()
        self._connection.close()

    def run(self, pair: _Pair, lock: Sequence[bytes], append: Sequence[bytes | None]) -> list[bytes | None]:
        """Run both statements as one transaction and return the columns of the second's row, none where it has none.

        Raises:
            psycopg.Error: the transaction failed, or the connection.
        """
        pg = self._pg
        self.is_quiet = False
        pg.send_query_prepared(pair[0], lock, [_BINARY], _BINARY)
        pg.send_query_prepared(pair[1], append, [_BINARY] * len(append), _BINARY)
        pg.pipeline_sync()
        self._flush()
        row: list[bytes | None] = []
        failure: psycopg.Error | None = None
        while True:
            while pg.is_busy():
                self._hub.wait(self._readable)
                pg.consume_input()
            result = pg.get_result()
            if result is None:  # the end of one statement's answer, or of everything
                if pg.status != pq.ConnStatus.OK:
                    raise failure or psycopg.OperationalError("the connection was lost")
                continue
            if result.status == pq.ExecStatus.PIPELINE_SYNC:
                break
            if result.status == pq.ExecStatus.TUPLES_OK:
                row = [result.get_value(0, column) for column in range(result.nfields)] if result.ntuples else []
            elif result.status == pq.ExecStatus.FATAL_ERROR:
                failure = _error_of(result)
        self.is_quiet = True
        if failure is not None:
            raise failure
        return row

    def _flush(self) -> None:
        """Send everything; a server that answers while we send is heard, or both would wait for the other."""
        while self._pg.flush():
            watcher = self._hub.loop.io(self._pg.socket, _READ | _WRITE)
            try:
                self._hub.wait(watcher)
            finally:
                watcher.close()
            self._pg.consume_input()


def _error_of(result: pq.abc.PGresult) -> psycopg.Error:
    """Return a result's error by its SQLSTATE, with the primary message only: the detail may hold what people write."""
    state = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode()
    said = (result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or result.error_message or b"").decode(
        errors="replace"
    )
    try:
        return psycopg.errors.lookup(state)(said)
    except KeyError:  # none at all: libpq itself lost the connection
        return psycopg.OperationalError(said)


def _time(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


# --- arrays in PostgreSQL's binary form (array_send and array_recv of src/backend/utils/adt/arrayfuncs.c) ---------------------
# dimensions, whether there are nulls, type; then length and lower bound of the dimension; then each element after its size.

_HEAD = struct.Struct("!iiIii")
_SIZE = struct.Struct("!i")
_INT8 = struct.Struct("!q")


def _head(type_number: int, count: int) -> bytes:
    return _HEAD.pack(1, 0, type_number, count, 1)


@lru_cache(maxsize=1024)
def _int8_layout(count: int) -> struct.Struct:
    return struct.Struct("!" + "iq" * count)


@lru_cache(maxsize=1024)
def _int8_values(count: int) -> struct.Struct:
    return struct.Struct("!" + "4xq" * count)


def _int8s(values: Sequence[int]) -> bytes:
    pairs = [8] * (2 * len(values))
    pairs[1::2] = values
    return _head(_OF_INT8, len(values)) + _int8_layout(len(values)).pack(*pairs)


def _uuids(values: Iterable[int]) -> bytes:
    encoded = [value.to_bytes(16, "big") for value in values]
    size = _SIZE.pack(16)
    return b"".join((_head(_OF_UUID, len(encoded)), size, size.join(encoded)))


def _texts(values: Sequence[str]) -> bytes:
    parts = [_head(_OF_TEXT, len(values))]
    for value in values:
        encoded = value.encode()
        parts.append(_SIZE.pack(len(encoded)))
        parts.append(encoded)
    return b"".join(parts)


def _bools(values: Sequence[bool]) -> bytes:
    size = _SIZE.pack(1)
    return _head(_OF_BOOL, len(values)) + b"".join(size + bytes((value,)) for value in values)


def _read_int8s(data: bytes | None) -> tuple[int, ...]:
    """Return the elements of an array of bigint or timestamptz without nulls; none of a null."""
    if data is None:
        return ()
    return _int8_values(_HEAD.unpack_from(data)[3]).unpack_from(data, _HEAD.size)


def _read_bools(data: bytes | None) -> list[bool]:
    return [value == 1 for value in data[_HEAD.size + 4 :: 5]] if data is not None else []
