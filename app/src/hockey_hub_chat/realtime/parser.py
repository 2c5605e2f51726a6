"""Turns the bytes of one client into whole WebSocket messages (RFC 6455 §5), and finds the rule they break.

Owns framing: lengths, masks, fragments, UTF-8, and how much may be held. Knows no sockets and sends nothing; what is
answered to a ping, a close or a broken rule is its caller's business. No extension is ever negotiated, so no reserved bit
is ever right.

Why not a library: one core is to take 20,000 messages a second and keep 10,000 idle sockets. wsproto spends about 30 µs
on a frame and 1.7 KB on a connection. Here a whole frame takes one short straight path (``receive``), and a parser in
which nothing is pending is four references and no buffer. wsproto stays as what the tests compare with.
"""

from __future__ import annotations

from codecs import utf_8_decode

from hockey_hub_chat import events

TEXT, BINARY, CLOSE, PING, PONG = 1, 2, 8, 9, 10
_CONTINUATION = 0
_OPCODES = frozenset((_CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))
_NO_FRAME = -1

_FIN = 0x80
_RESERVED = 0x70
_MASKED = 0x80
_WHOLE_TEXT = _FIN | TEXT
_SHORTEST_FRAME_BYTES = 6

#: RFC 6455 §5.2: two bytes, a length of eight, a masking key.
_MAX_HEADER_BYTES = 14
#: RFC 6455 §5.5.
_MAX_CONTROL_BYTES = 125

#: Below 3000 a code is right only when the IANA registry of close codes has it (RFC 6455 §7.4) and it may be sent:
#: 1004 has no meaning; 1005, 1006 and 1015 are said of a connection, never on it.
_REGISTERED_CLOSE_CODES = frozenset((1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014))
_FREE_CLOSE_CODES = range(3000, 5000)


