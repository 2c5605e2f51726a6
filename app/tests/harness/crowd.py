"""Thousands of sockets in one thread: an epoll loop that does what docs/protocol.md asks of a client, compactly.

A member keeps its cursors and a few numbers, never the frames. What can be checked as it arrives is checked then: each message
of a conversation is the next one, also over reconnects, and everybody is told the same. What is wrong is in ``problems``.
It knows nothing of the application's code.
"""

from __future__ import annotations

import contextlib
import errno
import heapq
import itertools
import os
import random
import select
import socket
import struct
import threading
import time
import uuid
from collections import Counter, OrderedDict, deque
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any

import orjson

from harness.crowd_member import Close, Ghost, How, Member, client_frame, handshake, next_frame
from harness.process import wait_until
from harness.raw import CLOSE, PING, PONG, TEXT

#: Where the sockets come from: each loopback address has ports of its own.
SOURCES = tuple(f"127.0.0.{n}" for n in range(2, 22))
#: linux/in.h: choose the port at connect(), so that the same one serves for several destinations.
IP_BIND_ADDRESS_NO_PORT = 24
#: Contents of messages remembered to compare what others are told.
REMEMBERED = 5_000
READ_BYTES = 262_144
#: Seconds from connect to `resumed` after which a socket is given up.
OPENING_SECONDS = 60.0
MAX_BACKOFF_SECONDS = 5.0
#: What is wrong with many is told of the first few.
MAX_PROBLEMS = 200


