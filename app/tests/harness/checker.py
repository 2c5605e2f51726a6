"""The judge: compares what clients were told with what is stored. It trusts neither.

Rules (docs/protocol.md, "What is promised"):

1. stored history is gapless from 1, and holds each (sender, client_id) once;
2. what was acknowledged is stored: same conversation, seq, sender and body; a repeated ack says the same;
3. nothing is stored that nobody sent;
4. on each connection the messages of a conversation are consecutive, from the cursor it resumed with;
5. over all connections of a client each message arrived exactly once (it resumes from what it holds);
6. a received message is the stored one;
7. what one client sent to a conversation is stored in the order it was sent (unless one of them was refused meanwhile);
8. at the end (``complete``) every client holds everything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from harness.client import Connection, Sent
from harness.people import Person, Stored

Key = tuple[int, int]


class Witness(Protocol):
    """Whoever took part and wrote down what it was told: ``ChatClient``, or any other with these."""

    person: Person
    connections: list[Connection]
    acks: list[tuple[str, int, int]]
    sent: dict[str, Sent]
    pending: dict[str, Sent]
    refused: list[dict[str, Any]]


@dataclass
class Verdict:
    """What was found, and how much there was to look at."""

    problems: list[str] = field(default_factory=list)
    stored: int = 0
    acked: int = 0
    received: int = 0
    connections: int = 0

    def __str__(self) -> str:
        return (
            f"{self.stored} stored, {self.acked} acked, {self.received} received on {self.connections} connections: "
            + (f"{len(self.problems)} problems:\n" + "\n".join(self.problems[:25]) if self.problems else "clean")
        )

    def assert_clean(self) -> Verdict:
        """Fail with every problem found."""
        assert not self.problems, str(self)
        return self


def check(
    stored: Sequence[Stored],
    clients: Iterable[Witness],
    *,
    complete: bool = True,
    ordered: bool = True,
    filled: int = 0,
    since: Mapping[int, int] | None = None,
) -> Verdict:
    """Judge one run.

    Args:
        stored: the whole history of the conversations, read from the database after the run.
        clients: everyone who took part.
        complete: all clients stayed to the end and must hold everything after their first cursor.
        ordered: nobody sent a message on two ways at once (the second may overtake what was sent before the first).
        filled: messages of each conversation that were there before the run and that no client sent.
        since: the newest seq of each conversation that was judged before; ``stored`` is what came after it.
    """
    clients = list(clients)
    verdict = Verdict(stored=len(stored))
    say = verdict.problems.append
    rows: dict[Key, Stored] = {(row.conversation_id, row.seq): row for row in stored}
    tops: dict[int, int] = dict(since or {})
    for row in stored:
        expected = tops.get(row.conversation_id, 0) + 1
        if row.seq != expected:
            say(f"stored: conversation {row.conversation_id} has seq {row.seq} where {expected} belongs")
        tops[row.conversation_id] = row.seq
    by_client = Counter((row.sender_id, row.client_id) for row in stored)
    for (sender, client_id), count in by_client.items():
        if count > 1:
            say(f"stored {count} times: {client_id} of {sender}")
    places = {(row.sender_id, row.client_id): row for row in stored}

    wanted = {(client.person.id, client_id): sent for client in clients for client_id, sent in client.sent.items()}
    for row in stored:
        if row.seq <= filled:
            continue
        sent = wanted.get((row.sender_id, row.client_id))
        if sent is None:
            say(f"stored, but nobody sent it: {row}")
        elif (sent.conversation_id, sent.body) != (row.conversation_id, row.body):
            say(f"stored differently from what was sent: {row}, {sent}")

    for client in clients:
        _check_acks(client, places, verdict)
        if ordered:
            _check_order(client, places, verdict)
        seen: Counter[Key] = Counter()
        first: dict[int, int] = {}
        for connection in client.connections:
            verdict.connections += 1
            _check_connection(client, connection, rows, seen, first, verdict)
        for key, count in seen.items():
            if count > 1:
                say(f"{client.person.username} received {count} times: seq {key[1]} of {key[0]}")
        if complete:
            for conversation, start in first.items():
                missing = [s for s in range(start + 1, tops.get(conversation, 0) + 1) if (conversation, s) not in seen]
                if missing:
                    say(f"{client.person.username} never received seqs {missing[:10]} of {conversation}")
            if client.pending:
                say(f"{client.person.username} has {len(client.pending)} sends without an answer")
    return verdict


def _check_acks(client: Witness, places: dict[tuple[int, str], Stored], verdict: Verdict) -> None:
    told: dict[str, tuple[int, int]] = {}
    for client_id, conversation, seq in client.acks:
        verdict.acked += 1
        if told.setdefault(client_id, (conversation, seq)) != (conversation, seq):
            verdict.problems.append(
                f"acknowledged twice, differently: {client_id}: {told[client_id]}, {(conversation, seq)}"
            )
        row = places.get((client.person.id, client_id))
        if row is None:
            verdict.problems.append(f"LOST: acknowledged as seq {seq} of {conversation}, not stored: {client_id}")
        elif (row.conversation_id, row.seq) != (conversation, seq):
            verdict.problems.append(f"acknowledged as seq {seq} of {conversation}, stored as {row}")


def _check_order(client: Witness, places: dict[tuple[int, str], Stored], verdict: Verdict) -> None:
    if client.refused:
        return
    newest: dict[int, int] = {}
    for sent in sorted(client.sent.values(), key=lambda item: item.order):
        row = places.get((client.person.id, sent.client_id))
        if row is None:
            continue
        if row.seq < newest.get(row.conversation_id, 0):
            verdict.problems.append(
                f"out of order: {client.person.username} sent {sent.body!r} later, but it is seq {row.seq} of "
                f"{row.conversation_id}, before {newest[row.conversation_id]}"
            )
        newest[row.conversation_id] = max(row.seq, newest.get(row.conversation_id, 0))


def _check_connection(
    client: Witness,
    connection: Connection,
    rows: dict[Key, Stored],
    seen: Counter[Key],
    first: dict[int, int],
    verdict: Verdict,
) -> None:
    who = f"{client.person.username} on connection {connection.number}"
    at = dict(connection.cursors)
    for conversation, seq in at.items():
        first.setdefault(conversation, seq)
    for frame in connection.frames:
        if frame["type"] == "gap":
            conversation = frame["conversation_id"]
            if at.get(conversation) != frame["after_seq"]:
                verdict.problems.append(f"{who}: a gap from {frame['after_seq']}, but it holds {at.get(conversation)}")
            for seq in range(frame["after_seq"] + 1, frame["last_seq"] + 1):
                seen[(conversation, seq)] += 1  # to be paged over HTTP; a socket must not bring them again
            at[conversation] = frame["last_seq"]
        elif frame["type"] == "resumed":
            for key, seq in frame["last_seqs"].items():
                at.setdefault(int(key), seq)
                first.setdefault(int(key), seq)
        elif frame["type"] == "conversation_added":
            at.setdefault(frame["conversation_id"], frame["last_seq"])
            first.setdefault(frame["conversation_id"], frame["last_seq"])
        elif frame["type"] == "message":
            verdict.received += 1
            key = (frame["conversation_id"], frame["seq"])
            if key[0] not in at:  # no cursor, and not yet told by `resumed`: "from now on" begins here
                at[key[0]] = key[1] - 1
                first.setdefault(key[0], key[1] - 1)
            expected = at[key[0]] + 1
            if key[1] != expected:
                verdict.problems.append(f"{who}: seq {key[1]} of {key[0]} where {expected} belongs")
            at[key[0]] = key[1]
            seen[key] += 1
            row = rows.get(key)
            if row is None:
                verdict.problems.append(f"{who}: {key} is not stored")
            elif (row.sender_id, row.client_id, row.body) != (frame["sender_id"], frame["client_id"], frame["body"]):
                verdict.problems.append(f"{who}: {key} differs from what is stored: {frame}, {row}")