class _BrokenRuleError(Exception):
    """A rule was broken. ``code`` is what the connection closes with."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason


class _Pending:
    """What is known of an unfinished frame and of an unfinished message; exists only while there is one."""

    __slots__ = ("announced", "character", "control", "fin", "header", "key", "left", "message", "opcode", "text")

    def __init__(self) -> None:
        self.header = b""  # the frame's, as far as it has come
        self.opcode = _NO_FRAME  # of the frame whose payload is being read
        self.fin = False
        self.left = 0  # bytes of its payload still to come
        self.key = b""  # turned so that it begins at the next byte
        self.control = b""  # payload of an unfinished control frame
        self.message = _CONTINUATION  # TEXT or BINARY while a message is open
        self.announced = 0  # bytes of that message, by the headers seen so far
        self.text = bytearray()
        self.character = b""  # the last bytes of text, when they are the beginning of a character


class Parser:
    """The receiving half of one connection, after the handshake.

    Holds at most ``max_message_bytes`` (in a buffer that grows by eighths), a header and a control frame, whatever comes.

    Args:
        max_message_bytes: of one message, its fragments added up; judged by what headers announce.

    Attributes:
        failure: (close code, reason) once a rule was broken: 1002, 1007 or 1009.
        peer_closed: whether a valid close frame came.
    """

    __slots__ = ("_max_message_bytes", "_pending", "failure", "peer_closed")

    def __init__(self, max_message_bytes: int) -> None:
        self._max_message_bytes = max_message_bytes
        self._pending: _Pending | None = None
        self.failure: tuple[int, str] | None = None
        self.peer_closed = False

    def receive(self, data: bytes) -> list[tuple[int, bytes]]:
        """Take what the peer sent, in pieces of any size, and return what it completes, in order.

        Text is ``(TEXT, message)``, valid UTF-8, fragments joined. A binary message is ``(BINARY, b"")`` as soon as its
        first header is read; its payload is checked for size and thrown away. Control frames are ``(PING | PONG | CLOSE,
        payload)``; of a close frame the payload is valid. What came before a broken rule is returned, and ``failure`` is
        set. After that, or after a close frame, everything is ignored.
        """
        received: list[tuple[int, bytes]] = []
        if self.failure is not None or self.peer_closed:
            return received
        position = 0
        end = len(data)
        try:
            while position < end:
                # The straight path: a whole masked text message of less than 64 KiB, and nothing pending.
                if data[position] == _WHOLE_TEXT and self._pending is None and end - position >= _SHORTEST_FRAME_BYTES:
                    length = data[position + 1] - _MASKED
                    start = position + 6
                    if length == 126:
                        length = data[position + 2] << 8 | data[position + 3]
                        start = position + 8
                        if length < 126:
                            length = -1
                    elif length == 127:
                        length = -1
                    if 0 <= length <= self._max_message_bytes and (stop := start + length) <= end:
                        text = _unmask(data[start:stop], data[start - 4 : start])
                        if not text.isascii():
                            text.decode()
                        received.append((TEXT, text))
                        position = stop
                        continue
                position = self._step(data, position, received)
        except UnicodeDecodeError:
            self._fail(events.CLOSE_BAD_UTF8, "not UTF-8")
        except _BrokenRuleError as broken:
            self._fail(broken.code, broken.reason)
        return received

    def _fail(self, code: int, reason: str) -> None:
        self.failure = (code, reason)
        self._pending = None

    def _step(self, data: bytes, position: int, received: list[tuple[int, bytes]]) -> int:
        """Take one frame, or what there is of it, from ``position``; return where the next begins."""
        pending = self._pending
        if pending is None:
            pending = self._pending = _Pending()
        if pending.opcode == _NO_FRAME:
            position = self._read_header(pending, data, position, received)
            if pending.opcode == _NO_FRAME:
                return position
        piece = _unmask(data[position : position + pending.left], pending.key)
        pending.left -= len(piece)
        if pending.opcode >= CLOSE:
            self._take_control(pending, piece, received)
            if self.peer_closed:
                self._pending = None
                return len(data)
        elif pending.message == TEXT:
            _take_text(pending, piece, received)
        if pending.left:
            turn = len(piece) % 4
            pending.key = pending.key[turn:] + pending.key[:turn]
        elif pending.message == _CONTINUATION or (pending.fin and pending.opcode < CLOSE):
            self._pending = None  # neither a frame nor a message is open
        else:
            pending.opcode = _NO_FRAME
        return position + len(piece)

    def _read_header(self, pending: _Pending, data: bytes, position: int, received: list[tuple[int, bytes]]) -> int:
        """Read a header that begins at ``position`` or began earlier; set ``pending.opcode`` when it is whole.

        Each rule is judged as soon as its bytes are there, and again when more come: until the end nothing is changed.
        Two verdicts on one header are possible; the order is wsproto's.
        """
        before = len(pending.header)
        header = pending.header + data[position : position + _MAX_HEADER_BYTES - before]
        if len(header) < 2:
            pending.header = header
            return len(data)
        fin = header[0] >= _FIN
        opcode = header[0] & 0x0F
        if opcode not in _OPCODES:
            raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "unknown opcode")
        length = header[1] & 0x7F
        if opcode >= CLOSE and not fin:
            raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "fragmented control frame")
        if opcode >= CLOSE and length > _MAX_CONTROL_BYTES:
            raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "control frame too long")
        key_at = {126: 4, 127: 10}.get(length, 2)
        if len(header) < key_at:
            pending.header = header
            return len(data)
        if key_at > 2:
            length = _long_length(header[2:key_at])
        if opcode < CLOSE:
            total = length if opcode != _CONTINUATION else pending.announced + length
            if total > self._max_message_bytes:
                reason = f"a message holds at most {self._max_message_bytes} bytes"
                raise _BrokenRuleError(events.CLOSE_TOO_BIG, reason)
        if header[0] & _RESERVED:
            raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "reserved bit set")
        if header[1] < _MASKED:
            raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "not masked")
        if opcode < CLOSE and (opcode == _CONTINUATION) != (pending.message != _CONTINUATION):
            raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "fragments out of order")
        if len(header) < key_at + 4:
            pending.header = header
            return len(data)
        pending.header = b""
        pending.opcode = opcode
        pending.fin = fin
        pending.left = length
        pending.key = header[key_at : key_at + 4]
        if opcode < CLOSE:
            pending.announced = total
            if opcode != _CONTINUATION:
                pending.message = opcode
            if opcode == BINARY:
                received.append((BINARY, b""))
        return position + key_at + 4 - before

    def _take_control(self, pending: _Pending, piece: bytes, received: list[tuple[int, bytes]]) -> None:
        payload = pending.control + piece  # at most 125 bytes, however often they are copied
        if pending.left:
            pending.control = payload
            return
        pending.control = b""
        if pending.opcode == CLOSE:
            _check_close(payload)
            self.peer_closed = True
        received.append((pending.opcode, payload))


def _unmask(payload: bytes, key: bytes) -> bytes:
    """Return ``payload`` with the 4 bytes of ``key`` XORed over it, again and again (RFC 6455 §5.3).

    One XOR of two long integers: of what the standard library offers, the fastest up to about a kilobyte.
    """
    size = len(payload)
    mask = (key * ((size + 3) >> 2))[:size]
    return (int.from_bytes(payload, "little") ^ int.from_bytes(mask, "little")).to_bytes(size, "little")


def _long_length(field: bytes) -> int:
    """Return the length in an extended field of 2 or 8 bytes; RFC 6455 §5.2 wants the shortest that will do."""
    length = int.from_bytes(field, "big")
    if length < (126 if len(field) == 2 else 65_536):
        raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "length not in its shortest form")
    if length >> 63:
        raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "length out of range")
    return length


def _take_text(pending: _Pending, piece: bytes, received: list[tuple[int, bytes]]) -> None:
    """Add to the text message; broken UTF-8 is found as soon as Python finds it, as UnicodeDecodeError."""
    pending.text += piece
    last = pending.fin and not pending.left
    if pending.character or not piece.isascii():
        fresh = pending.character + piece
        _, used = utf_8_decode(fresh, "strict", last)
        pending.character = fresh[used:]
    if last:
        received.append((TEXT, bytes(pending.text)))


def _check_close(payload: bytes) -> None:
    """Refuse the payload of a close frame that RFC 6455 §5.5.1 and §7.4 do not allow."""
    if not payload:
        return
    code = int.from_bytes(payload[:2], "big")  # a lone byte is below every code
    if code not in _REGISTERED_CLOSE_CODES and code not in _FREE_CLOSE_CODES:
        raise _BrokenRuleError(events.CLOSE_PROTOCOL_ERROR, "not a close code that may be sent")
    payload[2:].decode()