class Crowd:
    """Many members of one site.

    Args:
        address: (host, port) of the server.
        origin: its Origin.
        seed: of the waiting times.
        opening: handshakes and resumes on their way at once.
    """

    def __init__(self, address: tuple[str, int], origin: str, *, seed: int = 0, opening: int = 100) -> None:
        self.address = address
        self.origin = origin
        self.members: list[Member] = []
        self.ghosts: dict[int, Ghost] = {}
        self.problems: list[str] = []
        #: client_id -> (conversation, seq)
        self.acks: dict[str, tuple[int, int]] = {}
        self.closes: Counter[int | None] = Counter()
        #: (conversation, seq) -> when it last reached a live member; of the newest messages
        self.last_heard: dict[tuple[int, int], float] = {}
        self.failure: BaseException | None = None
        self._contents: OrderedDict[tuple[int, int], tuple[int, str, int]] = OrderedDict()
        self._dice = random.Random(seed)  # noqa: S311  # waiting times, not secrets
        self._limit = opening
        self._opening: set[Member] = set()
        self._ready: deque[Member] = deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._by_fd: dict[int, Member] = {}
        self._orders: deque[Callable[[], None]] = deque()
        self._wake = os.eventfd(0, os.EFD_NONBLOCK)
        self._epoll = select.epoll()
        self._epoll.register(self._wake, select.EPOLLIN)
        self._stopping = False
        self._now = time.monotonic()
        self._last: tuple[bytes, dict[str, Any]] = (b"", {})
        self._thread = threading.Thread(target=self._run, name="crowd", daemon=True)

    # --- what tests call ---------------------------------------------------------------------------------------------

    def __enter__(self) -> Crowd:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping = True
        self._poke()
        self._thread.join(30)
        for sock in [member.sock for member in self.members] + [ghost.sock for ghost in self.ghosts.values()]:
            if sock is not None:
                sock.close()
        self._epoll.close()
        os.close(self._wake)
        if kind is None and self.failure is not None:
            raise self.failure

    def join(
        self,
        person_id: int,
        token: str,
        cursors: dict[int, int] | None = None,
        *,
        receive_buffer: int | None = None,
        stalls: bool = False,
        returns: bool = True,
    ) -> Member:
        """Add a member, who connects as soon as it is its turn.

        Args:
            cursors: the newest seqs it holds; None is "only from now on".
            receive_buffer: bytes the kernel keeps for it unread (it doubles them).
            stalls: stop reading once resumed.
            returns: reconnect and resume after a close.
        """
        member = Member(len(self.members), person_id, token, dict(cursors or {}), receive_buffer, stalls, returns)
        self.members.append(member)
        self._order(lambda: self._ready.append(member))
        return member

    def leave(self, member: Member, how: How = "clean", *, back_after: float | None = None) -> None:
        """End the member's connection.

        Args:
            how: clean (close frame), reset (RST), half (our direction only), mute (says and reads nothing any more).
            back_after: seconds until it connects again; None is never.
        """
        self._order(lambda: self._leave(member, how, back_after))

    def read_on(self, member: Member) -> None:
        """Let a stalled member read again, for good."""

        def go() -> None:
            member.stalls = False
            if member.state == "stalled":
                member.state = "live"
                self._epoll.register(member.fd, select.EPOLLIN)
                self._feed(member, b"")

        self._order(go)

    def send(self, member: Member, conversation: int, body: str) -> str:
        """Send when live, and again after every reconnect until answered; returns the client_id."""
        client_id = str(uuid.uuid4())

        def go() -> None:
            member.pending[client_id] = (conversation, body)
            if member.state == "live":
                self._transmit(member, client_id)

        self._order(go)
        return client_id

    def count(self, state: str = "live") -> int:
        """Return how many members are in a state."""
        return sum(member.state == state for member in self.members)

    def wait(self, check: Callable[[], object], what: str, timeout: float) -> None:
        """Wait until ``check`` holds.

        Raises:
            AssertionError: naming ``what``, and the first problems.
        """
        try:
            wait_until(lambda: self.failure is not None or check(), timeout, what, interval=0.1)
        except AssertionError as error:
            states = Counter(member.state for member in self.members)
            raise AssertionError(f"{error}; {dict(states)}, closed {dict(self.closes)}, {self.problems[:5]}") from None
        if self.failure is not None:
            raise AssertionError("the crowd failed") from self.failure

    def wait_live(self, timeout: float, members: Iterable[Member] | None = None) -> None:
        """Wait until these (or all) are connected and resumed; who stalls counts."""
        wanted = list(self.members if members is None else members)
        self.wait(lambda: all(m.state in ("live", "stalled") for m in wanted), f"{len(wanted)} members live", timeout)

    def wait_seq(self, conversation: int, seq: int, timeout: float, members: Iterable[Member] | None = None) -> None:
        """Wait until these (or all) hold everything of a conversation up to ``seq``."""
        wanted = list(self.members if members is None else members)
        self.wait(
            lambda: all(m.cursors.get(conversation, -1) >= seq for m in wanted),
            f"{len(wanted)} members hold {seq} of {conversation}",
            timeout,
        )

    def assert_same(self, stored: Iterable[Any]) -> None:
        """Assert that what was delivered, as far as it is remembered, is what is stored (rows of ``People.history``)."""
        for row in stored:
            told = self._contents.get((row.conversation_id, row.seq))
            same = (row.sender_id, row.client_id, hash(row.body))
            assert told is None or told == same, f"seq {row.seq} of {row.conversation_id} was delivered differently"

    # --- the loop ----------------------------------------------------------------------------------------------------

    def _order(self, action: Callable[[], None]) -> None:
        self._orders.append(action)
        self._poke()

    def _poke(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.eventfd_write(self._wake, 1)

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (self._now + seconds, next(self._numbers), action))

    def _run(self) -> None:
        try:
            self._later(1.0, self._give_up_old)
            while not self._stopping:
                wait = self._timers[0][0] - time.monotonic() if self._timers else 1.0
                found = self._epoll.poll(max(0.0, wait), 1024)
                self._now = time.monotonic()
                for fd, events in found:
                    if fd == self._wake:
                        os.eventfd_read(self._wake)
                    elif (member := self._by_fd.get(fd)) is not None:
                        self._on_event(member, events)
                    elif (ghost := self.ghosts.get(fd)) is not None:
                        self._on_ghost(fd, ghost, events)
                while self._orders:
                    self._orders.popleft()()
                while self._timers and self._timers[0][0] <= self._now:
                    heapq.heappop(self._timers)[2]()
                while self._ready and len(self._opening) < self._limit:
                    self._open(self._ready.popleft())
        except BaseException as error:  # handed to the test by wait() and at the end
            self.failure = error

    def _say(self, problem: str) -> None:
        if len(self.problems) < MAX_PROBLEMS:
            self.problems.append(problem)

    # --- opening and closing -----------------------------------------------------------------------------------------

    def _open(self, member: Member) -> None:
        if member.state != "away" or member.gone:
            return
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        sock.setblocking(False)
        if member.receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, member.receive_buffer)
        sock.setsockopt(socket.IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, 1)
        sock.bind((SOURCES[member.number % len(SOURCES)], 0))
        trouble = sock.connect_ex(self.address)
        member.sock, member.fd = sock, sock.fileno()
        member.state, member.upgraded, member.inbox, member.outbox = "opening", False, b"", b""
        member.opened_at, member.drain_ms = self._now, None
        member.connections += 1
        self._by_fd[member.fd] = member
        self._opening.add(member)
        self._epoll.register(member.fd, select.EPOLLIN | select.EPOLLOUT)
        if trouble not in (0, errno.EINPROGRESS):
            self._ended(member, None)
            return
        member.outbox = handshake(self.address, self.origin, member.token)

    def _give_up_old(self) -> None:
        for member in [m for m in self._opening if self._now - m.opened_at > OPENING_SECONDS]:
            self._say(f"member {member.number} did not get to `resumed` within {OPENING_SECONDS:g} s")
            self._ended(member, None)
        self._later(1.0, self._give_up_old)

    def _release(self, member: Member) -> socket.socket | None:
        """Take a member's socket away from it."""
        sock, member.sock = member.sock, None
        if sock is not None:
            self._by_fd.pop(member.fd, None)
            self._opening.discard(member)
            with contextlib.suppress(FileNotFoundError):  # a stalled one is not registered
                self._epoll.unregister(member.fd)
        member.state = "away"
        return sock

    def _ended(self, member: Member, code: int | None) -> None:
        """Note that the server ended a connection, or never took it; come back if that is wanted."""
        reached = member.upgraded
        sock = self._release(member)
        if sock is not None:
            sock.close()
        if reached:
            self.closes[code] += 1
            member.closes.append(Close(code, self._now, member.drain_ms))
        if not member.returns:
            return
        if member.drain_ms is not None:  # whether or not 1012 followed
            wait = member.drain_ms / 1000
        elif code == 4408:
            wait = 0.0
        else:
            wait = self._dice.uniform(0, member.backoff)
            member.backoff = min(MAX_BACKOFF_SECONDS, member.backoff * 2)
        self._later(wait, lambda: self._ready.append(member))

    def _leave(self, member: Member, how: How, back_after: float | None) -> None:
        sock = self._release(member)
        member.returns = back_after is not None
        member.gone = back_after is None
        if back_after is not None:
            self._later(back_after, lambda: self._ready.append(member))
        if sock is None:
            return
        if how == "reset":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            sock.close()
            return
        with contextlib.suppress(OSError):  # the server may have been quicker
            if how == "clean":
                sock.send(client_frame(CLOSE, struct.pack("!H", 1000)))
            elif how == "half":
                sock.shutdown(socket.SHUT_WR)
        self.ghosts[sock.fileno()] = Ghost(sock, how, self._now)
        # a mute one reads nothing: only that the server has ended it is of interest
        self._epoll.register(sock.fileno(), select.EPOLLRDHUP if how == "mute" else select.EPOLLIN)

    def _on_ghost(self, fd: int, ghost: Ghost, events: int) -> None:
        over = ghost.how == "mute" or bool(events & (select.EPOLLERR | select.EPOLLHUP))
        if not over:
            try:
                over = not ghost.sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                over = True
        if over:
            del self.ghosts[fd]
            self._epoll.unregister(fd)
            ghost.sock.close()

    # --- bytes -------------------------------------------------------------------------------------------------------

    def _on_event(self, member: Member, events: int) -> None:
        if member.sock is None:
            return
        if events & select.EPOLLOUT and not events & select.EPOLLERR:
            self._flush(member)
        if events & (select.EPOLLIN | select.EPOLLERR | select.EPOLLHUP) and member.sock is not None:
            try:
                data = member.sock.recv(READ_BYTES)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if data:
                self._feed(member, data)
            else:
                self._ended(member, None)

    def _write(self, member: Member, data: bytes) -> None:
        waiting = bool(member.outbox)
        member.outbox += data
        if not waiting:
            self._flush(member)
            if member.outbox and member.sock is not None:
                self._epoll.modify(member.fd, select.EPOLLIN | select.EPOLLOUT)

    def _flush(self, member: Member) -> None:
        assert member.sock is not None
        if member.outbox:
            try:
                sent = member.sock.send(member.outbox)
            except BlockingIOError:
                return
            except OSError:
                return  # reading tells the same, after what has arrived before
            member.outbox = member.outbox[sent:]
        if not member.outbox:
            self._epoll.modify(member.fd, select.EPOLLIN)

    def _feed(self, member: Member, data: bytes) -> None:
        if member.inbox:
            data = member.inbox + data
        at = 0
        if not member.upgraded:
            end = data.find(b"\r\n\r\n")
            if end < 0:
                member.inbox = data
                return
            status = data[9:12]
            if status != b"101":
                if status not in (b"502", b"503"):
                    self._say(f"the handshake of member {member.number} was answered {status.decode()}")
                self._ended(member, None)
                return
            member.upgraded = True
            at = end + 4
        while (found := next_frame(data, at)) is not None:
            first, payload, at = found
            self._on_frame(member, first, payload)
            if member.sock is None:
                return
            if member.state == "stalled":
                break
        member.inbox = data[at:] if at else data

    def _on_frame(self, member: Member, first: int, payload: bytes) -> None:
        if first == 0x80 | TEXT:
            if payload != self._last[0]:  # most often it is what the member before was told
                self._last = (payload, orjson.loads(payload))
            self._on_told(member, self._last[1])
        elif first == 0x80 | PING:
            self._write(member, client_frame(PONG, payload))
        elif first == 0x80 | CLOSE:
            assert member.sock is not None
            with contextlib.suppress(OSError):
                member.sock.send(client_frame(CLOSE, payload[:2]))
            self._ended(member, struct.unpack("!H", payload[:2])[0] if payload else 1005)
        elif first != 0x80 | PONG:
            self._say(f"member {member.number} was sent a frame that begins with {first:#x}")

    # --- the protocol ------------------------------------------------------------------------------------------------

    def _on_told(self, member: Member, told: dict[str, Any]) -> None:
        kind = told["type"]
        if kind == "message":
            self._on_message(member, told)
        elif kind == "hello":
            cursors = {str(key): seq for key, seq in member.cursors.items()}
            self._write(member, client_frame(TEXT, orjson.dumps({"type": "resume", "cursors": cursors})))
        elif kind == "resumed":
            for key, seq in told["last_seqs"].items():
                held = member.cursors.setdefault(int(key), seq)
                if held < seq:
                    self._say(f"member {member.number}: resumed at {seq} of {key}, but it was only given {held}")
            self._on_resumed(member)
        elif kind == "ack":
            member.pending.pop(told["client_id"], None)
            place = (told["conversation_id"], told["seq"])
            if self.acks.setdefault(told["client_id"], place) != place:
                self._say(f"acknowledged twice, differently: {told}")
        elif kind == "gap":
            conversation, held = told["conversation_id"], told["after_seq"]
            if member.cursors.get(conversation) != held:
                self._say(f"member {member.number} holds {member.cursors.get(conversation)}, but was told {told}")
            member.gaps += 1
            member.skipped += told["last_seq"] - held
            member.cursors[conversation] = told["last_seq"]
        elif kind == "drain":
            if member.drain_ms is not None:
                self._say(f"member {member.number} was told twice to drain")
            member.drain_ms = told["reconnect_after_ms"]
        elif kind == "conversation_added":
            member.cursors.setdefault(told["conversation_id"], told["last_seq"])
        elif kind == "error":
            if told["retryable"] and told.get("client_id") in member.pending:
                client_id = told["client_id"]
                self._later(0.2, lambda: self._again(member, client_id))
            elif told["code"] != "unavailable":  # it closes next, and says so by its code
                self._say(f"member {member.number} was refused: {told}")

    def _on_message(self, member: Member, told: dict[str, Any]) -> None:
        key = (told["conversation_id"], told["seq"])
        expected = member.cursors.get(key[0], key[1] - 1) + 1
        if key[1] != expected:
            self._say(
                f"member {member.number} on connection {member.connections}: seq {key[1]} of {key[0]}, not {expected}"
            )
        member.cursors[key[0]] = key[1]
        member.received += 1
        if member.state == "live":
            self.last_heard[key] = self._now
        content = (told["sender_id"], told["client_id"], hash(told["body"]))
        known = self._contents.get(key)
        if known is None:
            self._contents[key] = content
            if len(self._contents) > REMEMBERED:
                self.last_heard.pop(self._contents.popitem(last=False)[0], None)
        elif known != content:
            self._say(f"member {member.number} was told something else as seq {key[1]} of {key[0]}")

    def _on_resumed(self, member: Member) -> None:
        self._opening.discard(member)
        member.live_at, member.backoff = self._now, 0.05
        member.state = "live"
        for client_id in tuple(member.pending):
            self._transmit(member, client_id)
        if member.stalls:
            member.state = "stalled"
            self._epoll.unregister(member.fd)

    def _again(self, member: Member, client_id: str) -> None:
        if member.state == "live" and client_id in member.pending:
            self._transmit(member, client_id)

    def _transmit(self, member: Member, client_id: str) -> None:
        conversation, body = member.pending[client_id]
        frame = {"type": "send", "client_id": client_id, "conversation_id": conversation, "body": body}
        self._write(member, client_frame(TEXT, orjson.dumps(frame)))
