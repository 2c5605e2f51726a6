"""wsproto as the reference of the parser: the same stream, told in the parser's terms.

Three things wsproto leaves to its user or does otherwise, each decided by the RFC, are put right here:

- The size of a message (§10.4) is an extension's business. Ours judges it by the announced lengths, fragments added up.
- Close code 1014 is in the IANA registry (§7.4.2, §11.7) and may be sent; wsproto does not know it and answers 1002.
- A frame in the wrong place (§5.4) is noticed by wsproto only with its first byte of payload, and so is a binary message.
  The parser is allowed to be that much ahead; see ``disagreement``.
"""

from __future__ import annotations

from collections.abc import Sequence

from wsproto.connection import Connection, ConnectionState, ConnectionType
from wsproto.events import BytesMessage, CloseConnection, Event, Ping, Pong, TextMessage
from wsproto.extensions import Extension
from wsproto.frame_protocol import CloseReason, Frame, FrameDecoder, FrameProtocol, Opcode, RsvBits

from hockey_hub_chat.realtime.parser import BINARY, CLOSE, PING, PONG, TEXT
from realtime.streams import Outcome

_BAD_GATEWAY = (1014).to_bytes(2, "big")
_TRY_LATER = (1013).to_bytes(2, "big")
#: What wsproto may have to see to notice what the parser has noticed: the rest of a key and a byte of payload.
_MAX_LEAD_BYTES = 5


class _SizeLimit(Extension):
    """Refuses a frame whose header announces too much; ``frame_inbound_header`` may be asked twice about the same one."""

    name = "x-size-limit"

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._announced = 0  # by the whole frames of the open message

    def enabled(self) -> bool:
        return True

    def offer(self) -> bool:
        return False

    def frame_inbound_header(
        self, proto: FrameDecoder | FrameProtocol, opcode: Opcode, rsv: RsvBits, payload_length: int
    ) -> CloseReason | RsvBits:
        before = self._announced if opcode is Opcode.CONTINUATION else 0
        if not opcode.iscontrol() and before + payload_length > self._max_bytes:
            return CloseReason.MESSAGE_TOO_BIG
        return RsvBits(False, False, False)

    def frame_inbound_complete(self, proto: FrameDecoder | FrameProtocol, fin: bool) -> None:
        assert isinstance(proto, FrameDecoder) and proto.header is not None
        if proto.header.opcode.iscontrol():
            return
        if proto.header.opcode is not Opcode.CONTINUATION:
            self._announced = 0
        self._announced = 0 if fin else self._announced + proto.header.payload_len


class _Frames(FrameProtocol):
    """Knows 1014."""

    def _process_close(self, frame: Frame) -> Frame:
        assert isinstance(frame.payload, bytes)
        if frame.payload[:2] != _BAD_GATEWAY:
            return super()._process_close(frame)
        checked = super()._process_close(frame._replace(payload=_TRY_LATER + frame.payload[2:]))
        assert isinstance(checked.payload, tuple)
        return checked._replace(payload=(1014, checked.payload[1]))


class Reference:
    """A server's wsproto after the handshake."""

    def __init__(self, limit: int) -> None:
        self._connection = Connection(ConnectionType.SERVER)
        self._connection._proto = _Frames(False, [_SizeLimit(limit)])
        self._text = bytearray()
        self._in_binary = False
        self.outcome = Outcome([], None, False)

    def receive(self, data: bytes) -> None:
        """Take bytes; ``outcome`` says what has come of everything so far."""
        self._connection.receive_data(data)
        for event in self._connection.events():
            self._take(event)

    def _take(self, event: Event) -> None:
        events = self.outcome.events
        if isinstance(event, TextMessage):
            self._text += event.data.encode()
            if event.message_finished:
                events.append((TEXT, bytes(self._text)))
                self._text.clear()
        elif isinstance(event, BytesMessage):
            if not self._in_binary:
                events.append((BINARY, b""))
            self._in_binary = not event.message_finished
        elif isinstance(event, Ping):
            events.append((PING, bytes(event.payload)))
        elif isinstance(event, Pong):
            events.append((PONG, bytes(event.payload)))
        elif isinstance(event, CloseConnection):
            if self._connection.state is ConnectionState.REMOTE_CLOSING:
                self.outcome.closed = True
                reason = (event.reason or "").encode()
                code = b"" if event.code == 1005 else int(event.code).to_bytes(2, "big")
                events.append((CLOSE, code + reason))
            else:
                self.outcome.code = int(event.code)


def reference_of(pieces: Sequence[bytes], limit: int) -> Reference:
    """Give the pieces to a fresh reference."""
    reference = Reference(limit)
    for piece in pieces:
        reference.receive(piece)
    return reference


def disagreement(ours: Outcome, reference: Reference) -> str | None:
    """Say how the parser and the reference differ after the same stream; None when they agree.

    Where the parser is ahead with a 1002 or a binary message, the reference is shown a few more bytes. They are harmless:
    where a frame begins they are the beginning of a pong.
    """
    first = repr(reference.outcome)
    if ours != reference.outcome and (ours.code == 1002 or ours.events[-1:] == [(BINARY, b"")]):
        for _ in range(_MAX_LEAD_BYTES):
            reference.receive(b"\x8a")
            if ours == reference.outcome:
                return None
    return None if ours == reference.outcome else f"the parser says {ours}, wsproto says {first}"
